"""A run that has to be over at a time ends by itself: it says so, and what became of its work.

More of the places where a run waits are in `test_interrupt`. Where the end has to come at a moment, the timer's signal
is sent by hand: a test that waits for a time is slow, and wrong on a busy machine.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neuraknot_db import settings
from neuraknot_db.database import interrupt
from neuraknot_db.errors import InterruptedRunError, UsageError
from tests.db.conftest import Database, Project, Server
from tests.db.forking import BIN
from tests.db.proxies import Nth, is_commit, proxied
from tests.db.running import MIGRATOR, held, log_of, running, wait_until
from tests.projects import PROJECT

SESSIONS = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR}"
SLEEPING = f"{SESSIONS} AND wait_event = 'PgSleep'"
OUT_OF_TIME = re.compile(r"Error: Out of time: the deadline of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC passed; (.*)\n")


def hence(seconds: float) -> str:
    return str(math.ceil(time.time() + seconds))


@pytest.mark.parametrize("text", ["", "  "])
def test_without_a_time_there_is_no_deadline(text: str) -> None:
    assert settings.deadline({"NEURAKNOT_DEADLINE": text}) is None


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_time_to_come_is_one(blank: str) -> None:
    text = hence(60)
    assert settings.deadline({"NEURAKNOT_DEADLINE": f"{blank}{text}{blank}"}) == float(text)
    assert settings.deadline({"NEURAKNOT_DEADLINE": f"{text}.5"}) == float(text) + 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(
            (text, "is not a time in seconds since 1970")
            for text in ("nan", "inf", "-1", "1e9", "17:30", "１２", "0x1")
        ),
        ("1795800000000", "is not a time in seconds since 1970"),  # milliseconds
        ("9999999999", "The deadline of 2286-11-20 17:46:39 UTC is too far away: it is 20"),
        ("0", "The deadline of 1970-01-01 00:00:00 UTC has passed: it is 20"),
        # A name of its own: workers that collect it a second apart would have two.
        pytest.param(hence(-5), " UTC has passed: it is 20", id="five seconds ago"),
    ],
)
def test_any_other_is_refused_with_the_next_command(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.deadline({"NEURAKNOT_DEADLINE": text})
    assert words in caught.value.message
    assert ("unset NEURAKNOT_DEADLINE" if " UTC " in words else "export NEURAKNOT_DEADLINE=$((") in str(
        caught.value.hint
    )


def test_behind_the_work_there_is_none_any_more() -> None:
    """It would kill what comes then without a word."""
    before = signal.getsignal(signal.SIGALRM)
    with interrupt.cancelling():
        interrupt.end_at(time.time() + 3600)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 3000
        assert re.fullmatch(r", until \d.* UTC \(in \d.*\)", interrupt.until())
    assert (signal.getitimer(signal.ITIMER_REAL), interrupt.until()) == ((0.0, 0.0), "")
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_cleans_up_is_not_hit_by_the_request_to_cancel() -> None:
    """So nothing is raised before that is sent."""
    done, never = list[str](), threading.Event()

    def cancel() -> None:
        never.wait(0.1)
        done.append("sent")

    def work() -> None:
        with interrupt.cancelling(cancel):
            interrupt.end_at(time.time())
            try:
                never.wait(30)
            finally:
                done.append("cleaned up")

    with pytest.raises(InterruptedRunError):
        work()
    assert done == ["sent", "cleaned up"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "arguments", "off"),
    [
        ("alembic", ["-x", "create_db=true", "upgrade", "head"], 0),
        ("alembic", ["-x", "create_db=true", "upgrade", "head"], 600),
        ("alembic", ["upgrade", "head"], -600),
        ("neuraknot-db", ["create_db"], 0),
        ("neuraknot-db", ["create_db"], -600),
    ],
)
def test_where_the_time_is_not_known_nothing_is_begun(
    server: Server, database: Database, program: str, arguments: list[str], off: int
) -> None:
    """In the past, or on a machine whose clock is off by ten minutes from the server's."""
    there = arguments == ["upgrade", "head"]
    database = database if there else server.database(f"never_made_{os.getpid()}")
    script = f"import runpy, sys, time; now = time.time; time.time = lambda: now() + {off}; sys.argv = sys.argv[1:]"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{script}; runpy.run_path(sys.argv[0], run_name='__main__')",
            BIN / program,
            *arguments,
        ],
        cwd=PROJECT,
        env=database.environment(NEURAKNOT_DEADLINE=hence(off + 60 if off else -60), NEURAKNOT_RESULT="json"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "so nobody can say when the deadline of" in done.stderr if off else "has passed" in done.stderr
    assert done.stderr.count(" UTC") >= 2
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["outcome"], result["exit_code"], bool(result["deadline"])) == ("failed", 2, bool(off))
    assert (database.name in str(server.database("postgres").run("SELECT datname FROM pg_database"))) == there
    assert not there or database.value("SELECT to_regclass('public.alembic_version')") is None


