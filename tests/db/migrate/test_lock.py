"""One migration at a time for a database: the others wait, and find nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neuraknot_db.database import lock
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project
from tests.db.running import EMPTIED, MIGRATOR, log_of, running, wait_until

AT_ONCE = 10
ROUNDS = 10
"""For each server, so 20 in all."""

EACH_ONCE = [(revision, "upgrade", "succeeded", 1) for revision in ("001", "002", "003", "004")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_at_once_all_succeed_and_each_revision_runs_once(new_database: Callable[..., Database]) -> None:
    database = new_database()
    for _ in range(ROUNDS):
        programs = ("alembic", "neuraknot-db") * (AT_ONCE // 2)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            done = list(threads.map(lambda program: database.program(program, "upgrade", "head"), programs))
        told = [each.err for each in done]
        assert [each.code for each in done] == [0] * AT_ONCE, told
        assert log_of(database, "revision, direction, outcome, attempt") == EACH_ONCE
        assert sorted(text.splitlines()[-1] == "at 004: nothing to do" for text in told) == [False] + [True] * 9
        database.run(EMPTIED)


@pytest.mark.slow
def test_the_wait_is_bounded_and_names_who_holds_the_lock(database_at_head: Database) -> None:
    before = log_of(database_at_head)
    with database_at_head.connect() as other:
        other.exec_driver_sql("SET application_name = 'another migration'")
        pid = other.exec_driver_sql(f"SELECT pg_backend_pid() FROM pg_advisory_lock({lock.KEY})").scalar_one()
        for command in (["upgrade", "head"], ["downgrade", "-1"], ["reset", "--confirm", database_at_head.name]):
            done = database_at_head.neuraknot_db(*command, NEURAKNOT_LOCK_WAIT="300ms")
            said(done, 4, f"pid {pid}, another migration, connected since 20", "neuraknot-db log")
            assert f"waiting for another migration: pid {pid}, another migration" in done.err
    assert log_of(database_at_head) == before


@pytest.mark.slow
def test_the_next_one_goes_on_once_the_lock_is_free(database: Database, tmp_path: Path) -> None:
    with database.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({lock.KEY})")
        with running(database, "upgrade", "head", said=tmp_path / "said") as waiting:
            waiting.says("waiting for another migration")
            assert database.value("SELECT to_regclass('public.alembic_version')") is None
            other.exec_driver_sql(f"SELECT pg_advisory_unlock({lock.KEY})")
            assert waiting.ended().code == 0
    assert database.value("SELECT version_num FROM alembic_version") == "004"


@pytest.mark.slow
@pytest.mark.parametrize("moved", ["002", "004"], ids=["still possible", "too far by then"])
def test_a_relative_target_is_not_taken_once_the_version_moved(database: Database, tmp_path: Path, moved: str) -> None:
    assert database.alembic("upgrade", "001").code == 0
    with database.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({lock.KEY})")
        with running(database, "upgrade", "+2", said=tmp_path / "said") as waiting:
            waiting.says("waiting for another migration")
            other.exec_driver_sql(f"UPDATE public.alembic_version SET version_num = '{moved}'")
            other.exec_driver_sql(f"SELECT pg_advisory_unlock({lock.KEY})")
            done = waiting.ended()
    said(done, 4, f"from 001 to {moved}", "relative", "Name the revision")
    assert database.value("SELECT version_num FROM alembic_version") == moved


@pytest.mark.slow
def test_the_one_who_waits_holds_no_snapshot(database_at_head: Database, tmp_path: Path) -> None:
    """CREATE INDEX CONCURRENTLY waits for every older snapshot: the two would deadlock."""
    with database_at_head.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({lock.KEY})")
        with running(database_at_head, "upgrade", "head", said=tmp_path / "said") as waiting:
            waiting.says("waiting for another migration")
            wait_until(
                lambda: (
                    database_at_head.run(
                        f"SELECT state, backend_xmin, wait_event_type FROM pg_stat_activity WHERE {MIGRATOR}"
                    )
                    == [("idle", None, "Client")]
                )
            )
            other.exec_driver_sql(f"SELECT pg_advisory_unlock({lock.KEY})")
            assert waiting.ended().code == 0


def test_the_lock_belongs_to_one_database(new_database: Callable[..., Database]) -> None:
    busy, free = new_database(), new_database()
    with busy.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({lock.KEY})")
        assert free.alembic("upgrade", "head", NEURAKNOT_LOCK_WAIT="0").code == 0


@pytest.mark.slow
def test_the_lock_is_held_from_the_first_look_to_the_last_commit(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "SELECT pg_sleep(60)", after="004")
    with running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root):
        sleeping = f"SELECT pid FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
        wait_until(lambda: database_at_head.run(sleeping))
        holder = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND ({sleeping}) = pid"
        assert database_at_head.run(holder) == database_at_head.run(sleeping)
