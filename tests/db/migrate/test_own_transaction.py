"""A revision that ends its own transaction, or the lock: refused where it can be read, told truly where it can't."""

from __future__ import annotations

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project
from tests.db.running import log_of

TABLE = "CREATE TABLE public.five (id bigint)"
MADE = "SELECT to_regclass('public.five') IS NOT NULL"


def hidden(project: Project, body: str) -> None:
    """A revision whose SQL can't be told from its text."""
    path = project.add("005", "SELECT 1", after="004")
    path.write_text(path.read_text().replace("    op.execute('SELECT 1')\n", body, 1))


@pytest.mark.parametrize(
    "sql",
    [
        f"{TABLE}; ROLLBACK",
        f"{TABLE}; /* then */ commit work; SELECT 1/0",
        f"{TABLE}; ABORT; BEGIN",
        f"{TABLE}; END; BEGIN",
        f"{TABLE}; PREPARE TRANSACTION 'five'",
        f"{TABLE}; ROLLBACK AND CHAIN",
    ],
)
def test_what_can_be_read_is_refused_before_anything_runs(
    database_at_head: Database, project: Project, sql: str
) -> None:
    project.add("005", sql, after="004")
    before = database_at_head.value(SCHEMA)
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "005 ends its own transaction")
    assert database_at_head.value(SCHEMA) == before


@pytest.mark.parametrize(
    ("sql", "extra"),
    [
        ("DISCARD ALL", "transactional = False"),
        ("SELECT pg_catalog.pg_advisory_unlock_all()", "transactional = False"),
        (f"{TABLE}; SELECT PG_ADVISORY_UNLOCK_ALL()", ""),
        ("DO $$ BEGIN PERFORM pg_advisory_unlock_all(); END $$", ""),
    ],
)
def test_the_lock_is_not_given_up(database_at_head: Database, project: Project, sql: str, extra: str) -> None:
    project.add("005", sql, after="004", extra=extra)
    before = database_at_head.value(SCHEMA)
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "005 gives up the lock")
    assert database_at_head.value(SCHEMA) == before


def test_the_applications_own_functions_may_unlock_what_they_like(database_at_head: Database, project: Project) -> None:
    body = "CREATE FUNCTION public.f() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_unlock_all()'"
    project.add("005", f"/* no DISCARD ALL */ {body}; SELECT pg_advisory_unlock_shared(5)", after="004")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err


def test_savepoints_and_bodies_are_no_end(database_at_head: Database, project: Project) -> None:
    body = "DO $$ BEGIN NULL; END; $$; CREATE TEMP TABLE t () ON COMMIT DROP"
    project.add("005", f"SAVEPOINT a; {TABLE}; ROLLBACK TO a; ROLLBACK WORK TO SAVEPOINT a; {body}", after="004")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.value(MADE) is False


