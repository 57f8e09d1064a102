"""What is done beside the migration's session: the check afterwards, and recording a failure anew."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project
from tests.db.running import MIGRATOR, held, log_of, running, wait_until

BRISK = {"NEURAKNOT_LOCK_TIMEOUT": "500ms", "NEURAKNOT_LOCK_PAUSE": "100ms"}
LOCKED = "LOCK TABLE public.users IN ACCESS EXCLUSIVE MODE"
CHECKS = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event_type = 'Lock'"


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "code"), [("test", 0), ("prod", 4)])
def test_a_check_that_finds_no_lock_is_no_failed_migration(
    database: Database, project: Project, environment: str, code: int
) -> None:
    arguments = {"cwd": project.root, "NEURAKNOT_ENV": environment, **BRISK}
    assert database.alembic("upgrade", "head", **arguments).code == 0  # type: ignore[arg-type]
    compared(project)
    started = time.monotonic()
    with held(database, LOCKED):
        done = database.alembic("upgrade", "head", **arguments)  # type: ignore[arg-type]
    assert time.monotonic() - started < 20
    assert done.code == code, done.err
    assert "at 005: 1 revision in" in done.err
    assert "The run is committed, at 005, but its schema was not compared" in done.err
    assert "rolled back" not in done.err
    assert log_of(database)[-1] == ("005", "upgrade", "succeeded")


def compared(project: Project) -> None:
    """A revision that changes nothing, with a snapshot."""
    project.add("005", "SELECT 1", after="004")
    snapshots = project.root / "alembic" / "snapshots"
    (snapshots / "005.json").write_bytes((snapshots / "004.json").read_bytes())


@pytest.mark.slow
def test_a_signal_ends_the_check_and_says_that_everything_is_committed(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    compared(project)
    with (
        held(database_at_head, LOCKED),
        running(
            database_at_head,
            *("upgrade", "head"),
            said=tmp_path / "said",
            cwd=project.root,
            NEURAKNOT_LOCK_TIMEOUT="1h",
        ) as migration,
    ):
        migration.says("at 005: 1 revision in")
        wait_until(lambda: database_at_head.value(CHECKS) == 1)
        assert database_at_head.value(f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR}") == 2
        started = time.monotonic()
        migration.process.send_signal(signal.SIGTERM)
        done = migration.ended()
    said(done, 143, "Terminated when everything was committed.", "The database is at 005.")
    assert time.monotonic() - started < 5
    assert "rolled back" not in done.err


@pytest.mark.slow
def test_a_log_that_somebody_locks_does_not_keep_a_failure_waiting(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "SELECT pg_sleep(2); SELECT 1/0", after="004")
    with running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, **BRISK) as migration:
        sleeping = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
        wait_until(lambda: database_at_head.value(sleeping) == 1)
        with held(database_at_head, "LOCK TABLE neuraknot_db.migration_log"):
            done = migration.ended(seconds=20)
    said(done, 7, "division by zero", "The database is at 004.")
    assert "the failure could not be recorded in the log" in done.err


def test_a_roles_own_parameters_do_not_reach_the_check(database: Database, project: Project) -> None:
    for parameter in ("statement_timeout = '50ms'", "quote_all_identifiers = on"):
        database.run(f'ALTER DATABASE "{database.name}" SET {parameter}')
    done = database.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_ENV="prod")
    assert done.code == 0, done.err
    assert "at 004: 4 revisions" in done.err


def test_two_heads_are_compared_with_nothing(database: Database, project: Project) -> None:
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SELECT 1", after="004")
    done = database.alembic("upgrade", "heads", cwd=project.root, NEURAKNOT_ENV="prod")
    assert done.code == 0, done.err
    assert database.run("SELECT version_num FROM public.alembic_version ORDER BY 1") == [("005",), ("006",)]


@pytest.mark.parametrize(("environment", "code"), [("test", 0), ("prod", 6)])
def test_a_check_without_a_connection_is_no_failed_migration(database: Database, environment: str, code: int) -> None:
    role = f"one_connection_{os.getpid()}"
    database.run(f'CREATE ROLE {role} LOGIN CONNECTION LIMIT 1; ALTER DATABASE "{database.name}" OWNER TO {role}')
    try:
        done = database.as_user(role).alembic("upgrade", "head", NEURAKNOT_ENV=environment)
        assert done.code == code, done.err
        assert "The run is committed, at 004, but its schema was not compared" in done.err
        assert ("neuraknot-db verify" in done.err) == bool(code)
        assert log_of(database)[-1] == ("004", "upgrade", "succeeded")
    finally:
        database.run(f'ALTER DATABASE "{database.name}" OWNER TO postgres')
        database.run(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_revision_without_a_snapshot_is_said_to_be_compared_with_nothing(
    database: Database, project: Project
) -> None:
    project.add("005", "SELECT 1", after="004")
    done = database.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_ENV="prod")
    assert done.code == 0, done.err
    assert "the schema was compared with nothing: 005 has no snapshot" in done.err
