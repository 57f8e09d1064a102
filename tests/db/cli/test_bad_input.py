"""Everything that a user can get wrong: one clear sentence, a hint, the exit code of the table, nothing changed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.db.conftest import Database, Finished, Project
from tests.db.forking import BIN, run
from tests.projects import PROJECT

PROGRAMS = ["alembic", "neuraknot-db"]
SCHEMA = """
SELECT string_agg(format('%s.%s %s', n.nspname, c.relname, c.xmin), ',' ORDER BY n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""


def said(done: Finished, code: int, *words: str) -> None:
    """The command failed as it should: an `error:` and a `hint:` line, no traceback."""
    assert done.code == code, done.err
    lines = done.err.splitlines()
    assert sum(line.startswith("Error: ") for line in lines) == 1, done.err
    assert sum(line.startswith("Hint: ") for line in lines) == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


@pytest.fixture
def unchanged(database_at_head: Database) -> Iterator[Database]:
    """A database that the test must leave as it is."""
    before = database_at_head.value(SCHEMA)
    yield database_at_head
    assert database_at_head.value(SCHEMA) == before


def without_database(program: str, *arguments: str, cwd: Path = PROJECT, **environ: str) -> Finished:
    nowhere = Database("/nowhere", 5432, "none", "none").environment()
    return Finished(*run(program, arguments, cwd=cwd, env={**nowhere, "DATABASE_URL": "", **environ}))


@pytest.mark.slow
def test_a_service_of_libpqs_leads_to_no_other_server(database_at_head: Database, tmp_path: Path) -> None:
    (tmp_path / "services").write_text("[other]\nhostaddr=192.0.2.1\nport=1\ndbname=other\nuser=other\n")
    done = database_at_head.alembic("current", PGSERVICE="other", PGSERVICEFILE=str(tmp_path / "services"))
    assert (done.code, done.out) == (0, "004 (head)\n"), done.err


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({"DATABASE_URL": "postgresql://u:hu@sh@h/db"}, 2, "DATABASE_URL"),
        ({"DATABASE_URL": "nonsense"}, 2, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:hush@127.0.0.1/db?colour=red"}, 2, "libpq"),
        ({"DATABASE_URL": "postgresql://u:hush@127.0.0.1/db?connect_timeout=abc"}, 2, "connect_timeout"),
        ({"DATABASE_URL": "postgresql://u:hush@127.0.0.1/db?channel_binding=abc"}, 2, "channel_binding"),
        ({"DB_HOST": "127.0.0.1", "DB_PORT": "abc"}, 2, "DB_PORT is 'abc'"),
        ({"DB_NAME": "chat"}, 2, "DB_HOST"),
    ],
)
def test_settings_that_make_no_sense(program: str, environ: dict[str, str], code: int, words: str) -> None:
    done = without_database(program, "upgrade", "head", cwd=PROJECT, **environ)
    said(done, code, words)
    assert "hush" not in done.err
    assert "sh@h" not in done.err


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_server(program: str, closed_port: int) -> None:
    done = without_database(program, "upgrade", "head", DB_HOST="127.0.0.1", DB_PORT=str(closed_port))
    said(done, 6, f"neuraKnot on 127.0.0.1:{closed_port} can't be reached", "Connection refused")


def test_database_missing(database: Database) -> None:
    missing = Database(database.host, database.port, "no_such_database", database.server)
    for command in (["upgrade", "head"], ["current"]):
        said(missing.alembic(*command), 6, "no database no_such_database", "neuraknot-db create_db")


@pytest.mark.slow
def test_a_reset_meets_the_database_that_it_names(unchanged: Database) -> None:
    # libpq lets the parameter win: the confirmation must repeat that name, not the path's.
    url = f"postgresql://postgres@/another?host={unchanged.host}&port={unchanged.port}&dbname={unchanged.name}"
    done = unchanged.neuraknot_db("reset", "--confirm", "another", DATABASE_URL=url)
    said(done, 5, f"the database is '{unchanged.name}'")


