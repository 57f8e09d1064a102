"""Revisions that can't be in a transaction: interrupted, repaired, watched, and never two statements at once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Finished, Project
from tests.db.running import MIGRATOR, Running, held, log_of, running, wait_until

INDEX = "CREATE INDEX CONCURRENTLY IF NOT EXISTS users_by_name ON public.users (display_name)"
ALONE = "transactional = False"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('public.users_by_name')"
SESSIONS = f"FROM pg_stat_activity WHERE {MIGRATOR} AND query ~ '^CREATE INDEX'"
WAITS = f"SELECT count(*) {SESSIONS} AND wait_event_type = 'Lock'"


def with_index(project: Project) -> None:
    project.add("005", INDEX, "DROP INDEX CONCURRENTLY IF EXISTS public.users_by_name", after="004", extra=ALONE)


def ended(way: str, database: Database, migration: Running) -> Finished:
    if way == "backend":
        database.run(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
    else:
        migration.process.send_signal(getattr(signal, way))
    return migration.ended()


@pytest.mark.slow
@pytest.mark.parametrize(("way", "code"), [("SIGKILL", -9), ("SIGTERM", 143), ("backend", 6)])
def test_an_index_that_was_interrupted_is_built_anew(
    database_at_head: Database, project: Project, tmp_path: Path, way: str, code: int
) -> None:
    with_index(project)
    with (
        held(database_at_head, "INSERT INTO public.users (cognito_user_id, email, display_name) VALUES (1, 2, 3)"),
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration,
    ):
        wait_until(lambda: database_at_head.value(WAITS) == 1)
        done = ended(way, database_at_head, migration)
        assert done.code == code, done.err
        wait_until(lambda: database_at_head.value(f"SELECT count(*) {SESSIONS}") == 0)
    assert database_at_head.run(VALID) == [(False,)]
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "004"
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert "public.users_by_name was left invalid by a run that failed: it is built anew" in done.err
    assert database_at_head.run(VALID) == [(True,)]
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "succeeded")
    assert database_at_head.alembic("downgrade", "-1", cwd=project.root).code == 0
    assert database_at_head.run(VALID) == []


@pytest.mark.slow
def test_a_second_runner_that_waits_makes_no_deadlock(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    with_index(project)
    arguments = (database_at_head, "upgrade", "head")
    with (
        held(
            database_at_head, "INSERT INTO public.users (cognito_user_id, email, display_name) VALUES (1, 2, 3)"
        ) as other,
        running(*arguments, said=tmp_path / "first", cwd=project.root) as first,
    ):
        wait_until(lambda: database_at_head.value(WAITS) == 1)
        with running(*arguments, said=tmp_path / "second", cwd=project.root) as second:
            second.says("waiting for another migration")
            other.rollback()
            one, two = first.ended(), second.ended()
    assert (one.code, two.code) == (0, 0), one.err + two.err
    assert two.err.splitlines()[-1] == "at 005: nothing to do"
    assert database_at_head.run(VALID) == [(True,)]


@pytest.mark.slow
def test_it_waits_without_timeouts_and_tells_for_whom(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    with_index(project)
    limits = {"NEURAKNOT_LOCK_TIMEOUT": "100ms", "NEURAKNOT_STATEMENT_TIMEOUT": "500ms"}
    with (
        held(
            database_at_head, "INSERT INTO public.users (cognito_user_id, email, display_name) VALUES (1, 2, 3)"
        ) as other,
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, **limits) as migration,
    ):
        pid = other.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        migration.says(f"for 1, now pid {pid}, reports (postgres), in a transaction for ")
        migration.says("INSERT INTO public.users (cognito_user_id, email, display_name) VALUES (..., ..., ...)")
        other.rollback()
        done = migration.ended()
    assert done.code == 0, done.err
    assert "no lock in time" not in done.err


def test_several_statements_are_refused(database_at_head: Database, project: Project) -> None:
    project.add("005", f"{INDEX}; SELECT 1", after="004", extra=ALONE)
    before = database_at_head.value(SCHEMA)
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "005 is not transactional", "2 statements")
    assert database_at_head.value(SCHEMA) == before


def test_a_reset_says_up_to_where_it_is_all_or_nothing(database_at_head: Database, project: Project) -> None:
    with_index(project)
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    assert done.code == 0, done.err
    assert "revision 005 can't be in a transaction: the reset is all or nothing up to 004 only" in done.err
    assert database_at_head.run(VALID) == [(True,)]


DETACH = "ALTER TABLE IF EXISTS ONLY public.parts DETACH PARTITION public.part CONCURRENTLY"
PENDING = "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = 'public.part'::regclass"


@pytest.mark.slow
@pytest.mark.parametrize(("way", "code"), [("SIGKILL", -9), ("SIGTERM", 143), ("backend", 6)])
def test_a_partition_that_was_left_half_detached_is_detached(
    database_at_head: Database, project: Project, tmp_path: Path, way: str, code: int
) -> None:
    database_at_head.run(
        "CREATE TABLE public.parts (id int) PARTITION BY LIST (id);"
        " CREATE TABLE public.part PARTITION OF public.parts FOR VALUES IN (1)"
    )
    project.add("005", DETACH, "ALTER TABLE public.parts ATTACH PARTITION public.part FOR VALUES IN (1)", after="004")
    path = project.versions / "005_added.py"
    path.write_text(path.read_text().replace("down_revision", f"{ALONE}\ndown_revision", 1))
    session = f"FROM pg_stat_activity WHERE {MIGRATOR} AND query ~ 'DETACH PARTITION'"
    with (
        held(database_at_head, "SELECT FROM public.parts"),
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration,
    ):
        wait_until(lambda: database_at_head.run(PENDING) == [(True,)])
        if way == "backend":
            database_at_head.run(f"SELECT pg_terminate_backend(pid) {session}")
        else:
            migration.process.send_signal(getattr(signal, way))
        done = migration.ended()
        assert done.code == code, done.err
        if way != "SIGKILL":
            assert "public.part may have stayed half detached: the next run finishes that." in done.err
        wait_until(lambda: database_at_head.value(f"SELECT count(*) {session}") == 0)
    assert database_at_head.run(PENDING) == [(True,)]
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert "public.part was left half detached by a run that ended: that is finished" in done.err
    assert database_at_head.run(PENDING) == []
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "succeeded")


def test_a_partition_that_is_detached_already_is_told(database_at_head: Database, project: Project) -> None:
    database_at_head.run("CREATE TABLE public.parts (id int) PARTITION BY LIST (id); CREATE TABLE public.part (id int)")
    project.add("005", DETACH, after="004", extra=ALONE)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "is not a partition", "Where an earlier run has detached it, write that down with alembic stamp.")