@pytest.mark.slow
def test_the_timer_ends_a_statement_of_a_revision(at: Callable[[str], Database], project: Project) -> None:
    database = at("003")
    program = "alembic" if database.server == "15" else "neuraknot-db"
    project.add("005", "CREATE TABLE public.five (); SELECT pg_sleep(600)", after="004")
    started, deadline = time.monotonic(), hence(8)  # by then it has to be at work
    done = database.program(
        program, "upgrade", "head", cwd=project.root, NEURAKNOT_DEADLINE=deadline, NEURAKNOT_RESULT="json"
    )
    assert time.monotonic() - started < 60
    assert done.code == 24, done.err
    told = OUT_OF_TIME.search(done.err)
    assert told is not None, done.err
    assert told[1] == "revision 005 was rolled back."
    assert "Hint: The database is at 004. Run the command again: it goes on from there." in done.err
    assert re.search(r"PostgreSQL .* \(test\), until .* UTC \(in \d", done.err.splitlines()[0])
    result = json.loads(done.out.splitlines()[-1])
    assert (result["outcome"], result["exit_code"], result["after"]) == ("interrupted", 24, "004")
    assert settings.utc(float(deadline)).startswith(result["deadline"].replace("T", " ")[:19])
    assert database.value("SELECT to_regclass('public.five')") is None
    assert log_of(database)[-1] == ("005", "upgrade", "interrupted")
    wait_until(lambda: database.value(SESSIONS) == 0)
    project.add("005", "CREATE TABLE public.five ()", after="004")
    again = database.program(program, "upgrade", "head", cwd=project.root, NEURAKNOT_DEADLINE=hence(3600))
    assert again.code == 0, again.err
    assert "deadline" not in again.err


