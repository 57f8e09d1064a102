"""`neuraknot-db reset`: all or nothing, told beforehand, and never further than `public`."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuraknot_db.errors import RefusedError
from neuraknot_db.migrate import privileges
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Finished, Project
from tests.db.forking import BIN
from tests.db.running import log_of
from tests.projects import PROJECT

PROPERTIES = """
SELECT pg_get_userbyid(nspowner), obj_description(n.oid, 'pg_namespace'),
       (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(nspacl) x),
       (SELECT array_agg(format('%s %s %s', defaclrole::regrole, defaclobjtype, defaclacl) ORDER BY defaclobjtype)
          FROM pg_default_acl WHERE defaclnamespace = n.oid)
  FROM pg_namespace n
 WHERE nspname = 'public'
"""


def add_users(database: Database, number: int) -> None:
    database.run(
        "INSERT INTO public.users (cognito_user_id, email, display_name)"
        f" SELECT g, g, g FROM generate_series(1, {number}) g"
    )


def users(database: Database) -> object:
    return database.value("SELECT count(*) FROM public.users")


def reset(database: Database, *arguments: str, cwd: Path = PROJECT, **environ: str) -> Finished:
    return database.neuraknot_db("reset", "--confirm", database.name, *arguments, cwd=cwd, **environ)


def test_it_counts_the_rows_drops_them_and_upgrades(database_at_head: Database) -> None:
    add_users(database_at_head, 1234)
    database_at_head.run("CREATE TABLE public.theirs (x int); CREATE VIEW public.v AS SELECT * FROM public.users")
    done = reset(database_at_head)
    assert done.code == 0, done.err
    assert "  users  1,234\n" in done.err
    assert users(database_at_head) == 0
    assert database_at_head.value("SELECT to_regclass('public.theirs')") is None
    assert database_at_head.neuraknot_db("verify").code == 0


def test_it_makes_an_empty_schema_where_that_is_wanted(database_at_head: Database) -> None:
    assert reset(database_at_head, "--no-upgrade").code == 0
    assert database_at_head.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


def test_it_makes_the_schema_where_there_is_none(database: Database) -> None:
    database.run("DROP SCHEMA public")
    assert database.alembic("upgrade", "head").code == 5
    assert reset(database).code == 0
    assert database.neuraknot_db("verify").code == 0
    assert database.value("SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'") == (
        "{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}"
    )


def test_a_revision_that_fails_leaves_every_row(database_at_head: Database, project: Project) -> None:
    add_users(database_at_head, 10)
    project.add("005", "CREATE TABLE public.five (); SELECT 1/0", after="004")
    done = reset(database_at_head, cwd=project.root)
    assert done.code == 7
    assert "Hint: The reset was rolled back: the old schema and every row are still there." in done.err
    assert users(database_at_head) == 10
    assert database_at_head.neuraknot_db("verify").code == 0


DEFERRED = (
    "CREATE TABLE parent (id int PRIMARY KEY);"
    "CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
    "INSERT INTO child VALUES (1); INSERT INTO parent VALUES (1)"
)


@pytest.mark.parametrize(
    ("statements", "servers"),
    [
        (
            (
                "CREATE TYPE mood AS ENUM ('a')",
                "ALTER TYPE mood ADD VALUE 'b'",
                "CREATE TABLE m (x mood DEFAULT 'b')",
            ),
            ("15",),
        ),
        # 17 and 18 forgive only a type that is as new as its value, and not this one.
        (
            (
                "DO $$BEGIN CREATE TYPE mood AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END$$",
                "ALTER TYPE mood ADD VALUE 'b'",
                "SELECT 'b'::mood",
            ),
            ("15", "18"),
        ),
        (("SELECT 1", DEFERRED, "ALTER TABLE child ADD x int"), ("15", "18")),
    ],
)
def test_what_needs_the_commit_of_an_earlier_revision_is_told_with_the_way_out(
    database_at_head: Database, project: Project, statements: tuple[str, str, str], servers: tuple[str, ...]
) -> None:
    add_users(database_at_head, 1)
    for at, statement in enumerate(statements):
        project.add(f"{5 + at:03d}", statement, after=f"{4 + at:03d}")
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    done = reset(database_at_head, cwd=project.root)
    if database_at_head.server not in servers:
        assert done.code == 0, done.err
        return
    said(done, 7, "Revision 007 failed and was rolled back", "every row are still there. A reset runs the revisions in")
    assert users(database_at_head) == 1
    way_out = done.err.splitlines()[-1].partition("all or nothing: ")[2].split(" && ")
    assert [words.split()[1] for words in way_out] == ["snapshot", "reset", "upgrade"]
    for program, *words in map(shlex.split, way_out):
        words += ["--confirm", database_at_head.name] if words[0] == "reset" else []
        done = database_at_head.program(program, *words, cwd=project.root)
        assert done.code == 0, done.err
    assert database_at_head.neuraknot_db("verify", cwd=project.root).code == 0


def test_the_way_out_drops_nothing_where_a_revision_fails_alone_too(
    database_at_head: Database, project: Project
) -> None:
    project.add("005", f"{DEFERRED}; ALTER TABLE child ADD x int", after="004")
    said(reset(database_at_head, cwd=project.root), 7, "neuraknot-db snapshot && neuraknot-db reset")
    assert database_at_head.neuraknot_db("snapshot", cwd=project.root).code == 7


@pytest.fixture
def owner(new_database: Callable[..., Database]) -> Iterator[Database]:
    """A database seen by its owner, who is no superuser, as on RDS; `other` is a second role."""
    database = new_database()
    role, other = f"owner_{os.getpid()}", f"other%s_{os.getpid()}"
    database.run(f'CREATE ROLE "{role}" LOGIN CREATEDB; CREATE ROLE "{other}"')
    database.run(f'ALTER DATABASE "{database.name}" OWNER TO "{role}"')
    yield database.as_user(role)
    database.run(f'DROP OWNED BY "{other}" CASCADE; REASSIGN OWNED BY "{role}" TO postgres; DROP OWNED BY "{role}"')
    database.run(f'DROP ROLE "{role}", "{other}"')


@pytest.mark.slow
def test_owner_privileges_defaults_and_comment_stay(owner: Database) -> None:
    other = f"other%s_{os.getpid()}"
    assert owner.alembic("upgrade", "head").code == 0
    owner.run(f'GRANT USAGE ON SCHEMA public TO "{other}" WITH GRANT OPTION')
    owner.run("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    owner.run(f'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO "{other}"')
    owner.run(f'ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO "{other}"')
    owner.run("COMMENT ON SCHEMA public IS $$it's %s and 100% :ours$$")
    owner.run(f'GRANT DELETE ON public.users TO "{other}"')
    owner.run(f'GRANT SELECT (email) ON public.users TO "{other}"')
    owner.run("CREATE FUNCTION public.ours(int) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    owner.run("CREATE FUNCTION public.all_s() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    owner.run("REVOKE EXECUTE ON FUNCTION public.ours(int) FROM PUBLIC")
    before = owner.run(PROPERTIES)
    done = reset(owner)
    assert done.code == 0, done.err
    assert owner.run(PROPERTIES) == before
    lost = [
        f'GRANT DELETE ON TABLE public.users TO "{other}";',
        f'GRANT SELECT (email) ON TABLE public.users TO "{other}";',
        "REVOKE EXECUTE ON ROUTINE public.ours(integer) FROM PUBLIC;",
    ]
    for heading in ("would go", "are gone"):
        told = done.err.partition(f"privileges on single objects {heading}; this gives them again")[2].splitlines()
        assert [line.strip() for line in told[1:4]] == lost
    granted = f"SELECT p, has_table_privilege('{other}', 'public.users', p) FROM unnest('{{INSERT,DELETE}}'::text[]) p"
    assert owner.run(granted) == [("INSERT", True), ("DELETE", False)]
    owner.run("CREATE FUNCTION public.ours(int) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    owner.run(" ".join(lost))
    assert owner.run(granted) == [("INSERT", True), ("DELETE", True)]


@pytest.mark.slow
def test_who_owns_the_tables_now_and_not_afterwards_is_told(owner: Database) -> None:
    assert owner.alembic("upgrade", "head").code == 0
    superuser = owner.as_user("postgres")
    superuser.run("CREATE TABLE public.mine ()")
    told = f"these belong to {owner.user}, and what replaces them will belong to postgres: "
    done = superuser.neuraknot_db("reset")
    assert done.code == 5
    (names,) = [line.removeprefix(told) for line in done.err.splitlines() if line.startswith(told)]
    assert {"alembic_version", "users", "update_updated_at_column()"} <= set(names.split(", "))
    assert not {"mine", "uuid_generate_v4()"} & set(names.split(", "))
    assert f"connects as {owner.user}, reset as that role" in done.err
    superuser.run("DROP TABLE public.mine")
    for same in (owner.neuraknot_db("reset"), superuser.neuraknot_db("reset", "--no-upgrade")):
        assert (same.code, "will belong to" in same.err) == (5, False), same.err


def test_privileges_that_this_role_can_not_restore_make_it_refuse(owner: Database) -> None:
    other = f"other%s_{os.getpid()}"
    superuser = owner.as_user("postgres")
    superuser.run(f'ALTER DEFAULT PRIVILEGES FOR ROLE "{other}" IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC')
    done = reset(owner)
    assert done.code == 5
    assert f"could not restore the default privileges of {other}" in done.err
    superuser.run(f'ALTER SCHEMA public OWNER TO "{other}"')
    done = reset(owner)
    assert done.code == 5
    assert f"may not drop the schema public: it belongs to {other}" in done.err


def test_privileges_that_come_out_otherwise_undo_it(database_at_head: Database) -> None:
    add_users(database_at_head, 3)
    database_at_head.run(
        "CREATE SCHEMA elsewhere; CREATE FUNCTION elsewhere.more() RETURNS event_trigger LANGUAGE plpgsql AS"
        " 'BEGIN GRANT CREATE ON SCHEMA public TO pg_monitor; END';"
        "CREATE EVENT TRIGGER more ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA')"
        " EXECUTE FUNCTION elsewhere.more()"
    )
    done = reset(database_at_head)
    said(done, 5, "would not have come out as they were")
    assert users(database_at_head) == 3


def test_who_may_not_drop_it_is_told_a_role_that_one_can_log_in_as(owner: Database) -> None:
    other = f"other%s_{os.getpid()}"
    superuser = owner.as_user("postgres")
    with superuser.connect() as connection:
        connection.exec_driver_sql(f'SET ROLE "{other}"', execution_options={"no_parameters": True})
        with pytest.raises(RefusedError) as refused:
            privileges.read(connection)
    assert refused.value.hint == f"Connect as {owner.user}, the owner of the database."


def test_rows_that_can_not_be_counted_are_said_to_be_so(owner: Database) -> None:
    other = f"other%s_{os.getpid()}"
    owner.as_user("postgres").run(f'CREATE TABLE public.theirs (x int); ALTER TABLE public.theirs OWNER TO "{other}"')
    done = reset(owner, "--no-upgrade")
    assert done.code == 0, done.err
    assert "  theirs  an unknown number of rows\n" in done.err


def test_a_hint_can_be_pasted_into_a_shell(new_database: Callable[..., Database]) -> None:
    database = new_database(name=f"we ird's {os.getpid()}")
    done = database.neuraknot_db("reset")
    said(done, 5, f"Hint: neuraknot-db reset --confirm {shlex.quote(database.name)}\n")


OUTSIDE = {
    "view elsewhere.v": "CREATE VIEW elsewhere.v AS SELECT * FROM public.users",
    "materialized view elsewhere.mv": "CREATE MATERIALIZED VIEW elsewhere.mv AS SELECT id FROM public.users",
    "default value for elsewhere.t.id": "CREATE TABLE elsewhere.t (id uuid DEFAULT public.uuid_generate_v4())",
    "table constraint t_u_fkey on elsewhere.t": "CREATE TABLE elsewhere.t (u uuid REFERENCES public.users)",
    "trigger tr on elsewhere.t": (
        "CREATE TABLE elsewhere.t (); CREATE TRIGGER tr BEFORE UPDATE ON elsewhere.t"
        " FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column()"
    ),
    "table column elsewhere.t.c": "CREATE TYPE public.e AS ENUM ('a'); CREATE TABLE elsewhere.t (c public.e)",
    "function elsewhere.f(public.users)": (
        "CREATE FUNCTION elsewhere.f(public.users) RETURNS int LANGUAGE sql AS 'SELECT 1'"
    ),
    "type elsewhere.d": "CREATE TYPE public.e AS ENUM ('a'); CREATE DOMAIN elsewhere.d AS public.e",
    "table elsewhere.child": "CREATE TABLE elsewhere.child () INHERITS (public.users)",
    "publication relation public.users in publication pub": "CREATE PUBLICATION pub FOR TABLE public.users",
    "publication namespace public in publication pub": "CREATE PUBLICATION pub FOR TABLES IN SCHEMA public",
    "event trigger et": (
        "CREATE FUNCTION public.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER et ON sql_drop EXECUTE FUNCTION public.f()"
    ),
    "extension citext": "CREATE EXTENSION citext SCHEMA public",
}


@pytest.mark.parametrize("lost", OUTSIDE)
def test_it_refuses_to_take_what_lies_outside(database_at_head: Database, lost: str) -> None:
    add_users(database_at_head, 3)
    database_at_head.run(f"CREATE SCHEMA elsewhere; {OUTSIDE[lost]}")
    done = reset(database_at_head)
    assert done.code == 5, done.err
    assert f"  {lost}\n" in done.err
    assert "outside of it" in done.err
    assert users(database_at_head) == 3


def test_what_lies_inside_or_apart_is_no_reason_to_refuse(database_at_head: Database) -> None:
    database_at_head.run(
        "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.t (id int PRIMARY KEY);"
        "CREATE EXTENSION citext SCHEMA elsewhere;"
        "CREATE VIEW public.v AS SELECT * FROM public.users; CREATE TABLE public.p (x int) PARTITION BY RANGE (x);"
        "CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM (1) TO (2);"
        "CREATE TABLE public.q (id int GENERATED ALWAYS AS IDENTITY, r int REFERENCES elsewhere.t, c elsewhere.citext)"
    )
    done = reset(database_at_head)
    assert done.code == 0, done.err
    assert database_at_head.value("SELECT to_regclass('elsewhere.t')") == "elsewhere.t"


@pytest.mark.parametrize("arguments", [[], ["--confirm", ""], ["--confirm", "other"]])
def test_the_name_must_be_repeated(database_at_head: Database, arguments: list[str]) -> None:
    add_users(database_at_head, 1)
    done = database_at_head.neuraknot_db("reset", *arguments)
    assert done.code == 5
    assert "nothing was dropped" in done.err
    assert f"Hint: neuraknot-db reset --confirm {database_at_head.name}\n" in done.err
    assert users(database_at_head) == 1


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["prod", "staging", "some-thing"])
def test_production_wants_its_name_too(database_at_head: Database, environment: str) -> None:
    add_users(database_at_head, 1)
    assert database_at_head.neuraknot_db("mark", environment).code == 0
    for arguments in ([], ["--environment", "dev"]):
        done = reset(database_at_head, *arguments, NEURAKNOT_ENV=environment)
        assert done.code == 5
        assert f"--environment {environment}\n" in done.err, "a NEURAKNOT_ENV that contradicts the marker is refused"
        assert users(database_at_head) == 1
    done = reset(database_at_head, "--environment", environment, NEURAKNOT_ENV=environment)
    assert done.code == 0, done.err
    assert users(database_at_head) == 0


def test_where_there_is_no_marker_the_variable_may_say_that_it_is_no_production(database: Database) -> None:
    done = reset(database, NEURAKNOT_ENV="")
    said(done, 5, "--environment prod (NEURAKNOT_ENV=dev where it is no production)")
    assert reset(database, NEURAKNOT_ENV="dev").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "code"), [("right", 0), ("wrong", 5)])
def test_on_a_terminal_it_asks(database_at_head: Database, typed: str, code: int) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [str(BIN / "neuraknot-db"), "reset"],
        env=database_at_head.environment(TERM="dumb"),
        cwd=PROJECT,
        stdin=theirs,
        stderr=theirs,
        stdout=theirs,
    )
    os.close(theirs)
    os.write(ours, f"{database_at_head.name if typed == 'right' else 'no'}\n".encode())
    shown = b""
    while b"reset in" not in shown and b"Hint:" not in shown:
        shown += os.read(ours, 4096)
    assert running.wait(60) == code
    os.close(ours)
    assert f"Type the name of the database ({database_at_head.name})".encode() in shown


@pytest.mark.slow
def test_what_came_to_lie_outside_while_it_asked_is_not_taken(database_at_head: Database) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [str(BIN / "neuraknot-db"), "reset"],
        env=database_at_head.environment(TERM="dumb"),
        cwd=PROJECT,
        stdin=theirs,
        stderr=theirs,
        stdout=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"Type the name" not in shown:
        shown += os.read(ours, 4096)
    database_at_head.run("CREATE SCHEMA elsewhere; CREATE VIEW elsewhere.v AS SELECT * FROM public.users")
    os.write(ours, f"{database_at_head.name}\n".encode())
    while b"Hint:" not in shown and b"reset in" not in shown:
        shown += os.read(ours, 4096)
    assert running.wait(60) == 5
    os.close(ours)
    assert b"view elsewhere.v" in shown
    assert users(database_at_head) == 0


def test_other_sessions_may_be_connected(database_at_head: Database) -> None:
    with database_at_head.connect() as other:
        other.exec_driver_sql("SELECT count(*) FROM public.users")
        assert reset(database_at_head).code == 0
        assert other.exec_driver_sql("SELECT count(*) FROM public.users").scalar() == 0


def test_a_name_with_a_dash_in_front_can_be_confirmed_as_the_hint_says(new_database: Callable[..., Database]) -> None:
    database = new_database(name=f"-dash {os.getpid()}")
    hint = f"Hint: neuraknot-db reset --confirm='{database.name}' --environment live"
    done = database.neuraknot_db("reset", NEURAKNOT_ENV="live")
    said(done, 5, f"{hint}\n")
    done = database.neuraknot_db("reset", f"--confirm={database.name}", NEURAKNOT_ENV="live")
    said(done, 5, f"{hint} (NEURAKNOT_ENV=dev where it is no production)\n")
    done = database.neuraknot_db(*shlex.split(hint)[2:], NEURAKNOT_ENV="live")
    assert done.code == 0, done.err


def two_heads(project: Project) -> None:
    project.add("005", "CREATE TABLE public.five ()", after="004")
    project.add("006", "CREATE TABLE public.six ()", after="004")


def no_duration(project: Project) -> None:
    project.add("005", "SELECT 1", after="004", extra="lock_timeout = 'soon'")


def two_statements(project: Project) -> None:
    project.add("005", "SELECT 1; SELECT 2", after="004", extra="transactional = False")


def own_commit(project: Project) -> None:
    project.add("005", "CREATE TABLE public.five (); COMMIT", after="004")


def unreadable(project: Project) -> None:
    path = project.add("005", "SELECT 1", after="004")
    path.write_text("revision = ", encoding="utf-8")


def names_nobody(project: Project) -> None:
    project.add("005", "SELECT 1", after="nowhere")


@pytest.mark.parametrize("environment", ["test", "prod"])
@pytest.mark.parametrize(
    ("broken", "code"),
    [(two_heads, 2), (no_duration, 2), (two_statements, 5), (own_commit, 5), (unreadable, 7), (names_nobody, 7)],
)
def test_what_can_not_be_run_is_refused_before_a_row_is_counted(
    database_at_head: Database, project: Project, broken: Callable[[Project], None], code: int, environment: str
) -> None:
    add_users(database_at_head, 1)
    database_at_head.run(f"UPDATE neuraknot_db.settings SET value = '{environment}' WHERE name = 'environment'")
    before = log_of(database_at_head, "*")
    broken(project)
    for arguments in ([], ["--confirm", database_at_head.name, "--environment", environment]):
        done = database_at_head.neuraknot_db("reset", *arguments, cwd=project.root, NEURAKNOT_ENV=environment)
        said(done, code)
        assert "would go" not in done.err
    assert users(database_at_head) == 1
    assert log_of(database_at_head, "*") == before
    # Nothing of that stands in the way of an empty schema, where the files can be read.
    if code != 7:
        emptying = ("reset", "--confirm", database_at_head.name, "--environment", environment, "--no-upgrade")
        done = database_at_head.neuraknot_db(*emptying, cwd=project.root, NEURAKNOT_ENV=environment)
        assert done.code == 0, done.err


@pytest.mark.parametrize(
    "arguments",
    [["--confirm", "other"], ["--confirm", "NAME", "--environment", "prod"], ["--environment", "prod"]],
)
def test_a_confirmation_that_is_wrong_is_refused_before_a_row_is_counted(
    database_at_head: Database, arguments: list[str]
) -> None:
    add_users(database_at_head, 1)
    words = [database_at_head.name if word == "NAME" else word for word in arguments]
    done = database_at_head.neuraknot_db("reset", *words)
    said(done, 5, "nothing was dropped", f"Hint: neuraknot-db reset --confirm {database_at_head.name}")
    assert "would go" not in done.err
    assert users(database_at_head) == 1
    if "prod" in words:
        assert "The environment is 'test', not 'prod'" in done.err


def test_who_may_not_keep_the_log_is_refused_before_a_row_is_counted(owner: Database) -> None:
    owner.as_user("postgres").run("CREATE SCHEMA neuraknot_db")
    done = reset(owner)
    said(done, 5, "may not keep the log", "GRANT USAGE, CREATE ON SCHEMA neuraknot_db")
    assert "would go" not in done.err


@pytest.mark.parametrize(("environment", "code"), [("test", 0), ("prod", 3)])
def test_the_schema_is_compared_afterwards(
    database_at_head: Database, project: Project, environment: str, code: int
) -> None:
    path = project.root / "alembic" / "snapshots" / "004.json"
    path.write_text(path.read_text().replace("character varying(255)", "character varying(254)", 1))
    database_at_head.run("DELETE FROM neuraknot_db.settings WHERE name = 'environment'")
    done = reset(database_at_head, "--environment", environment, cwd=project.root, NEURAKNOT_ENV=environment)
    assert done.code == code, done.err
    assert "the schema public was reset in" in done.err
    assert "character varying(254)" in done.err
    assert ("Error: The run is committed, at 004, but the schema is not what" in done.err) == (code == 3)


RIGHTS = {
    # Before the tables are made, and after.
    "taken away in spite of a default": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {app}",
        "REVOKE SELECT ON users FROM {app}",
    ),
    "withdrawn from PUBLIC, with a default of somebody else's": (
        "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {app}",
        "REVOKE EXECUTE ON FUNCTION update_updated_at_column() FROM PUBLIC",
    ),
    "given to PUBLIC in spite of a default": (
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION update_updated_at_column() TO PUBLIC",
    ),
    "with the right to pass it on": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {app}",
        "GRANT SELECT ON users TO {app} WITH GRANT OPTION",
    ),
    "taken from the owner": ("SELECT 1", "REVOKE UPDATE ON users FROM CURRENT_USER"),
    "on columns, one of which is gone": (
        "SELECT 1",
        "GRANT UPDATE (email), SELECT (status) ON users TO {app}; ALTER TABLE users ADD x int;"
        " GRANT SELECT (x) ON users TO {app}; ALTER TABLE users DROP x",
    ),
}
ACLS = """
SELECT relname::text, (SELECT array_agg(x::text ORDER BY x::text) FROM aclexplode(relacl) x) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL
SELECT proname, (SELECT array_agg(x::text ORDER BY x::text)
                   FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) x)
  FROM pg_proc WHERE proname = 'update_updated_at_column'
UNION ALL
SELECT attname, (SELECT array_agg(x::text ORDER BY x::text) FROM aclexplode(attacl) x) FROM pg_attribute
 WHERE attrelid = 'public.users'::regclass AND attnum > 0 AND NOT attisdropped
 ORDER BY 1, 2
"""


@pytest.mark.parametrize("what", RIGHTS)
def test_what_a_reset_prints_gives_back_exactly_the_rights_that_were(database: Database, what: str) -> None:
    app = f"app_{os.getpid()}"
    database.run(f"CREATE ROLE {app}")
    try:
        before, after = (sql.format(app=app) for sql in RIGHTS[what])
        database.run(before)
        assert database.alembic("upgrade", "head").code == 0
        database.run(after)
        had = database.run(ACLS)
        done = reset(database)
        assert done.code == 0, done.err
        told = done.err.partition("are gone; this gives them again")[2].splitlines()[1:]
        database.run(" ".join(line for line in told if line.startswith("  ")))
        assert database.run(ACLS) == had
    finally:
        database.run(f"DROP OWNED BY {app}; DROP ROLE {app}")
