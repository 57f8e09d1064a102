"""A migration that is ended from outside: nothing half-done stays, whoever comes next goes on, and the log says it."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from neuraknot_db.database import interrupt, lock
from neuraknot_db.errors import InterruptedRunError
from tests.db.conftest import Database, Project
from tests.db.forking import BIN
from tests.db.killing import REVISIONS, Fork, generated_project, shape
from tests.db.running import EMPTIED, MIGRATOR, Running, held, log_of, running, wait_until
from tests.projects import PROJECT

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGALRM, 24)]
"""With their exit codes; the last is what the timer of a deadline sends, so that no test waits for a time."""

WITH_A_DEADLINE = {"NEURAKNOT_DEADLINE": str(time.time() + 86_400)}
SECONDS = 5.0
"""A task that ECS stops has 30 s; a loaded machine is slow."""

SESSIONS = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR}"
WAITS_FOR_A_LOCK = f"{SESSIONS} AND wait_event_type = 'Lock'"


def interrupted(command: Running, number: signal.Signals, code: int, *, words: str = "rolled back") -> None:
    started = time.monotonic()
    command.process.send_signal(number)
    done = command.ended()
    assert done.code == code, done.err
    assert time.monotonic() - started < SECONDS
    assert "Traceback" not in done.err
    assert words in done.err
    assert ("Error: Out of time: the deadline of " in done.err) == (code == 24)


def upgrading(
    database: Database, project: Project, folder: Path, **environ: str
) -> contextlib.AbstractContextManager[Running]:
    environ |= WITH_A_DEADLINE
    return running(database, "upgrade", "head", said=folder / "said", cwd=project.root, **environ)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_it_waits_for_a_tables_lock(
    database_at_head: Database, project: Project, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    project.add("005", "CREATE TABLE public.five (); LOCK TABLE public.users", after="004", extra="lock_timeout = '1h'")
    with (
        held(database_at_head, "SELECT count(*) FROM public.users"),
        upgrading(database_at_head, project, tmp_path) as migration,
    ):
        wait_until(lambda: database_at_head.value(WAITS_FOR_A_LOCK) == 1)
        interrupted(migration, number, code)
        wait_until(lambda: database_at_head.value(SESSIONS) == 0)
    assert database_at_head.value("SELECT to_regclass('public.five')") is None
    rows = log_of(database_at_head, "revision, outcome, error ~ 'rolled back'")
    assert rows[-1] == ("005", "interrupted", True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_in_the_pause_between_two_tries(
    database_at_head: Database, project: Project, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    project.add("005", "LOCK TABLE public.users", after="004", extra="lock_timeout = '50ms'")
    with (
        held(database_at_head, "SELECT count(*) FROM public.users"),
        upgrading(database_at_head, project, tmp_path, NEURAKNOT_LOCK_PAUSE="30s") as migration,
    ):
        migration.says("  held by pid")
        wait_until(lambda: len([row for row in log_of(database_at_head) if row[0] == "005"]) == 1)
        interrupted(migration, number, code)
    assert log_of(database_at_head, "revision, outcome, attempt")[-2:] == [
        ("005", "failed", 1),
        ("005", "interrupted", 2),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_it_waits_for_another_migration(
    database_at_head: Database, project: Project, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with database_at_head.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({lock.KEY})")
        with upgrading(database_at_head, project, tmp_path) as migration:
            migration.says("waiting for another migration")
            interrupted(migration, number, code, words="while it waited for another migration: nothing was changed.")


@pytest.fixture
def silent() -> Iterator[tuple[socket.socket, int]]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening, listening.getsockname()[1]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_it_connects(silent: tuple[socket.socket, int], number: signal.Signals, code: int) -> None:
    listening, port = silent
    environ = {
        **Database("127.0.0.1", port, "x", "").environment(),
        "DATABASE_URL": f"postgresql://u@127.0.0.1:{port}/x",
        **WITH_A_DEADLINE,
    }
    command = [str(BIN / "alembic"), "upgrade", "head"]
    process = subprocess.Popen(command, cwd=PROJECT, env=environ, stderr=subprocess.PIPE, text=True)
    accepted, _ = listening.accept()
    with accepted:
        started = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert time.monotonic() - started < SECONDS
    assert "Traceback" not in err


SLOW_COMMIT = """
CREATE TABLE public.five (id int);
CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON public.five DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.slow();
INSERT INTO public.five VALUES (1)"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_during_the_commit(
    database_at_head: Database, project: Project, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """There psycopg2 swallows what a signal's handler raises."""
    project.add("005", SLOW_COMMIT, after="004")
    with upgrading(database_at_head, project, tmp_path) as migration:
        wait_until(lambda: database_at_head.value(f"{SESSIONS} AND wait_event = 'PgSleep'") == 1)
        interrupted(migration, number, code)
    assert " revision 005 was rolled back." in migration.so_far
    assert "Hint: The database is at 004. Run the command again" in migration.so_far
    assert database_at_head.value("SELECT to_regclass('public.five')") is None
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "interrupted")