def test_create_db_where_the_role_may_connect_to_no_other_database(
    database: Database, role: str, new_database: Callable[..., Database]
) -> None:
    maintenance = Database(database.host, database.port, "postgres", database.server)
    maintenance.run("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    try:
        assert database.as_user(role).neuraknot_db("create_db").err == f"the database {database.name} exists\n"
        database.run(f"ALTER ROLE {role} CREATEDB")
        new = Database(database.host, database.port, f"made_by_{role}", database.server, role)
        try:
            assert new.neuraknot_db("create_db").err == f"created the database {new.name}\n"
        finally:
            maintenance.run(f"DROP DATABASE IF EXISTS {new.name}")
        closed = new_database()
        closed.run(f'REVOKE CONNECT ON DATABASE "{closed.name}" FROM PUBLIC')
        done = closed.as_user(role).neuraknot_db("create_db")
        said(done, 6, f"User {role} may not connect to the database {closed.name}", "GRANT CONNECT ON DATABASE")
    finally:
        maintenance.run("GRANT CONNECT ON DATABASE postgres TO PUBLIC")


@pytest.mark.slow
def test_no_such_role(database: Database) -> None:
    said(database.as_user("nobody_there").alembic("current"), 6, "no role nobody_there")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("target", ["nowhere", "+9", "-1"])
def test_unknown_revision(database: Database, program: str, target: str) -> None:
    before = database.value(SCHEMA)
    done = database.program(program, "upgrade" if target != "-1" else "downgrade", target)
    said(done, 2, "alembic history")
    assert database.value(SCHEMA) == before


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_revision_file_with_a_syntax_error(unchanged: Database, project: Project, program: str) -> None:
    (project.versions / "005_broken.py").write_text("revision = '005'\ndown_revision = '004'\ndef upgrade(:\n")
    said(unchanged.program(program, "upgrade", "head", cwd=project.root), 7, "SyntaxError", "005_broken.py, line 3")


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("revision = '005'\n", "", 7, "it holds no `revision = ...`"),
        ("down_revision = '004'", "down_revision = '077'", 7, "it names 077, which no file has"),
        ("from alembic import op\n", "from alembic import op\nimport nosuch\n", 7, "No module named 'nosuch'"),
        ("revision = '005'\n", "revision = '004'\n", 2, "Revision 004 is in two files"),
    ],
)
def test_a_revision_file_that_makes_no_sense_is_named(
    unchanged: Database, project: Project, old: str, new: str, code: int, words: str
) -> None:
    path = project.add("005", "SELECT 1", after="003" if code == 2 else "004")
    path.write_text(path.read_text().replace(old, new, 1))
    done = unchanged.alembic("upgrade", "head", cwd=project.root)
    said(done, code, words, "alembic/versions/005_added.py")
    assert code == 7 or "alembic/versions/004_" in done.err


@pytest.mark.parametrize("losses", ["5", "{'rows of users': 5}", "['rows']"])
def test_losses_that_are_none(unchanged: Database, project: Project, losses: str) -> None:
    path = next(project.versions.glob("004_*.py"))
    path.write_text(path.read_text() + f"\nlosses = {losses}\n")
    said(unchanged.alembic("downgrade", "-1", cwd=project.root), 2, "losses of revision 004 is")


def test_a_revision_that_is_empty(unchanged: Database, project: Project) -> None:
    made = unchanged.neuraknot_db("revision", "-m", "add new table", cwd=project.root)
    assert made.code == 0, made.err
    assert (project.versions / "005_add_new_table.py").exists()
    said(unchanged.alembic("upgrade", "head", cwd=project.root), 7, "Revision 005", "empty query")


