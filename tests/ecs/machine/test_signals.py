"""Ctrl-C at any moment: it is heeded at once, and what is said of the task then is true."""

from __future__ import annotations

import errno
import io
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.aws.client import LogPage
from launcher.cli.console import Console
from launcher.machine.signals import Interrupts, Signalled
from launcher.rehearsal.program import Script, scripted
from launcher.task.logs import Interruptible
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, make_stage
from tests.ecs.task.test_watching import at, send

STUBBORN = Script(lines=((0.1, "begun"),), seconds=600.0, heeds_sigterm=False)


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def while_asleep(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, number: int, do: Callable[[], None], *, times: int = 1
) -> list[int]:
    """Do something in the nth wait, before its time is over; gives how many calls AWS had had by then."""
    real, count, seen = stage.clock.sleep, itertools.count(1), list[int]()

    def sleep(seconds: float) -> None:
        if number <= next(count) < number + times:
            seen.append(len(stage.actions))
            do()
        real(seconds)

    monkeypatch.setattr(stage.clock, "sleep", sleep)
    return seen


def test_the_first_signal_ends_the_wait_and_the_next_call_stops_the_task(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=600.0))
    seen = while_asleep(stage, monkeypatch, 5, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 130, outcome.err
    assert stage.actions[seen[0]] == "StopTask"
    assert "Stopping the task: interrupted." in outcome.err


def test_the_first_signal_waits_for_no_answer(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=600.0))
    seen: list[int] = []

    def interrupt() -> None:
        seen.append(len(stage.actions))
        send(signal.SIGINT)()

    at(stage, "ecs:DescribeTasks", 3, interrupt)
    assert stage.launch("ecs-migrate").code == 130
    assert stage.actions[seen[0]] == "StopTask"


def test_nor_for_the_log() -> None:
    class Hanging:
        def log_events(self, group: str, stream: str, token: str | None = None) -> LogPage | None:
            send(signal.SIGINT)()
            raise AssertionError("it was waited for")

    interrupts = Interrupts()
    with interrupts.handled(), interrupts.held():
        assert Interruptible(Hanging(), interrupts).log_events("group", "stream") is None
    assert interrupts.signal_number == signal.SIGINT


