"""A server that stops answering: a run that is told to end does, whatever it waits for, and claims to know nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neuraknot_db import settings
from neuraknot_db.database import engine, session
from tests.db.conftest import Database, Project, Server
from tests.db.forking import BIN
from tests.db.proxies import Nth, Proxy, is_commit, proxied
from tests.db.running import MIGRATOR, log_of, running, wait_until
from tests.projects import PROJECT

ENDED = 9.0
"""Seconds: five until the process ends itself, and what several at once on two cores add."""

AT_ONCE = 3.0
NOT_KNOWN = "the run did not end and was cut off: whether what was in progress is committed is not known."
EVERY = 5
"""Of a run's requests, each of this many is frozen."""
AT_A_TIME = 6

Make = Callable[..., Database]


@dataclass
class Frozen:
    """An upgrade whose network stops at a request."""

    number: int
    database: Database
    proxy: Proxy
    process: subprocess.Popen[str]

    def ends(self, code: int, *, within: float = ENDED) -> dict[str, object]:
        """What it says when it is told to end, and does."""
        started = time.monotonic()
        out, err = self.process.communicate(timeout=60)
        where = f"at {self.number}, {self.proxy.seen[-1]}:\n{err}"
        assert self.process.returncode == code, where
        assert time.monotonic() - started < within, where
        assert "Traceback" not in err, where
        assert "rolled back" not in err, where
        assert err.count("Hint: ") == 1, where
        result: dict[str, object] = json.loads(out.splitlines()[-1])
        assert result["exit_code"] == code, where
        if result["outcome"] == "unknown":
            assert result["after"] is None, where
            assert "is not known" in err, where
        return result