@pytest.mark.parametrize("program", PROGRAMS)
def test_two_heads(unchanged: Database, project: Project, program: str) -> None:
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SELECT 1", after="004")
    said(
        unchanged.program(program, "upgrade", "head", cwd=project.root), 2, "two heads", "neuraknot-db renumber --check"
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_sql_that_fails_in_the_middle(unchanged: Database, project: Project, program: str) -> None:
    sql = "\nCREATE TABLE public.five (\n    id uuid,\n    kind no_such_type\n);\n"
    project.add("005", sql, after="004")
    done = unchanged.program(program, "upgrade", "head", cwd=project.root)
    said(done, 7, "Revision 005 failed and was rolled back", 'type "no_such_type" does not exist')
    assert "       |     kind no_such_type\n       |          ^\n" in done.err


def test_python_that_fails_in_a_revision(unchanged: Database, project: Project) -> None:
    path = project.add("005", "SELECT 1", after="004")
    path.write_text(path.read_text().replace("op.execute('SELECT 1')", "op.no_such_thing()"))
    said(unchanged.alembic("upgrade", "head", cwd=project.root), 7, "Revision 005", "no_such_thing")


def test_a_read_only_session(unchanged: Database, project: Project) -> None:
    project.add("005", "CREATE TABLE public.five ()", after="004")
    unchanged.run(f'ALTER DATABASE "{unchanged.name}" SET default_transaction_read_only = on')
    words = f'BEGIN READ WRITE; ALTER DATABASE "{unchanged.name}" RESET default_transaction_read_only; COMMIT\n'
    said(unchanged.alembic("upgrade", "head", cwd=project.root), 5, "read-only", words)
    said(unchanged.neuraknot_db("adopt"), 5, "read-only")
    said(unchanged.neuraknot_db("reset", "--confirm", unchanged.name), 5, "read-only")


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"plain_{os.getpid()}"
    database.run(f"CREATE ROLE {name} LOGIN")
    yield name
    database.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_role_without_create(database: Database, role: str) -> None:
    before = database.value(SCHEMA)
    said(database.as_user(role).alembic("upgrade", "head"), 5, f"User {role} may not create", "GRANT CREATE ON SCHEMA")
    new = Database(database.host, database.port, "never_made", database.server, role)
    said(new.neuraknot_db("create_db"), 5, "may not create a database", "CREATEDB")
    assert database.value(SCHEMA) == before


def test_a_revision_that_is_not_here(unchanged: Database) -> None:
    unchanged.run("UPDATE public.alembic_version SET version_num = '999'")
    for command in (["upgrade", "head"], ["current"], ["downgrade", "-1"]):
        said(unchanged.alembic(*command), 5, "revision 999, which is not in alembic/versions")


def test_no_command_gives_advice_on_a_revision_that_is_not_here(unchanged: Database) -> None:
    unchanged.run("UPDATE public.alembic_version SET version_num = '999'")
    for command in (["verify"], ["verify", "--json"], ["adopt"], ["adopt", "--dry-run"]):
        said(unchanged.neuraknot_db(*command), 5, "revision 999, which is not in alembic/versions", "Use the checkout")


def test_a_database_at_two_revisions_at_once(unchanged: Database, project: Project) -> None:
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SELECT 1", after="004")
    unchanged.run(
        "INSERT INTO public.alembic_version VALUES ('005'); DELETE FROM public.alembic_version"
        " WHERE version_num = '004'; INSERT INTO public.alembic_version VALUES ('006')"
    )
    said(unchanged.neuraknot_db("verify", cwd=project.root), 2, "2 revisions at once: 005, 006", "neuraknot-db merge")
    before = sorted((project.root / "alembic/snapshots").iterdir())
    said(unchanged.neuraknot_db("snapshot", cwd=project.root), 2, "two heads")
    said(unchanged.neuraknot_db("diagram", cwd=project.root), 2, "two heads")
    assert sorted((project.root / "alembic/snapshots").iterdir()) == before


def test_an_unversioned_database_with_half_of_the_tables(database: Database) -> None:
    database.run("CREATE TABLE public.users (x int); CREATE TABLE public.messages (x int); CREATE TABLE public.z ()")
    before = database.value(SCHEMA)
    said(database.alembic("upgrade", "head"), 5, "messages, users", "neuraknot-db adopt")
    said(database.neuraknot_db("adopt"), 3, "nearest", "ai_agents: table missing")
    assert database.value(SCHEMA) == before


def test_check_points_to_verify(unchanged: Database) -> None:
    for program in PROGRAMS:
        said(unchanged.program(program, "check"), 2, "no models", "neuraknot-db verify")


def test_an_option_that_is_no_truth_value(unchanged: Database) -> None:
    assert unchanged.alembic("-x", "force=perhaps", "upgrade", "head").code == 2


@pytest.mark.parametrize("command", ["current", "stamp", "downgrade"])
def test_an_option_that_is_not_known(unchanged: Database, command: str) -> None:
    target = [] if command == "current" else ["004"]
    said(unchanged.alembic("-x", "froce=true", command, *target), 2, "-x froce is not known")


@pytest.mark.parametrize("command", [["verify"], ["log"], ["mark", "dev"], ["reset"]])
def test_a_command_of_ours_knows_no_other_options(unchanged: Database, command: list[str]) -> None:
    confirm = ["--confirm", unchanged.name] if command == ["reset"] else []
    done = unchanged.neuraknot_db("-x", "bogus=1", *command, *confirm)
    said(done, 2, "-x bogus is not known")
    assert len(done.err.splitlines()) == 2, done.err


def test_outside_of_a_checkout(database: Database, tmp_path: Path) -> None:
    said(database.neuraknot_db("upgrade", "head", cwd=tmp_path), 2, "no alembic.ini")


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_during_a_long_statement(
    unchanged: Database, project: Project, program: str, number: signal.Signals, code: int
) -> None:
    project.add("005", "CREATE TABLE public.five (); SELECT pg_sleep(60)", after="004")
    running = subprocess.Popen(
        [str(BIN / program), "upgrade", "head"],
        cwd=project.root,
        env=unchanged.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    wait_until(lambda: unchanged.value(sleeping) == 1)
    started = time.monotonic()
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == code, err
    assert time.monotonic() - started < 5
    assert "rolled back" in err
    assert unchanged.value(sleeping) == 0


def wait_until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Look again and again; a deadline, not a fixed wait."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        pause.wait(0.02)


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("INSERT INTO users (cognito_user_id, email, display_name) SELECT 'x', email, 'x' FROM users", "(email)"),
        (
            "ALTER TABLE users ADD COLUMN w text; UPDATE users SET w = email; ALTER TABLE users ADD FOREIGN KEY (w)"
            " REFERENCES users (email) DEFERRABLE; UPDATE users SET w = 'hanako@example.jp (home)'",
            "(w)",
        ),
        (
            "CREATE TABLE w AS TABLE users; INSERT INTO w TABLE users; CREATE UNIQUE INDEX ON w (lower(email))",
            "(lower(email::text))",
        ),
        ("ALTER TABLE users ADD CHECK (email = '')", None),
        ("UPDATE users SET display_name = NULL", None),
        ("CREATE TABLE w (t text) PARTITION BY LIST (t); INSERT INTO w SELECT email FROM users", None),
        (
            "CREATE VIEW w AS SELECT * FROM users WHERE email = '' WITH CHECK OPTION;"
            " INSERT INTO w (cognito_user_id, email, display_name) SELECT 'x', email || 'x', 'x' FROM users",
            None,
        ),
    ],
)
def test_the_users_own_data_is_neither_printed_nor_logged(
    database_at_head: Database, project: Project, sql: str, columns: str | None
) -> None:
    database_at_head.run(
        "INSERT INTO public.users (cognito_user_id, email, display_name) VALUES ('h', 'hanako@example' || '.jp', 'H')"
    )
    project.add("005", sql, after="004")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, *([f"Key {columns}; its values are not shown."] if columns else []))
    assert "hanako@example.jp" not in done.err.replace(sql, "").replace("'hanako@example.jp (home)'", "")
    assert "hanako" not in str(
        database_at_head.value("SELECT string_agg(l::text, '') FROM neuraknot_db.migration_log l")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("UPDATE public.alembic_version SET version_num = ''", "holds ''"),
        (
            "ALTER TABLE public.alembic_version DROP CONSTRAINT alembic_version_pkc, ALTER version_num DROP NOT NULL;"
            "UPDATE public.alembic_version SET version_num = NULL",
            """holds '{"version_num": null}'""",
        ),
        ("UPDATE public.alembic_version SET version_num = 'head'", "holds 'head'"),
        (
            "ALTER TABLE public.alembic_version DROP CONSTRAINT alembic_version_pkc;"
            "INSERT INTO public.alembic_version VALUES ('004')",
            "holds '004', '004'",
        ),
    ],
)
def test_a_version_table_that_names_no_revision(database_at_head: Database, sql: str, shown: str) -> None:
    database_at_head.run(sql)
    before = database_at_head.value(SCHEMA)
    hint = "Once you know which revision the schema holds: alembic stamp --purge REVISION"
    for command in (["upgrade", "head"], ["current"], ["downgrade", "-1"], ["stamp", "004"]):
        said(database_at_head.alembic(*command), 5, shown, hint)
    for command in (["plan"], ["verify"], ["adopt"]):
        assert database_at_head.neuraknot_db(*command).code == 5
    assert database_at_head.value(SCHEMA) == before
    done = database_at_head.alembic("stamp", "--purge", "004")
    assert done.code == 0, done.err
    assert database_at_head.run("SELECT version_num FROM public.alembic_version") == [("004",)]
    assert database_at_head.alembic("upgrade", "head").code == 0