def test_two_signals_in_one_second_have_stopped_the_task(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.cloud.ecs.start = scripted(STUBBORN)
    while_asleep(stage, monkeypatch, 5, send(signal.SIGINT), times=2)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 130
    [task] = stage.cloud.ecs.tasks.values()
    assert task.stop_code == "UserInitiated"
    assert "the task was told to stop, and has not ended yet" in outcome.err
    assert "goes on by itself" not in outcome.err
    assert f"launcher logs --environment dev --follow {task.id}" in outcome.err


def test_a_second_signal_before_it_is_known_whether_the_task_was_told_to_stop(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(STUBBORN)
    at(stage, "logs:GetLogEvents", 1, send(signal.SIGINT))
    at(stage, "ecs:StopTask", 1, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 130
    [task] = stage.cloud.ecs.tasks.values()
    assert "the task may have been told to stop" in outcome.err
    assert f"launcher stop --environment dev {task.id}" in outcome.err


def test_two_signals_before_it_is_known_whether_a_task_was_started(stage: Stage) -> None:
    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGTERM)()

    at(stage, "ecs:RunTask", 1, twice)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 143
    assert "a task may have been started" in outcome.err
    assert "launcher status --environment dev" in outcome.err


@pytest.mark.slow
def test_who_interrupts_stop_is_told_that_the_task_was_told_to(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(STUBBORN)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    stage.clock.sleep(60)
    at(stage, "logs:GetLogEvents", 1, send(signal.SIGINT))
    outcome = stage.launch("stop")
    assert outcome.code == 130
    [task] = stage.cloud.ecs.tasks.values()
    assert task.stop_code == "UserInitiated"
    assert "the task was told to stop, and has not ended yet" in outcome.err


@pytest.mark.slow
def test_nobody_waits_for_capacity_after_a_signal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.cloud.ecs.failures = itertools.repeat("Capacity is unavailable at this time.")
    while_asleep(stage, monkeypatch, 2, send(signal.SIGTERM))
    begun = stage.clock.now()
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 143
    assert "no task was started" in outcome.err
    assert stage.actions.count("RunTask") == 2
    assert stage.clock.now() - begun < 4, "the second pause was sat out"


class Gone(io.StringIO):
    """A pipe whose reader ends with the first line that names the task."""

    def write(self, text: str) -> int:
        if "5/8" in self.getvalue():
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().write(text)


@pytest.mark.parametrize("interrupt", [True, False], ids=["by a signal", "out of time"])
def test_a_task_is_stopped_though_nobody_reads_any_more(stage: Stage, interrupt: bool) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, "begun"),), seconds=600.0))
    stage.stream = Gone
    if interrupt:
        at(stage, "logs:GetLogEvents", 3, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate", "--timeout", "60s")
    assert outcome.code == (130 if interrupt else 24)
    assert "6/8" not in outcome.err
    [task] = stage.cloud.ecs.tasks.values()
    assert (task.stop_code, task.exit_code) == ("UserInitiated", 143)


def test_a_defect_of_ours_neither_keeps_a_task_from_its_stop_nor_hides_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Console, text: str) -> None:
        raise ZeroDivisionError(text)

    monkeypatch.setattr(Console, "notice", broken)
    stage.cloud.ecs.start = scripted(STUBBORN)
    at(stage, "logs:GetLogEvents", 1, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate", "--json")
    [task] = stage.cloud.ecs.tasks.values()
    assert task.stop_code == "UserInitiated"
    assert outcome.code == outcome.json["exit_code"] == 25
    assert outcome.json["task"]["arn"] == task.arn
    assert "ZeroDivisionError; the task was told to stop, and has not ended yet" in outcome.json["message"]
    assert f"launcher logs --environment dev --follow {task.id}" in outcome.json["hint"]
    assert "   Traceback (most recent call last):" in outcome.err.splitlines()


@pytest.mark.slow
def test_a_defect_before_there_is_a_task_stays_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("launcher.cli.commands.make_plan", broken)
    with pytest.raises(ZeroDivisionError):
        stage.launch("ecs-migrate")


def test_a_terminal_that_closes_says_so_more_than_once_and_the_task_is_stopped_all_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, "begun"),), seconds=600.0))
    while_asleep(stage, monkeypatch, 5, send(signal.SIGHUP), times=3)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 129
    assert "Error: Interrupted by SIGHUP: the container ended with 143." in outcome.err


def test_under_nohup_a_closed_terminal_is_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        while_asleep(stage, monkeypatch, 5, send(signal.SIGHUP))
        assert stage.launch("ecs-migrate").code == 0
    finally:
        assert signal.signal(signal.SIGHUP, before) is signal.SIG_IGN


_AMONG_IMPORTS = """
import os, sys
from launcher.__main__ import main

target = sys.argv[-2:]
sys.argv[1:] = ["status"]

class Finder:
    def find_spec(self, name, *_):
        if name == target[1]:
            os.kill(os.getpid(), int(target[0]))

sys.meta_path.insert(0, Finder())
main()
"""


@pytest.mark.parametrize("module", ["launcher.cli.main", "typer", "launcher.cli.dependencies"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_among_the_imports_ends_with_one_line(number: signal.Signals, code: int, module: str) -> None:
    command = [sys.executable, "-c", _AMONG_IMPORTS, str(int(number)), module]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, f"Error: Interrupted by {number.name}.\n")


def test_a_signal_among_the_imports_needs_no_reader() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", _AMONG_IMPORTS, str(int(signal.SIGINT)), "typer"]
    ended = subprocess.run(command, stderr=write)
    os.close(write)
    assert ended.returncode == 130


def test_a_signal_between_two_who_handle_it_ends_with_one_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def too_early(_: Interrupts) -> Iterator[None]:
        raise Signalled(signal.SIGTERM)
        yield

    monkeypatch.setattr(Interrupts, "handled", too_early)
    assert stage.launch("status").code == 143
    assert capsys.readouterr().err == "Error: Interrupted by SIGTERM.\n"
