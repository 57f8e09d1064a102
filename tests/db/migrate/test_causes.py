"""What a failure is blamed on: the file and its line, or what the server is in; and what to type next."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

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
    'op.execute("""\n        SELECT 1;\n        SELEC 2;\n    """)': (12, "    12 |         SELEC 2;"),
    'op.execute("SELECT 1/0")': (10, "    10 | SELECT 1/0"),
    'op.get_bind().exec_driver_sql("SELEC 1")': (10, "    10 | SELEC 1"),
    "op.drop_column('users', 'nothing')": (10, "     1 | ALTER TABLE users DROP COLUMN nothing"),
    "x = None\n    x.nothing()": (11, None),
    "import sys\n    sys.exit(0)": (11, None),
    "raise ValueError('no')": (10, None),
    'op.execute("SELECT 1;" "SELEC 2")': (10, "     1 | SELECT 1;SELEC 2"),
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
    said(done, 7, "Revision 005 was ended", what, f"Raise it in alembic/versions/005_added.py: {raised}\n")
    assert CORRECT not in done.err


@pytest.mark.slow
def test_our_own_timeout_is_named_in_a_reset_too(database_at_head: Database, project: Project) -> None:
    project.add("005", "SELECT pg_sleep(60)", after="004", extra='statement_timeout = "300ms"')
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    said(
        done,
        7,
        "and statement_timeout is 300ms.",
        "every row are still there. Raise it in alembic/versions/005_added.py",
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
    "53100": "disk is full",
    "53200": "out of memory",
    "53300": "a limit of its own",
    "58030": "see its log",
    "XX001": "damaged data",
    "XX000": "a defect of its own",
}


@pytest.mark.parametrize("state", STATES)
def test_what_the_server_is_in_is_not_blamed_on_the_file(
    database_at_head: Database, project: Project, state: str
) -> None:
    raised = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = 'no'; END $$"
    done = upgraded(database_at_head, project, f'op.execute("{raised}")')
    said(done, 7, STATES[state], "alembic/versions/005_added.py, line 10:")
    assert CORRECT not in done.err


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
    ],
)
def test_what_is_psqls_is_told_apart(database_at_head: Database, project: Project, sql: str) -> None:
    done = upgraded(database_at_head, project, f'op.execute("""{sql}""")')
    said(done, 7, "005_added.py, line 10:", "are psql's: write INSERT, as pg_dump --inserts does.")


def test_an_extension_that_is_elsewhere_is_named(database: Database) -> None:
    database.run('CREATE SCHEMA extensions; CREATE EXTENSION "uuid-ossp" SCHEMA extensions')
    words = 'ALTER EXTENSION "uuid-ossp" SET SCHEMA public'
    done = database.alembic("upgrade", "head")
    said(done, 7, "The extension uuid-ossp is in the schema extensions, where revisions don't look.", words)
    assert "Correct" not in done.err
    database.run(words)
    assert database.alembic("upgrade", "head").code == 0


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
            "GRANT SELECT, INSERT, UPDATE, DELETE ON public.alembic_version TO",
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
    said(done, 5, "launcher ecs-run -- adopt")
    said(database_at_head.alembic("upgrade", "head"), 5, "neuraknot-db adopt")
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
