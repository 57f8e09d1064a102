"""What a failure is blamed on: the file and its line, or what the server is in; and what to type next."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import psycopg2
import pytest
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis
from neuraknot_db.migrate import causes
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Finished, Project
from tests.db.running import log_of

CORRECT = "Correct alembic/versions/005_added.py"


def upgraded(database: Database, project: Project, body: str, extra: str = "", **environ: str) -> Finished:
    """Upgrade with a revision 005 whose upgrade() holds these lines, from line 10 of its file on."""
    path = project.add("005", "SELECT 1", after="004", extra=extra)
    path.write_text(path.read_text().replace("    op.execute('SELECT 1')\n\n\ndef d", f"    {body}\n\n\ndef d"))
    return database.alembic("upgrade", "head", cwd=project.root, **environ)


LINES = {
    # The body: the line that is named, and a line of the statement as it is shown.
    'op.execute("""\n        DO $$\n        BEGIN\n            PERFORM 1/0;\n        END $$\n    """)': (
        13,
        "    13 |             PERFORM 1/0;\n       | ^",
    ),
    'op.execute("""\n        SELECT 1;\n        SELEC 2;\n    """)': (12, "    12 |         SELEC 2;"),
    'op.execute("SELECT 1/0")': (10, "    10 | SELECT 1/0"),
    'op.get_bind().exec_driver_sql("SELEC 1")': (10, "    10 | SELEC 1"),
    "op.drop_column('users', 'nothing')": (10, "       | ALTER TABLE users DROP COLUMN nothing"),
    "x = None\n    x.nothing()": (11, None),
    "import sys\n    sys.exit(0)": (11, None),
    "raise ValueError('no')": (10, None),
    'op.execute("SELECT 1;" "SELEC 2")': (10, "       | SELECT 1;SELEC 2"),
    'sql = """\n        SELEC 1\n    """\n    op.execute(sql)': (11, "    11 |         SELEC 1"),
}


@pytest.mark.parametrize("body", LINES)
def test_what_fails_is_named_by_file_and_line(database_at_head: Database, project: Project, body: str) -> None:
    line, shown = LINES[body]
    done = upgraded(database_at_head, project, body)
    said(done, 7, f"{CORRECT}, line {line}, and run the command again.")
    if shown is not None:
        assert f"\n  alembic/versions/005_added.py, line {line}:\n" in done.err
        assert f"\n{shown}" in done.err
    else:
        printed = database_at_head.alembic("upgrade", "004:005", "--sql", cwd=project.root)
        said(printed, 7, f"Don't run it. {CORRECT}, line {line}, and print it again.")


def test_what_fails_outside_of_a_transaction_and_on_the_way_back_is_named_too(
    database_at_head: Database, project: Project
) -> None:
    done = upgraded(database_at_head, project, 'op.execute("VACUUM nothing")', extra="transactional = False")
    said(done, 7, "005_added.py, line 10", "    10 | VACUUM nothing")
    project.add("005", "SELECT 1", "SELECT 1/0", after="004")
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    done = database_at_head.alembic("downgrade", "-1", cwd=project.root)
    said(done, 7, "Going back from revision 005 failed", f"{CORRECT}, line 14, and run")


def test_a_text_that_is_not_in_the_file_is_named_by_the_line_that_sends_it(
    database_at_head: Database, project: Project
) -> None:
    body = "name = 'nothing'\n    op.execute(f'VACUUM {name}')"
    done = upgraded(database_at_head, project, body, extra="transactional = False")
    said(
        done,
        7,
        f"{CORRECT}, line 11, and run",
        "\n  alembic/versions/005_added.py, line 11:\n       | VACUUM nothing\n",
    )


def test_what_fails_in_a_module_of_ones_own_is_named_there(database_at_head: Database, project: Project) -> None:
    (project.root / "shared_sql.py").write_text(
        "from alembic import op\n\n\ndef send():\n    op.execute('SELEC 1')\n\n\ndef fail():\n    None.nothing()\n"
    )
    for call, line in (("send", 5), ("fail", 9)):
        done = upgraded(database_at_head, project, f"import shared_sql\n    shared_sql.{call}()")
        said(done, 7, f"Correct shared_sql.py, line {line} (from alembic/versions/005_added.py, line 11), and run")


def test_what_is_found_as_the_log_is_written_shows_no_query_of_ours(
    database_at_head: Database, project: Project
) -> None:
    done = upgraded(database_at_head, project, 'op.execute("SET LOCAL transaction_read_only = on")')
    said(done, 5, "at its end", "Take out of alembic/versions/005_added.py what makes the transaction read-only.")
    assert "migration_log" not in done.err


def test_what_is_found_at_the_commit_has_no_line(database_at_head: Database, project: Project) -> None:
    sql = "CREATE TABLE five (a int REFERENCES six DEFERRABLE INITIALLY DEFERRED); INSERT INTO five VALUES (1)"
    done = upgraded(
        database_at_head, project, f"op.execute('CREATE TABLE six (a int PRIMARY KEY)')\n    op.execute('{sql}')"
    )
    said(done, 7, "which line is to blame is not known", f"{CORRECT}, and run the command again.")


TIMED_OUT = {
    "in Python": (
        "op.execute('SELECT 1')\n    import time\n    time.sleep(0.6)\n    op.execute('SELECT 2')",
        'idle_in_transaction_session_timeout = "300ms"',
        "it had sent nothing for 6",
        'idle_in_transaction_session_timeout = "600ms"',
    ),
    "in Python, then through the connection": (
        "op.execute('SELECT 1')\n    import time\n    time.sleep(0.6)\n    op.get_bind().exec_driver_sql('SELECT 2')",
        'idle_in_transaction_session_timeout = "300ms"',
        "it had sent nothing for 6",
        'idle_in_transaction_session_timeout = "600ms"',
    ),
    "in a statement": (
        "op.execute('SELECT pg_sleep(60)')",
        'statement_timeout = "500ms"',
        "a statement took 5",
        'statement_timeout = "1s"',
    ),
    "outside of a transaction": (
        "op.execute('CREATE DATABASE nothing_of_ours')",
        'statement_timeout = "1ms"\ntransactional = False',
        "a statement took ",
        'statement_timeout = "2ms"',
    ),
    "after the COMMITs of a DO block": (
        "op.execute('DO $$ BEGIN PERFORM 1; COMMIT; PERFORM pg_sleep(60); END $$')",
        'statement_timeout = "300ms"\ntransactional = False',
        "a statement took 3",
        'statement_timeout = "600ms"',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", TIMED_OUT)
def test_our_own_timeout_is_named_and_how_to_raise_it(database_at_head: Database, project: Project, where: str) -> None:
    body, extra, what, raised = TIMED_OUT[where]
    done = upgraded(database_at_head, project, body, extra)
    said(
        done,
        7,
        "Revision 005 was ended",
        what,
        f"put `{raised}` below down_revision in alembic/versions/005_added.py",
    )
    assert CORRECT not in done.err


@pytest.mark.slow
def test_a_timeout_that_the_revision_has_set_is_told_apart(database_at_head: Database, project: Project) -> None:
    body = "op.execute(\"SET LOCAL statement_timeout = '200ms'\")\n    op.execute('SELECT pg_sleep(60)')"
    done = upgraded(database_at_head, project, body, NEURAKNOT_STATEMENT_TIMEOUT="1h")
    said(
        done,
        7,
        "what the revision has set as statement_timeout is less",
        'there it is a line, statement_timeout = "1h"',
    )


@pytest.mark.slow
def test_our_own_timeout_is_named_in_a_reset_too(database_at_head: Database, project: Project) -> None:
    project.add("005", "SELECT pg_sleep(60)", after="004", extra='statement_timeout = "300ms"')
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    said(
        done,
        7,
        "and statement_timeout is 300ms.",
        "every row are still there. To give it more time, put `statement_timeout = ",
    )


@pytest.mark.slow
def test_the_pauses_of_a_revision_may_be_longer(database_at_head: Database, project: Project) -> None:
    slow = "op.execute('SELECT 1')\n    import time\n    time.sleep(0.6)\n    op.execute('SELECT 2')"
    shown = (
        "op.execute(\"DO $$ BEGIN RAISE NOTICE '%', current_setting('idle_in_transaction_session_timeout'); END $$\")"
    )
    done = upgraded(database_at_head, project, f"{slow}\n    {shown}", 'idle_in_transaction_session_timeout = "1h"')
    assert done.code == 0, done.err
    assert "NOTICE:  1h\n" in done.err


def test_a_statement_that_somebody_cancelled_is_no_timeout(database_at_head: Database, project: Project) -> None:
    done = upgraded(database_at_head, project, "op.execute('SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(9)')")
    said(done, 7, "Revision 005 was cancelled and rolled back", "Run the command again.")
    assert CORRECT not in done.err


STATES = {
    "22P05": "make one in UTF-8",
    "53100": "disk is full",
    "53200": "out of memory",
    "53300": "a limit of its own",
    "58030": "see its log",
    "XX001": "damaged data",
    "XX000": "a defect of its own",
}


@pytest.mark.parametrize("state", STATES)
def test_what_the_server_is_in_is_told(state: str) -> None:
    class Failure(psycopg2.OperationalError):
        pgcode = state  # no server here has a full disk

    assert STATES[state] in (diagnosis.database_error(DBAPIError("SELECT 1", {}, Failure("no"))).hint or "")


def test_what_the_server_is_in_is_not_blamed_on_the_file(database_at_head: Database, project: Project) -> None:
    sql = (
        "SET temp_file_limit = '64kB'; SET work_mem = '64kB'; SELECT x FROM generate_series(1, 99999) x ORDER BY 1 DESC"
    )
    done = upgraded(database_at_head, project, f'op.execute("{sql}")')
    said(done, 7, "temp_file_limit", "A limit that is set was reached", "alembic/versions/005_added.py, line 10:")
    assert CORRECT not in done.err


@pytest.mark.parametrize("state", ["08006", "25006", "42501", "53100", "55P03", "57014"])
def test_what_a_revision_raises_is_no_word_of_the_servers(
    database_at_head: Database, project: Project, state: str
) -> None:
    raised = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'no'; END $$"
    done = upgraded(database_at_head, project, f'op.execute("{raised}")')
    said(done, 7, "Revision 005 failed and was rolled back: no.", f"{CORRECT}, line 10, and run the command again.")


REFUSING = """
CREATE FUNCTION public.closed() RETURNS {} LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'closed today'; END $$;
CREATE {} EXECUTE FUNCTION public.closed()
"""


@pytest.mark.parametrize(
    ("returns", "trigger", "sql"),
    [
        ("event_trigger", "EVENT TRIGGER closed ON ddl_command_end", "CREATE TABLE five ()"),
        ("trigger", "TRIGGER closed BEFORE UPDATE ON public.users", "UPDATE users SET email = email"),
    ],
)
def test_a_trigger_that_refuses_is_named(
    database_at_head: Database, project: Project, returns: str, trigger: str, sql: str
) -> None:
    database_at_head.run(REFUSING.format(returns, trigger))
    done = upgraded(database_at_head, project, f"op.execute('{sql}')")
    said(done, 7, "closed today", "The function closed refuses it, a trigger's or an event trigger's")
    assert CORRECT not in done.err


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE five (a int);\nCOPY public.five (a) FROM stdin;\n1\n\\\\.\n",
        "COPY public.users FROM stdin",
        "\\\\connect other\nSELECT 1",
        "\\\\restrict abc\nSELECT 1",
        "SELECT 1 \\\\gexec",
        "SELECT :'name'",
        "SELECT * FROM :name",
    ],
)
def test_what_is_psqls_is_told_apart(database_at_head: Database, project: Project, sql: str) -> None:
    done = upgraded(database_at_head, project, f'op.execute("""{sql}""")')
    said(done, 7, "005_added.py, line 1", "are psql's: write what the server reads")


def test_an_extension_that_is_elsewhere_is_named(database: Database) -> None:
    database.run('CREATE SCHEMA extensions; CREATE EXTENSION "uuid-ossp" SCHEMA extensions')
    words = 'ALTER EXTENSION "uuid-ossp" SET SCHEMA public'
    done = database.alembic("upgrade", "head")
    said(done, 7, "The extension uuid-ossp is in the schema extensions, where revisions don't look.", words)
    assert "Correct" not in done.err
    done = database.neuraknot_db("reset", "--confirm", database.name)
    said(done, 7, "every row are still there. The extension uuid-ossp is in the schema extensions", words)
    database.run(words)
    assert database.alembic("upgrade", "head").code == 0


def hint_of(database: Database, sql: str) -> str | None:
    """What the database says about the failure of a statement."""
    with database.engine().connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
        connection.rollback()
        return causes.hint(connection, caught.value)


ELSEWHERE = {
    # The statement: whether its failure comes from the extensions that are elsewhere.
    "SELECT uuid_generate_v4()": True,
    "SELECT public.uuid_generate_v4()": True,
    "DO $$ BEGIN EXECUTE 'SELECT ' || 'uuid_generate_v4()'; END $$": True,
    "CREATE TABLE a (b citext)": True,
    "CREATE INDEX ON c (d gin_trgm_ops)": True,
    "SELECT 'a'::text %> 'b'::text": True,
    "SELECT nothing(), 'uuid_generate_v4', 'citext'": False,
    "SELECT extensions.uuid_generate_v4() FROM misspelt": False,
    "CREATE TABLE a (citext nothing)": False,
    # `exist` is a function of hstore, and a word of every such message.
    "SELECT * FROM nothing": False,
    "DROP INDEX nothing": False,
    "GRANT SELECT ON c TO nothing": False,
    "SELECT nothing(1)": False,
    "SELECT exist('a'::text, 'b')": True,
    # citext has a function of that name, and so has PostgreSQL.
    "SELECT replace(1)": False,
}


def test_only_what_the_server_names_is_looked_for_elsewhere(database: Database) -> None:
    database.run(
        'CREATE SCHEMA extensions; CREATE EXTENSION "uuid-ossp" SCHEMA extensions;'
        " CREATE EXTENSION citext SCHEMA extensions; CREATE EXTENSION pg_trgm SCHEMA extensions;"
        " CREATE EXTENSION hstore SCHEMA extensions;"
        " CREATE TABLE c (d text)"
    )
    told = {sql: "SET SCHEMA public" in (hint_of(database, sql) or "") for sql in ELSEWHERE}
    assert told == ELSEWHERE


@pytest.fixture
def owner(stranger: Database, database_at_head: Database) -> Iterator[str]:
    """A role that owns one thing of each kind."""
    role = f"owner_{os.getpid()}"
    database_at_head.run(
        f"CREATE ROLE {role}; SET ROLE {role}; RESET ROLE; CREATE SCHEMA hers AUTHORIZATION {role};"
        f" GRANT CREATE, USAGE ON SCHEMA public TO {role}; SET ROLE {role};"
        " CREATE TABLE things (id int PRIMARY KEY); CREATE SEQUENCE numbers;"
        " CREATE VIEW \"her view\" AS SELECT 1 AS x; CREATE TYPE mood AS ENUM ('ok');"
        " CREATE FUNCTION reckon(int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        " REVOKE EXECUTE ON FUNCTION reckon FROM PUBLIC; RESET ROLE;"
        f" GRANT SELECT ON things TO {stranger.user}; CREATE SCHEMA {role};"
        f" CREATE TABLE mine (); ALTER TABLE mine OWNER TO {stranger.user}"
    )
    yield role
    database_at_head.run(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


MEMBER = 'GRANT "{owner}" TO "{role}"'
RIGHTS = {
    # What a stranger runs: the statement that lets her, from an administrator or the owner.
    "ALTER TABLE things ADD x int": MEMBER,
    "/* why */ ALTER TABLE things ADD x int": MEMBER,
    "DO $$ BEGIN ALTER TABLE things ADD x int; END $$": MEMBER,
    "CREATE INDEX ON things (id)": MEMBER,
    "DROP TABLE things": MEMBER,
    "COMMENT ON TABLE things IS 'x'": MEMBER,
    'DROP VIEW "her view"': MEMBER,
    "ALTER SEQUENCE numbers RESTART": MEMBER,
    "DROP FUNCTION reckon": MEMBER,
    "ALTER TYPE mood ADD VALUE 'x'": MEMBER,
    "DROP SCHEMA hers": MEMBER,
    'GRANT SELECT ON "her view" TO PUBLIC': MEMBER,
    "UPDATE things SET id = 1": 'GRANT ALL ON TABLE public.things TO "{role}"',
    "TRUNCATE things": 'GRANT ALL ON TABLE public.things TO "{role}"',
    'SELECT * FROM "her view"': 'GRANT ALL ON TABLE public."her view" TO "{role}"',
    "SELECT nextval('numbers')": 'GRANT ALL ON SEQUENCE public.numbers TO "{role}"',
    "SELECT reckon(1)": 'GRANT EXECUTE ON FUNCTION public.reckon(integer) TO "{role}"',
    "CREATE TABLE hers.x ()": 'GRANT USAGE, CREATE ON SCHEMA hers TO "{role}"',
    "CREATE TABLE my_own (id int REFERENCES things)": 'GRANT REFERENCES ON TABLE public.things TO "{role}"',
    "CREATE TRIGGER x BEFORE UPDATE ON things EXECUTE FUNCTION suppress_redundant_updates_trigger()": (
        'GRANT TRIGGER ON TABLE public.things TO "{role}"'
    ),
    "CREATE SCHEMA my_own": 'GRANT CREATE ON DATABASE {database} TO "{role}"',
    "CREATE ROLE nobody_of_ours": 'ALTER ROLE "{role}" CREATEROLE',
    "CREATE EXTENSION pg_trgm": "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "COPY users FROM '/nothing'": 'GRANT pg_read_server_files TO "{role}"',
    "CREATE ROLE nobody_of_ours SUPERUSER": None,
    "ALTER TABLE pg_class ADD x int": None,
    # The owner's role, which is named like a schema of hers.
    "SET ROLE {owner}": MEMBER,
    "ALTER TABLE mine OWNER TO {owner}": MEMBER,
    "SET LOCAL ROLE postgres": None,
}


def test_a_missing_right_comes_with_the_statement_that_gives_it(
    stranger: Database, database_at_head: Database, owner: str
) -> None:
    for form, statement in RIGHTS.items():
        sql = form.format(owner=owner)
        found = hint_of(stranger, sql)
        if statement is None:
            assert found is None, sql
            continue
        wanted = statement.format(owner=owner, role=stranger.user, database=stranger.name)
        assert (found or "").endswith(wanted), (sql, found)
        if wanted.startswith("GRANT") and "server_files" not in wanted:
            database_at_head.run(f"BEGIN; {wanted}; COMMIT")
            with stranger.engine().connect() as connection:
                connection.exec_driver_sql(sql, execution_options={"no_parameters": True})  # rolled back
            database_at_head.run(wanted.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM "))


def test_a_member_without_inheritance_is_told_to_take_the_role(
    stranger: Database, database_at_head: Database, owner: str
) -> None:
    database_at_head.run(f"ALTER ROLE {stranger.user} NOINHERIT; GRANT {owner} TO {stranger.user}")
    words = f'or write before it in the revision: SET LOCAL ROLE "{owner}"'
    assert (hint_of(stranger, "DROP TABLE things") or "").endswith(words)


def test_what_another_role_lacked_is_not_granted_to_this_one(
    stranger: Database, database_at_head: Database, owner: str
) -> None:
    database_at_head.run(f"GRANT {owner} TO {stranger.user}; REVOKE CREATE ON SCHEMA public FROM {owner}")
    assert hint_of(stranger, f"SET LOCAL ROLE {owner}; CREATE TABLE hers_too ()") is None


def test_a_superusers_table_is_handed_over(stranger: Database) -> None:
    # To be a member of its role would be to be a superuser.
    wanted = f'ALTER TABLE public.users OWNER TO "{stranger.user}"'
    assert (hint_of(stranger, "ALTER TABLE users ADD x int") or "").endswith(wanted)


def test_a_row_that_a_policy_keeps_out_is_no_missing_privilege(stranger: Database, database_at_head: Database) -> None:
    database_at_head.run(
        f"ALTER TABLE users ENABLE ROW LEVEL SECURITY; GRANT ALL ON users TO {stranger.user};"
        " CREATE POLICY none ON users WITH CHECK (false)"
    )
    sql = "INSERT INTO users (cognito_user_id, email, display_name) VALUES ('a', 'b', 'c')"
    assert (hint_of(stranger, sql) or "").endswith(f'ALTER ROLE "{stranger.user}" BYPASSRLS')


@pytest.mark.parametrize("message", ["テーブルusersの所有者である必要があります", "droit refusé pour la table users"])
def test_a_name_is_found_in_a_message_of_any_language(message: str) -> None:
    assert "users" in causes._names(message)


@pytest.fixture
def stranger(database_at_head: Database) -> Iterator[Database]:
    """The database as a role sees it that owns nothing."""
    role = f"stranger_{os.getpid()}"
    database_at_head.run(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}")
    yield database_at_head.as_user(role)
    database_at_head.run(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_the_rights_that_are_missing_are_named_one_after_the_other(
    stranger: Database, database_at_head: Database, project: Project
) -> None:
    project.add("005", "ALTER TABLE users ADD COLUMN note text", after="004")
    project.add("006", "UPDATE messages SET content = content", after="005")
    for _ in range(8):
        done = stranger.alembic("upgrade", "head", cwd=project.root)
        if done.code == 0:
            break
        assert done.code == (7 if "  005 " in done.err else 5), done.err
        assert "FROM public.alembic_version v" not in done.err  # a query of ours is nobody's business
        statement = re.search(r"(GRANT|ALTER TABLE) .*", done.err.splitlines()[-1])
        assert statement, done.err
        database_at_head.run(statement[0])
    assert done.code == 0, done.err
    assert log_of(database_at_head)[-1] == ("006", "upgrade", "succeeded")


def test_a_command_that_only_looks_names_the_right_it_lacks(stranger: Database, database_at_head: Database) -> None:
    for command in ("current", "plan", "verify"):
        done = stranger.neuraknot_db(command)
        said(
            done,
            5,
            "may not read the table public.alembic_version",
            "Hint: As its owner: GRANT SELECT ON public.alembic_version TO",
        )
    database_at_head.run(f"GRANT SELECT ON public.alembic_version TO {stranger.user}")
    assert stranger.neuraknot_db("current").code == 0


@pytest.mark.parametrize("near", ["neuraknot", "NEURAKNOT", "neuraKnott"])
def test_a_database_whose_name_is_nearly_that_is_named(database: Database, near: str) -> None:
    if not _has(database, "neuraKnot"):
        database.run('CREATE DATABASE "neuraKnot" TEMPLATE template0')
    done = database.alembic("current", DATABASE_URL="", DB_HOST=database.host, DB_PORT=str(database.port), DB_NAME=near)
    said(done, 6, f"There is no database {near}", "There is neuraKnot: DB_NAME=neuraKnot, or correct DATABASE_URL.")


def _has(database: Database, name: str) -> bool:
    return bool(database.value(f"SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')"))


@pytest.mark.slow
def test_in_a_task_the_hint_is_the_launchers_command(database_at_head: Database) -> None:
    database_at_head.run("DELETE FROM alembic_version")
    in_task = "http://127.0.0.1:1/none"
    done = database_at_head.alembic("upgrade", "head", ECS_CONTAINER_METADATA_URI_V4=in_task)
    said(done, 5, "launcher ecs-run --environment test -- adopt")  # without it, the launcher goes to dev
    said(database_at_head.alembic("upgrade", "head"), 5, "neuraknot-db adopt")
    said(
        database_at_head.neuraknot_db("reset", ECS_CONTAINER_METADATA_URI_V4=in_task),
        5,
        "launcher ecs-migrate --environment test --reset\n",
    )
    done = database_at_head.neuraknot_db("revision", "-m", "", ECS_CONTAINER_METADATA_URI_V4=in_task)
    said(done, 2, "neuraknot-db revision -m")  # that is for a checkout


@pytest.mark.parametrize(
    "sql",
    [
        "-- Rows came from stdin of the importer.\nSELECT nope",
        "SELECT E'\n\\\\d'; SELECT nope",
        "SELECT 'from stdin'::int",
    ],
)
def test_words_that_are_also_psqls_are_no_cause(database_at_head: Database, project: Project, sql: str) -> None:
    said(upgraded(database_at_head, project, f'op.execute("""{sql}""")'), 7, CORRECT)


@pytest.mark.parametrize("raising", ["RAISE 'no' USING ERRCODE = 'check_violation'", "ASSERT false, 'no'"])
def test_a_trigger_that_refuses_in_another_way_is_named_too(
    database_at_head: Database, project: Project, raising: str
) -> None:
    database_at_head.run(
        f'CREATE FUNCTION "Check It"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {raising}; END $$;'
        ' CREATE TRIGGER guard BEFORE UPDATE ON users FOR EACH STATEMENT EXECUTE FUNCTION "Check It"()'
    )
    done = upgraded(database_at_head, project, "op.execute('UPDATE users SET email = email')")
    said(done, 7, 'The function "Check It" refuses it')
    assert CORRECT not in done.err


def test_what_fails_in_a_triggers_function_is_not_blamed_on_the_file(
    database_at_head: Database, project: Project
) -> None:
    database_at_head.run(
        "CREATE FUNCTION copied() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO gone VALUES (1); END $$;"
        " CREATE TRIGGER copying BEFORE UPDATE ON users FOR EACH STATEMENT EXECUTE FUNCTION copied()"
    )
    said(
        upgraded(database_at_head, project, "op.execute('UPDATE users SET email = email')"),
        7,
        "The function copied fails",
    )


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("VACUUM users", "write transactional = False beside upgrade()"),
        ("CREATE INDEX CONCURRENTLY ON users (email)", "write transactional = False beside upgrade()"),
        ("SELECT 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", CORRECT),
        ("CREATE EXTENSION nothing_of_ours", "The server has no such extension"),
    ],
)
def test_what_the_server_can_not_do_there_is_told(
    database_at_head: Database, project: Project, sql: str, words: str
) -> None:
    said(upgraded(database_at_head, project, f"op.execute('{sql}')"), 7, words)


def test_further_lines_of_a_servers_message_look_like_no_hint(database_at_head: Database, project: Project) -> None:
    sql = "DO $$ BEGIN RAISE E'no\\nHint: a' USING HINT = E'b\\nHint: c', DETAIL = E'd\\nError: e'; END $$"
    said(
        upgraded(database_at_head, project, f'op.execute("{sql}")'),
        7,
        "no\n  Hint: a",
        "\n  Hint: c\n",
        "\n  Error: e\n",
    )
    assert "\nHint: a" not in database_at_head.neuraknot_db("log", cwd=project.root).out