DRIVER = "op.get_bind().connection.driver_connection"
GOES_ROUND = f"__import__('psycopg2').extensions.cursor({DRIVER}).execute('{{}}')"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"    op.execute('{TABLE}; ROLL' + 'BACK')\n", "ends its own transaction (ROLLBACK)"),
        (f"    op.execute('{TABLE}')\n    op.get_bind().exec_driver_sql('ROLL' + 'BACK')\n", "(ROLLBACK)"),
        (f"    op.execute('{TABLE}; COM' + 'MIT; SELECT 1/0')\n", "ends its own transaction (COMMIT)"),
        (f"    op.execute('{TABLE}')\n    op.execute('EN' + 'D')\n", "ends its own transaction (END)"),
        (f"    op.execute('{TABLE}')\n    op.execute(__import__('sqlalchemy').text('COM' 'MIT'))\n", "(COMMIT)"),
        (f"    op.execute('{TABLE}')\n    op.get_bind().commit()\n    raise ValueError\n", "(COMMIT)"),
        (f"    op.execute('{TABLE}')\n    op.get_bind().commit()\n", "(COMMIT)"),
        (f"    op.execute('{TABLE}')\n    op.get_bind().rollback()\n", "(ROLLBACK)"),
        (
            f"    op.execute('{TABLE}')\n    try:\n        op.get_bind().rollback()\n    except Exception:\n"
            "        pass\n",
            "(ROLLBACK)",
        ),
        (f"    op.execute('{TABLE}')\n    op.get_bind().get_transaction().commit()\n", "(COMMIT)"),
        (f"    op.execute('{TABLE}')\n    op.get_bind().get_transaction().close()\n", "(ROLLBACK)"),
        (f"    op.execute('{TABLE}')\n    {DRIVER}.commit()\n", "(COMMIT)"),
        (f"    op.execute('{TABLE}')\n    {DRIVER}.rollback()\n", "(ROLLBACK)"),
        (f"    op.execute('{TABLE}')\n    {DRIVER}.reset()\n", "(ROLLBACK)"),
        (f"    op.execute('{TABLE}')\n    with {DRIVER}:\n        pass\n", "(COMMIT)"),
        (f"    {DRIVER}.tpc_begin('x')\n    op.execute('{TABLE}')\n    {DRIVER}.tpc_commit()\n", "(COMMIT)"),
        (
            f"    op.execute('{TABLE}')\n    from psycopg2.extras import DictCursor\n"
            f"    {DRIVER}.cursor(cursor_factory=DictCursor).execute('COM' 'MIT; BEGIN')\n",
            "(COMMIT)",
        ),
        (f"    {DRIVER}.autocommit = True\n    op.execute('{TABLE}')\n", "(COMMIT)"),
        (f"    {DRIVER}.set_session(autocommit=True)\n    op.execute('{TABLE}')\n", "(COMMIT)"),
        (f"    {DRIVER}.set_isolation_level(0)\n    op.execute('{TABLE}')\n", "(ROLLBACK)"),
        (f"    op.execute('{TABLE}')\n    {DRIVER}.cursor().execute(b'COM' b'MIT; BEGIN')\n", "(COMMIT)"),
        (f"    op.execute('{TABLE}')\n    {DRIVER}.cursor().executemany('COM' 'MIT; BEGIN', [()])\n", "(COMMIT)"),
        (
            f"    op.execute('{TABLE}')\n    __import__('sqlalchemy.orm').orm.Session(op.get_bind()).rollback()\n"
            "    op.get_bind().connection.rollback()\n",
            "(ROLLBACK)",
        ),
        (f"    op.execute('{TABLE}')\n    op.execute('DISC' + 'ARD ALL')\n", "gives up the lock"),
        (f"    op.execute('{TABLE}')\n    op.get_bind().exec_driver_sql('DISC' + 'ARD ALL')\n", "gives up the lock"),
        (f"    op.execute('{TABLE}')\n    op.execute('SELECT pg_advisory_unlock' + '_all()')\n", "gives up the lock"),
    ],
)
def test_what_shows_only_when_it_runs_is_refused_before_it_is_sent(
    database_at_head: Database, project: Project, body: str, words: str
) -> None:
    hidden(project, body)
    project.add("006", "SELECT 1", after="005")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, words, "The revision was rolled back before that.", "The database is at 004.")
    assert database_at_head.value(MADE) is False
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "004"
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "failed")


@pytest.mark.parametrize(
    "body",
    [
        f"    SQL = '{TABLE}; COMMIT'\n    op.execute(SQL)\n",
        f"    import textwrap\n    op.execute(textwrap.dedent('{TABLE}; COMMIT'))\n",
        f"    if op.get_bind():\n        op.execute(f'{TABLE}; COMMIT'.strip())\n",
        f"    def helper():\n        op.execute('{TABLE}; END')\n    helper()\n",
        f"    op.execute(sqltext='{TABLE}; COMMIT')\n",
    ],
)
def test_constants_are_read_wherever_they_stand(database_at_head: Database, project: Project, body: str) -> None:
    hidden(project, body)
    before = database_at_head.value(SCHEMA)
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "005 ends its own transaction")
    assert database_at_head.value(SCHEMA) == before


@pytest.mark.parametrize(("end", "stays"), [("ROLLBACK", False), ("COMMIT", True)])
def test_what_goes_round_everything_is_found_when_it_has_run(
    database_at_head: Database, project: Project, end: str, stays: bool
) -> None:
    hidden(project, f"    op.execute('{TABLE}')\n    {GOES_ROUND.format(end)}\n    op.execute('SELECT 1')\n")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "Revision 005 ended its own transaction", "The database is at 004.")
    assert "rolled back" not in done.err
    assert database_at_head.value(MADE) is stays
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "004"
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "failed")


def test_a_reset_does_not_say_that_everything_is_still_there(database_at_head: Database, project: Project) -> None:
    hidden(project, f"    op.execute('{TABLE}')\n    {GOES_ROUND.format('COMMIT')}\n")
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    said(done, 7, "Revision 005 ended its own transaction")
    assert "still there" not in done.err