@contextlib.contextmanager
def frozen(database: Database, number: int, **environ: str) -> Iterator[Frozen]:
    """An upgrade whose network stops at a request, counted from 1, once it has."""
    with proxied(database, Nth(number, "freeze", meant=lambda _text: True)) as (proxy, through):
        process = subprocess.Popen(
            [str(BIN / "alembic"), "upgrade", "head"],
            cwd=PROJECT,
            env=through.environment(NEURAKNOT_RESULT="json", **environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Frozen(number, database, proxy, process)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def make(server_15: Server, request: pytest.FixtureRequest) -> Iterator[Make]:
    maintenance, made = server_15.database("postgres"), [""][:0]

    def database() -> Database:
        made.append(f"frozen_{os.getpid()}_{len(made)}")
        maintenance.run(f'CREATE DATABASE "{made[-1]}"')
        return server_15.database(made[-1])

    yield database
    for name in made:
        maintenance.run(f'DROP DATABASE "{name}" WITH (FORCE)')


def requests_of_a_run(database: Database) -> list[str]:
    with proxied(database, lambda _text: "pass") as (proxy, through):
        done = through.alembic("upgrade", "head")
    assert done.code == 0, done.err
    return proxy.seen


@pytest.mark.slow
def test_it_ends_whatever_it_waits_for(make: Make) -> None:
    count = len(requests_of_a_run(make()))
    numbers = list(range(1, count + 1, EVERY))
    while numbers:
        batch, numbers = numbers[:AT_A_TIME], numbers[AT_A_TIME:]
        with contextlib.ExitStack() as stack:
            stopped = [stack.enter_context(frozen(make(), number)) for number in batch]
            for each in stopped:
                assert each.proxy.frozen.wait(60)
            for each in stopped:
                each.process.send_signal(signal.SIGTERM)
            results = [each.ends(143) for each in stopped]
        assert "unknown" in {result["outcome"] for result in results}
        for each in stopped:  # the schema is one revision's, and the next run goes on
            again = each.database.alembic("upgrade", "head")
            assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_it_at_once(make: Make, first: signal.Signals, second: signal.Signals) -> None:
    commits = [number for number, text in enumerate(requests_of_a_run(make()), 1) if is_commit(text)]
    with frozen(make(), commits[3]) as stopped:
        assert stopped.proxy.frozen.wait(60)
        stopped.process.send_signal(first)
        time.sleep(0.3)  # two signals of a kind that come together are one
        stopped.process.send_signal(second)
        assert stopped.ends(128 + first, within=AT_ONCE)["outcome"] == "unknown"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the server's processes belong to another user")
@pytest.mark.parametrize("program", ["alembic", "neuraknot-db"])
def test_a_stopped_backend(database_at_head: Database, project: Project, tmp_path: Path, program: str) -> None:
    project.add("005", "CREATE TABLE public.five (); SELECT pg_sleep(600)", after="004")
    sleeping = f"FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
    with running(
        database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, program=program
    ) as migration:
        wait_until(lambda: database_at_head.value(f"SELECT count(*) {sleeping}") == 1)
        backend = int(str(database_at_head.value(f"SELECT pid {sleeping}")))
        os.kill(backend, signal.SIGSTOP)
        try:
            started = time.monotonic()
            migration.process.send_signal(signal.SIGTERM)
            done = migration.ended()
        finally:
            os.kill(backend, signal.SIGCONT)
    assert done.code == 143, done.err
    assert time.monotonic() - started < ENDED
    assert NOT_KNOWN in done.err
    assert "Ask it once it answers: alembic current" in done.err
    wait_until(lambda: database_at_head.value(f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR}") == 0)
    assert database_at_head.value("SELECT to_regclass('public.five')") is None
    assert log_of(database_at_head)[-1] == ("004", "upgrade", "succeeded")


@pytest.mark.slow
def test_who_reads_its_output_may_have_stopped_reading(make: Make) -> None:
    commits = [number for number, text in enumerate(requests_of_a_run(make()), 1) if is_commit(text)]
    with proxied(make(), Nth(commits[2], "freeze", meant=lambda _text: True)) as (proxy, through):
        reading, writing = os.pipe()
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(writing, False)
            while os.write(writing, b"x" * 4096):
                pass
        os.set_blocking(writing, True)
        process = subprocess.Popen(
            [str(BIN / "alembic"), "-q", "upgrade", "head"],
            cwd=PROJECT,
            env=through.environment(NEURAKNOT_RESULT="json"),
            stdout=writing,
            stderr=writing,
        )
        try:
            assert proxy.frozen.wait(60)
            process.send_signal(signal.SIGTERM)
            assert process.wait(ENDED) == 143
        finally:
            process.kill()
            for each in (reading, writing):
                os.close(each)


@pytest.mark.slow
def test_a_server_without_a_connection_to_spare_is_asked_to_cancel_all_the_same(
    server_15: Server, make: Make, tmp_path: Path, project: Project
) -> None:
    database = make()
    project.add("005", "SELECT pg_sleep(600)", after="004")
    name, owner = database.name, f"one_{os.getpid()}"
    database.run(f'CREATE ROLE {owner} LOGIN CONNECTION LIMIT 1; ALTER DATABASE "{name}" OWNER TO {owner}')
    try:
        with running(database.as_user(owner), "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration:
            sleeping = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
            wait_until(lambda: database.value(sleeping) == 1)
            migration.process.send_signal(signal.SIGTERM)
            done = migration.ended()
        assert done.code == 143
        assert "Terminated: revision 005 was rolled back." in done.err
    finally:
        database.run(f'ALTER DATABASE "{name}" OWNER TO postgres; REASSIGN OWNED BY {owner} TO postgres')
        database.run(f"DROP OWNED BY {owner}; DROP ROLE {owner}")


def test_a_peer_that_vanished_is_noticed_with_data_in_flight_too(
    server_15: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxied(make(), lambda _text: "pass") as (_, through):
        monkeypatch.setenv("DATABASE_URL", through.url)
        where = settings.read()
        assert where is not None
        with session.open_session(where) as connection:
            with socket.socket(fileno=os.dup(session.driver(connection).fileno())) as ours:
                waits = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert 0 < waits < 60_000
            assert connection.exec_driver_sql(
                "SELECT setting FROM pg_settings WHERE name = 'tcp_user_timeout'"
            ).scalar()
    assert engine.CONNECT_TIMEOUT < 60