WAITS = {
    "what an index is built for": (
        "alembic upgrade head",
        "CREATE INDEX CONCURRENTLY names ON public.users (id)",
        f"{SESSIONS} AND wait_event_type = 'Lock'",
        "revision 005 was ended, outside of a transaction.",
    ),
    "a query of a command that reads": (
        "neuraknot-db plan --count",
        "SELECT 1",
        f"{SESSIONS} AND query ~ 'pg_sleep'",
        None,
    ),
    "a statement of a reset": (
        "neuraknot-db reset --confirm NAME",
        "SELECT pg_sleep(600)",
        SLEEPING,
        "the reset was rolled back.",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", WAITS)
def test_it_ends_while_it_waits_for(database_at_head: Database, project: Project, tmp_path: Path, what: str) -> None:
    command, sql, condition, became = WAITS[what]
    extra = f"transactional = {'CONCURRENTLY' not in sql}\n"
    extra += "expects = {'x': 'SELECT pg_sleep(600)'}" if "plan" in command else ""
    project.add("005", sql, after="004", extra=extra)
    program, *arguments = command.replace("NAME", database_at_head.name).split()
    with (
        held(database_at_head, "INSERT INTO public.users (cognito_user_id, email, display_name) VALUES ('a', 'a', 'a')")
        if "CONCURRENTLY" in sql
        else held(database_at_head, "SELECT 1"),
        running(
            database_at_head,
            *arguments,
            said=tmp_path / "said",
            program=program,
            cwd=project.root,
            NEURAKNOT_DEADLINE=hence(3600),
        ) as run,
    ):
        wait_until(lambda: database_at_head.value(condition) == 1)
        run.process.send_signal(signal.SIGALRM)
        done = run.ended()
    assert done.code == 24, done.err
    assert "Traceback" not in done.err
    assert "Error: Out of time: the deadline of " in done.err
    told = OUT_OF_TIME.search(done.err)
    assert (told and told[1]) == became


@pytest.mark.parametrize("program", ["alembic", "neuraknot-db"])
def test_it_ends_while_it_waits_for_a_server_that_starts(program: str) -> None:
    said = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"
    asked = threading.Event()

    def answer() -> None:
        for number in range(1000):
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                client.sendall(b"E" + (len(said) + 4).to_bytes(4) + said)
            if number == 1:
                asked.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, daemon=True).start()
        url = f"postgresql://u@127.0.0.1:{listening.getsockname()[1]}/x?sslmode=disable&gssencmode=disable"
        environ = {**os.environ, "DATABASE_URL": url, "NEURAKNOT_ENV": "test", "NEURAKNOT_DEADLINE": hence(3600)}
        command = [str(BIN / program), "upgrade", "head"]
        process = subprocess.Popen(command, cwd=PROJECT, env=environ, stderr=subprocess.PIPE, text=True)
        assert asked.wait(30)
        process.send_signal(signal.SIGALRM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 24, err
    assert "Error: Out of time: the deadline of " in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then", "code"), [(signal.SIGALRM, signal.SIGTERM, 24), (signal.SIGTERM, signal.SIGALRM, 143)]
)
def test_a_frozen_run_ends_itself_as_the_first_of_two_decides(
    at: Callable[[str], Database], first: signal.Signals, then: signal.Signals, code: int
) -> None:
    with proxied(at("003"), Nth(2, "freeze", meant=is_commit)) as (proxy, through):
        process = subprocess.Popen(
            [str(BIN / "alembic"), "upgrade", "head"],
            cwd=PROJECT,
            env=through.environment(NEURAKNOT_RESULT="json", NEURAKNOT_DEADLINE=hence(3600)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert proxy.frozen.wait(60)
            started = time.monotonic()
            process.send_signal(first)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.send_signal(then)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert time.monotonic() - started > 3  # it is not at once, as after a person's second signal
    assert process.returncode == code, err
    assert (OUT_OF_TIME.search(err) is not None) == (code == 24)
    assert "; the run did not end and was cut off: whether what was in progress is committed is not known." in err
    result = json.loads(out.splitlines()[-1])
    assert (result["outcome"], result["after"], result["exit_code"]) == ("unknown", None, code)


@pytest.mark.slow
def test_a_database_is_not_made_any_longer(server: Server, tmp_path: Path) -> None:
    """Its statement is cancelled too, which waits for others to leave what it copies."""
    database, maintenance = server.database(f"not_made_{os.getpid()}"), server.database("postgres")
    making = (
        "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^CREATE DATABASE \"not_made_' AND pid <> pg_backend_pid()"
    )
    with (
        held(server.database("template1"), "SELECT 1"),
        running(
            database, "create_db", program="neuraknot-db", said=tmp_path / "said", NEURAKNOT_DEADLINE=hence(3600)
        ) as run,
    ):
        wait_until(lambda: maintenance.value(making) == 1)
        run.process.send_signal(signal.SIGALRM)
        done = run.ended()
    assert done.code == 24, done.err
    assert "no answer" not in done.err
    assert database.name not in str(maintenance.run("SELECT datname FROM pg_database"))