@pytest.mark.parametrize("call", ["op.get_bind().commit()", "op.get_bind().rollback()", f"{DRIVER}.commit()"])
def test_a_reset_keeps_every_row_where_a_revision_would_end_it(
    database_at_head: Database, project: Project, call: str
) -> None:
    database_at_head.run("CREATE TABLE public.precious AS SELECT 1 AS id")
    hidden(project, f"    op.execute('{TABLE}')\n    {call}\n")
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    said(done, 7, "Revision 005 ends its own transaction")
    assert database_at_head.value("SELECT count(*) FROM public.precious") == 1
    assert log_of(database_at_head)[-1][1:] == ("reset", "failed")


def test_a_way_back_that_would_commit_is_rolled_back(database_at_head: Database, project: Project) -> None:
    path = project.add("005", TABLE, "SELECT 1", after="004")
    back = "op.execute('DROP TABLE five')\n    op.get_bind().commit()"
    path.write_text(path.read_text().replace("op.execute('SELECT 1')", back))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    said(database_at_head.alembic("downgrade", "004", cwd=project.root), 7, "(COMMIT)", "The database is at 005.")
    assert database_at_head.value(MADE) is True


def test_an_autocommit_block_is_no_end_and_a_reset_says_what_forbids_it(
    database_at_head: Database, project: Project
) -> None:
    hidden(project, f"    with op.get_context().autocommit_block():\n        op.execute('{TABLE}')\n")
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    said(done, 7, "Revision 005 leaves its transaction (autocommit_block)")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err


BLOCK = "    with op.get_context().autocommit_block():\n        op.execute('{}')\n"


@pytest.mark.parametrize("first", [f"    op.execute('{TABLE}')\n", f"    op.get_bind().exec_driver_sql('{TABLE}')\n"])
def test_an_autocommit_block_after_a_statement_is_refused_at_the_call(
    database_at_head: Database, project: Project, first: str
) -> None:
    hidden(project, first + BLOCK.format("VACUUM public.users"))
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "Revision 005 leaves its transaction (autocommit_block)", "rolled back", "transactional = False")
    assert database_at_head.value(MADE) is False
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "failed")
    printed = database_at_head.alembic("upgrade", "004:head", "--sql", cwd=project.root)
    said(printed, 7, "autocommit_block" if "get_bind" not in first else "it asks the database", "not whole")


def test_what_an_autocommit_block_has_sent_is_not_said_to_be_rolled_back(
    database_at_head: Database, project: Project
) -> None:
    stays = "what its autocommit_block has sent"
    for more, words in ((BLOCK.format("SELECT 1"), "W" + stays[1:]), ("    op.execute('SELECT 1/0')\n", stays)):
        hidden(project, BLOCK.format(TABLE.replace("TABLE", "TABLE IF NOT EXISTS")) + more)
        said(database_at_head.alembic("upgrade", "head", cwd=project.root), 7, words)
        assert database_at_head.value(MADE) is True


def test_what_a_revision_sets_ends_with_it(database_at_head: Database, project: Project) -> None:
    shown = "current_setting('lock_timeout'), current_setting('statement_timeout'), user"
    tell = f"DO $$ BEGIN RAISE NOTICE '% % %', {shown}; END $$"
    role = f"other_{database_at_head.name}"
    database_at_head.run(f"CREATE ROLE {role}")
    try:
        changes = f"SET lock_timeout = 0; SET statement_timeout = 0; SET ROLE {role}"
        project.add("005", changes, after="004")
        project.add("006", tell, after="005")
        project.add("007", "RESET ALL", after="006")
        project.add("008", tell, after="007")
        database_at_head.run(
            f"GRANT ALL ON SCHEMA public, neuraknot_db TO {role};"
            f" GRANT ALL ON ALL TABLES IN SCHEMA public, neuraknot_db TO {role}"
        )
        done = database_at_head.alembic("upgrade", "head", cwd=project.root)
        assert done.code == 0, done.err
        assert done.err.count("NOTICE:  2s 15min postgres\n") == 2, done.err
    finally:
        database_at_head.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_revision_that_closes_the_connection_is_told_so(database_at_head: Database, project: Project) -> None:
    path = project.add("005", "CREATE TABLE public.five ()", after="004")
    text = path.read_text()
    for way in (
        "op.get_bind().close()",
        "op.get_bind().invalidate()",
        "op.get_bind().detach()",
        "op.get_bind().connection.driver_connection.close()",
        "op.get_bind().__exit__(None, None, None)",
    ):
        path.write_text(text.replace("five ()')\n", f"five ()')\n    {way}\n"))
        done = database_at_head.alembic("upgrade", "head", cwd=project.root)
        said(
            done,
            7,
            "Revision 005 closes the connection",
            "was rolled back",
            "at 004. Take that out of alembic/versions",
        )
        assert "lost its connection" not in done.err
        assert database_at_head.value("SELECT to_regclass('public.five')") is None
    path.write_text(text)
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