@pytest.mark.slow
def test_a_statement_of_a_reset(database_at_head: Database, project: Project, tmp_path: Path) -> None:
    database_at_head.run("INSERT INTO public.users (cognito_user_id, email, display_name) VALUES ('a', 'b', 'c')")
    project.add("005", "SELECT pg_sleep(60)", after="004")
    reset = ("reset", "--confirm", database_at_head.name)
    with running(
        database_at_head, *reset, said=tmp_path / "said", program="neuraknot-db", cwd=project.root
    ) as migration:
        wait_until(lambda: database_at_head.value(f"{SESSIONS} AND wait_event = 'PgSleep'") == 1)
        interrupted(migration, signal.SIGTERM, 143)
    assert database_at_head.value("SELECT count(*) FROM public.users") == 1
    assert log_of(database_at_head)[-1] == (None, "reset", "interrupted")


@pytest.mark.slow
def test_the_backend_of_a_killed_client_ends(database_at_head: Database, project: Project, tmp_path: Path) -> None:
    project.add("005", "CREATE TABLE public.five (); SELECT pg_sleep(600)", after="004")
    with running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration:
        wait_until(lambda: database_at_head.value(f"{SESSIONS} AND wait_event = 'PgSleep'") == 1)
        migration.process.kill()
        started = time.monotonic()
        wait_until(lambda: database_at_head.value(SESSIONS) == 0, seconds=SECONDS)
        assert time.monotonic() - started < SECONDS
    assert database_at_head.value("SELECT to_regclass('public.five')") is None


@pytest.mark.slow
def test_a_backend_that_is_terminated_is_in_the_log(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "CREATE TABLE public.five (); SELECT pg_sleep(600)", after="004")
    with running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration:
        sleeping = f"FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
        wait_until(lambda: database_at_head.value(f"SELECT count(*) {sleeping}") == 1)
        database_at_head.run(f"SELECT pg_terminate_backend(pid) {sleeping}")
        done = migration.ended()
    assert done.code == 6, done.err
    assert "Hint: The database is at 004. Run the command again." in done.err
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "failed")
    assert database_at_head.value("SELECT to_regclass('public.five')") is None


def test_at_any_line_of_taking_the_signals_over() -> None:
    """Whoever handled them before hears of it, or the run does: never a traceback, and never nobody."""
    heard: list[int] = []
    raised = 0
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        for line in itertools.count(1):
            told = _signalled_at(line)
            if told is None:
                break
            raised += told
            assert raised + len(heard) == line
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGTERM, before)
    assert raised > 0
    assert len(heard) > 0


def _signalled_at(wanted: int) -> bool | None:
    """Whether the run heard of a SIGTERM at that line, counted from the first; None where there are fewer."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == wanted:
            signal.raise_signal(signal.SIGTERM)
        return trace

    try:
        sys.settrace(trace)
        with interrupt.cancelling():
            sys.settrace(None)
    except InterruptedRunError:
        return True
    finally:
        sys.settrace(None)
    return False if lines >= wanted else None


ROUNDS = 105
"""For each server, so 210 in all."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_any_moment_the_schema_is_one_revisions_and_the_next_run_reaches_head(
    database: Database, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    record_property("seed", seed)
    print(f"seed {seed}")
    chance = random.Random(seed)
    config = generated_project(tmp_path)
    fork = Fork(database, config)

    shapes = {"": shape(database)}
    for _ in range(REVISIONS):
        assert fork.run("upgrade", "+1") == 0, fork.said
        shapes[fork.revision()] = shape(database)
    assert len(shapes) == REVISIONS + 1
    assert fork.run("downgrade", "base") == 0, fork.said
    assert shape(database) == shapes[""]
    started = time.monotonic()
    assert fork.run("upgrade", "head") == 0, fork.said
    whole = time.monotonic() - started

    stopped: dict[str, int] = {}
    for number in range(ROUNDS):
        database.run(EMPTIED)
        moment, way = chance.uniform(0, whole), chance.choice(("kill", "terminate", "backend"))
        code = fork.run("upgrade", "head", after=moment, way=way)
        wait_until(lambda: database.value(SESSIONS) == 0)
        assert code in {"kill": {0, -9}, "terminate": {0, 143, -15}, "backend": {0, 6}}[way], (
            seed,
            number,
            way,
            code,
            fork.said,
        )
        reached = fork.revision()
        assert shape(database) == shapes[reached], (seed, number, way, moment, reached)
        stopped[reached] = stopped.get(reached, 0) + 1
        assert fork.run("upgrade", "head") == 0, (seed, number, way, moment, fork.said)
        assert shape(database) == shapes["008"], (seed, number)
    # Otherwise nothing was interrupted, and nothing proved.
    assert len(stopped) > 3, stopped