def test_a_version_table_of_somebody_elses(database_at_head: Database) -> None:
    database_at_head.run("ALTER TABLE public.alembic_version RENAME version_num TO version")
    for command in (["upgrade", "head"], ["current"]):
        said(database_at_head.alembic(*command), 5, """holds '{"version": "004"}'""", "drop that table")


def test_the_beginning_of_a_revision_is_not_the_revision(database_at_head: Database, project: Project) -> None:
    project.add("abcd", "SELECT 1", after="004")
    database_at_head.run("UPDATE public.alembic_version SET version_num = 'abc'")
    said(database_at_head.alembic("current", cwd=project.root), 5, "revision abc, which is not in alembic/versions")


@pytest.mark.parametrize("option", ["confirm=other", "create_db=true", "force=true", "accept_edit=001"])
@pytest.mark.parametrize("command", ["reset --confirm NAME", "mark dev", "verify", "adopt"])
def test_an_option_that_means_nothing_to_a_command_is_refused(unchanged: Database, option: str, command: str) -> None:
    line = command.replace("NAME", unchanged.name).split()
    said(unchanged.neuraknot_db("-x", option, *line), 2, f"-x means nothing to {line[0]}.")


def test_the_parts_of_a_merge_can_not_be_stamped_over_it(database_at_head: Database, project: Project) -> None:
    for revision in ("005", "006"):
        project.add(revision, "SELECT 1", after="004")
    merge = project.add("007", "SELECT 1", after="005")
    merge.write_text(merge.read_text().replace("= '005'", "= ('005', '006')"))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    for purge in ((), ("--purge",)):
        done = database_at_head.alembic("stamp", *purge, "005", "006", cwd=project.root)
        assert done.code == (0 if purge else 2), done.err
    assert sorted(database_at_head.run("SELECT version_num FROM alembic_version")) == [("005",), ("006",)]
