"""What a revision outside of a transaction must not do: block, drop somebody's index, or be of one run only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project
from tests.db.running import held, log_of, running, wait_until

ALONE = "transactional = False"
BUILD = "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_users_state ON public.users (status)"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.idx_users_state')"
WRITER = "UPDATE public.users SET status = status"
"""Whoever has written is waited for by CREATE INDEX CONCURRENTLY, when the index is there and not valid yet."""


@pytest.fixture
def building(project: Project) -> Project:
    project.add("005", BUILD, "DROP INDEX CONCURRENTLY IF EXISTS public.idx_users_state", after="004", extra=ALONE)
    return project


@contextlib.contextmanager
def somebody_builds(database: Database) -> Iterator[None]:
    """The same index, built by hand at this moment."""

    def build() -> None:
        with contextlib.suppress(DBAPIError):
            database.run(BUILD)

    thread = threading.Thread(target=build)
    with held(database, WRITER):
        thread.start()
        wait_until(lambda: database.run(VALID) == [(False,)])
        yield
    thread.join()


def test_an_index_that_somebody_else_is_building_is_left_alone(database_at_head: Database, building: Project) -> None:
    with somebody_builds(database_at_head):
        done = database_at_head.alembic("upgrade", "head", cwd=building.root)
        said(done, 4, "The index public.idx_users_state is invalid, and another session builds an index of that table.")
        assert "  built by pid " in done.err
        assert "or end it: SELECT pg_terminate_backend(" in done.err
    assert database_at_head.run(VALID) == [(True,)]


def test_a_valid_index_is_not_built_again(database_at_head: Database, building: Project) -> None:
    """As after a run that was killed between the index and its record."""
    database_at_head.run(BUILD)
    before = database_at_head.value("SELECT 'public.idx_users_state'::regclass::oid")
    assert database_at_head.alembic("upgrade", "head", cwd=building.root).code == 0
    assert database_at_head.value("SELECT 'public.idx_users_state'::regclass::oid") == before


def test_an_invalid_index_of_that_name_on_another_table_is_not_dropped(
    database_at_head: Database, building: Project
) -> None:
    database_at_head.run("CREATE SCHEMA other CREATE TABLE users (status int)")
    database_at_head.run("INSERT INTO other.users VALUES (1), (1)")
    with pytest.raises(DBAPIError):
        database_at_head.run("CREATE UNIQUE INDEX CONCURRENTLY idx_users_state ON other.users (status)")
    assert database_at_head.alembic("upgrade", "head", cwd=building.root).code == 0
    assert database_at_head.value("SELECT to_regclass('other.idx_users_state') IS NOT NULL")


@pytest.mark.slow
def test_where_it_would_stand_in_the_way_it_has_timeouts_and_is_tried_again(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "ALTER TABLE public.users ADD COLUMN IF NOT EXISTS note text", after="004", extra=ALONE)
    limits = {"NEURAKNOT_LOCK_TIMEOUT": "200ms", "NEURAKNOT_LOCK_PAUSE": "100ms"}
    with (
        held(database_at_head, WRITER) as writer,
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, **limits) as migration,
    ):
        migration.says("no lock in time, try 2 of 10")
        writer.rollback()
        assert migration.ended().code == 0, migration.so_far
    assert [row[2] for row in log_of(database_at_head) if row[0] == "005"][:2] == ["failed", "failed"]
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "succeeded")


@pytest.mark.parametrize(
    ("upgrade", "extra", "code", "words"),
    [
        ("-- nothing", ALONE, 5, "its upgrade holds 0 statements"),
        ("CREATE INDEX CONCURRENTLY ON public.users (status)", ALONE, 5, "an index without a name"),
        (BUILD, "transactional = 'no'", 2, "transactional of revision 006"),
        ("ALTER TABLE public.users ADD x int", f"{ALONE}\nlock_timeout = '0'", 2, "lock_timeout of revision 006"),
        ("VACUUM (FULL) public.users", f"{ALONE}\nlock_timeout = 0", 2, "no limit would stop"),
    ],
)
def test_what_can_not_be_run_again_is_refused_before_anything_runs(
    database_at_head: Database, project: Project, upgrade: str, extra: str, code: int, words: str
) -> None:
    project.add("005", "CREATE TABLE public.five (id int)", after="004")
    project.add("006", upgrade, after="005", extra=extra)
    before = database_at_head.value(SCHEMA)
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), code, words)
    assert database_at_head.value(SCHEMA) == before


PENDING = "    with open('runs', 'a') as runs:\n        runs.write('x')\n"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("    for _ in range(2):\n        op.execute('ANALYZE')\n", 5, "its upgrade holds 2 statements"),
        ("    for _ in ():\n        op.execute('ANALYZE')\n", 5, "its upgrade holds 0 statements"),
        ("    op.execute('ANALYZE; ' + 'ANALYZE')\n    print()\n", 5, "its upgrade holds 2 statements"),
        ("    op.get_bind().exec_driver_sql('ANALYZE')\n    op.execute('ANALYZE')\n", 5, "asks for the connection"),
        (
            f"    with op.get_context().autocommit_block():\n        op.execute('{BUILD}')\n",
            5,
            "asks for the connection",
        ),
        ("    print()\n    op.execute('CREATE INDEX CONCURRENTLY ON public.users (status)')\n", 5, "without a name"),
        ("    op.execute('DISCARD ' + 'ALL')\n    print()\n", 5, "gives up the lock"),
        (f"    op.execute('{BUILD}')\n    raise ValueError('x')\n", 7, "failed and was rolled back: ValueError: x."),
        (f"    op.execute('{BUILD}')\n    raise SystemExit\n", 7, "was rolled back: it called sys.exit()."),
    ],
)
def test_nothing_is_sent_before_its_function_has_returned(
    database_at_head: Database, project: Project, body: str, code: int, words: str
) -> None:
    path = project.add("005", "SELECT 1", after="004", extra=ALONE)
    path.write_text(path.read_text().replace("    op.execute('SELECT 1')\n", body, 1))
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), code, words)
    assert database_at_head.run(VALID) == []
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "004"
    # A refusal says that nothing was changed.
    project.add("005", "SELECT 1", after="004")
    path = project.add("006", "SELECT 1", after="005", extra=ALONE)
    path.write_text(path.read_text().replace("    op.execute('SELECT 1')\n", body, 1))
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 7, words, "The database is at 005.")
    assert database_at_head.run(VALID) == []


def test_its_statement_may_be_made_when_it_runs(database_at_head: Database, project: Project) -> None:
    path = project.add("005", "SELECT 1", after="004", extra=f"{ALONE}\nlock_timeout = 0")
    build = "    op.create_index('idx_users_state', 'users', ['status'], postgresql_concurrently=True)\n"
    path.write_text(path.read_text().replace("    op.execute('SELECT 1')\n", PENDING + build, 1))
    printed = database_at_head.alembic("upgrade", "004:head", "--sql", cwd=project.root)
    assert "COMMIT;\n\nCREATE INDEX CONCURRENTLY idx_users_state ON users (status);\n\nBEGIN;" in printed.out, (
        printed.err
    )
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.run(VALID) == [(True,)]
    assert (project.root / "runs").read_text() == "xx", "once for the script, once for the upgrade"


def test_a_reset_that_fails_behind_it_says_where_the_database_is(database_at_head: Database, building: Project) -> None:
    building.add("006", "SELECT 1/0", after="005")
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=building.root)
    said(done, 7, "Revision 006", "The database is at 005.")
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "005"


def test_vacuum_full_stands_in_the_way_no_longer_than_lock_timeout(
    database_at_head: Database, project: Project
) -> None:
    project.add("005", "VACUUM FULL public.users", after="004", extra=ALONE)
    limits = {"NEURAKNOT_LOCK_TIMEOUT": "200ms", "NEURAKNOT_LOCK_TRIES": "1"}
    with held(database_at_head, WRITER):
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, **limits)
    said(done, 4, "Revision 005 could not get a lock in time outside of a transaction")
    assert "rolled back" not in done.err


def test_a_unique_index_over_duplicates_is_not_said_to_be_rolled_back(
    database_at_head: Database, project: Project
) -> None:
    build = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS idx_users_state ON public.users (status)"
    project.add("005", build, after="004", extra=ALONE)
    database_at_head.run(
        "INSERT INTO public.users (cognito_user_id, email, display_name) VALUES ('a', 'a', 'a'), ('b', 'b', 'b')"
    )
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "Revision 005 failed outside of a transaction: could not create unique index")
    assert "The index idx_users_state may have stayed invalid: the next run drops it and builds it anew." in done.err
    assert "rolled back" not in done.err
    assert database_at_head.run(VALID) == [(False,)]
    assert log_of(database_at_head, "error !~ 'rolled back'")[-1] == (True,)
    database_at_head.run("DELETE FROM public.users WHERE email = 'b'")
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    assert database_at_head.run(VALID) == [(True,)]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["INDEX CONCURRENTLY public.users_pkey", "TABLE CONCURRENTLY public.users"])
def test_what_an_interrupted_reindex_left_goes_with_the_next_run(
    database_at_head: Database, project: Project, tmp_path: Path, what: str
) -> None:
    project.add("005", f"REINDEX {what}", after="004", extra=ALONE)
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = 'public.users'::regclass"
    with (
        held(database_at_head, WRITER),
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration,
    ):
        wait_until(lambda: database_at_head.value(invalid) != 0)
        migration.process.terminate()
        done = migration.ended()
    said(done, 143, "Terminated: revision 005 was ended, outside of a transaction.", "name ends in _ccnew")
    assert database_at_head.value(invalid) != 0
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.value(invalid) == 0


def test_a_reindex_leaves_alone_what_others_left(database_at_head: Database, project: Project) -> None:
    database_at_head.run(
        "INSERT INTO users (cognito_user_id, email, display_name) VALUES ('a', 'a', 'a'), ('b', 'b', 'b')"
    )
    project.add(
        "005", "CREATE UNIQUE INDEX CONCURRENTLY other_ccnew ON public.users (status)", after="004", extra=ALONE
    )
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 7
    project.add("005", "REINDEX INDEX CONCURRENTLY public.users_pkey", after="004", extra=ALONE)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.value("SELECT to_regclass('public.other_ccnew') IS NOT NULL")


def test_an_index_that_is_there_was_not_left_by_the_failure(database_at_head: Database, project: Project) -> None:
    database_at_head.run(BUILD)
    project.add("005", BUILD.replace(" IF NOT EXISTS", ""), after="004", extra=ALONE)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "already exists", "The index idx_users_state was not begun", "Write IF NOT EXISTS")
    assert "invalid" not in done.err
    assert database_at_head.run(VALID) == [(True,)]
