"""A task is watched to its end: signals, deadlines, and what can no longer be known."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.program import Script, scripted
from launcher.rehearsal.server import Answer
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, SHOWN, Stage, make_stage

LONG = Script(lines=((0.1, "begun"),), seconds=600.0)


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def at(stage: Stage, action: str, number: int, do: Callable[[], None]) -> None:
    """Do something when a call comes for the nth time."""
    count = 0

    def look(call: Call) -> None:
        nonlocal count
        count += call.action == action
        if call.action == action and count == number:
            do()

    stage.cloud.server.faults.append(look)


def refuse(stage: Stage, action: str, code: str, *, after: int = 0) -> None:
    count = 0

    def look(call: Call) -> None:
        nonlocal count
        count += call.action == action
        if call.action == action and count > after:
            raise Refusal(code, "not now")

    stage.cloud.server.faults.append(look)


def send(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_signal_stops_the_task_and_reads_its_log(stage: Stage, number: signal.Signals, code: int) -> None:
    stage.cloud.ecs.start = scripted(LONG)
    at(stage, "logs:GetLogEvents", 3, send(number))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == code, outcome.err
    assert outcome.out.splitlines() == ["begun"]
    [task] = stage.cloud.ecs.tasks.values()
    assert task.stopped_reason == "launcher: interrupted"


def test_the_second_signal_lets_go_and_says_how_to_attach(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=LONG.lines, seconds=600.0, heeds_sigterm=False))
    at(stage, "logs:GetLogEvents", 1, send(signal.SIGINT))
    at(stage, "logs:GetLogEvents", 4, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 130
    [task] = stage.cloud.ecs.tasks.values()
    assert f"launcher logs --environment dev --follow {task.id}" in outcome.err


def test_a_signal_before_there_is_a_task_starts_none(stage: Stage) -> None:
    at(stage, "ecs:DescribeServices", 1, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 130
    assert "no task was started" in outcome.err
    assert not stage.cloud.ecs.tasks


def test_a_signal_while_the_task_is_started_still_stops_it(stage: Stage) -> None:
    at(stage, "ecs:RunTask", 1, send(signal.SIGTERM))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 143
    [task] = stage.cloud.ecs.tasks.values()
    assert task.stop_code == "UserInitiated"


@pytest.mark.slow
def test_who_only_follows_a_task_does_not_end_it(stage: Stage) -> None:
    assert stage.launch("ecs-migrate", "--detach").code == 0
    at(stage, "logs:GetLogEvents", 1, send(signal.SIGINT))
    assert stage.launch("logs", "--follow").code == 130
    [task] = stage.cloud.ecs.tasks.values()
    assert task.stop_code is None


@pytest.mark.slow
def test_out_of_time_the_task_is_stopped_by_the_wall_clock(stage: Stage, clock: FakeClock) -> None:
    stage.cloud.ecs.start = scripted(LONG)
    begun = clock.now()
    outcome = stage.launch("ecs-migrate", "--timeout", "2m")
    assert outcome.code == 24
    assert 120 <= clock.now() - begun < 160
    assert outcome.out.splitlines() == ["begun"]


@pytest.mark.slow
def test_a_task_that_does_not_end_after_it_was_stopped_has_an_unknown_outcome(stage: Stage, clock: FakeClock) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=1e6, heeds_sigterm=False))
    stage.cloud.ecs.pace = replace(stage.cloud.ecs.pace, grace=1e6)
    begun = clock.now()
    outcome = stage.launch("ecs-migrate", "--timeout", "60s")
    assert outcome.code == 25
    assert clock.now() - begun < 200
    assert stage.actions.count("StopTask") == 1


@pytest.mark.parametrize("interrupt", [True, False], ids=["by a signal", "out of time"])
def test_a_migration_that_ends_well_at_the_last_moment_went_well(stage: Stage, interrupt: bool) -> None:
    """The task was told to stop, but its container was done already."""
    stage.cloud.ecs.start = scripted(replace(GOOD, heeds_sigterm=False))
    if interrupt:
        at(stage, "logs:GetLogEvents", 1, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate", *([] if interrupt else ["--timeout", "3s"]))
    [task] = stage.cloud.ecs.tasks.values()
    assert (task.stop_code, outcome.code) == ("UserInitiated", 0), outcome.err
    assert "Done. dev is at revision 004; 001, 002 ran. It had finished before it could be stopped." in outcome.err


def test_credentials_that_expire_meanwhile_leave_the_outcome_unknown(stage: Stage) -> None:
    key = stage.cloud.credentials.access_key
    at(stage, "ecs:DescribeTasks", 2, lambda: stage.cloud.server.know(key, expired=True))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 25
    assert "expired" in outcome.err
    assert "launcher logs --environment dev --follow" in outcome.err


@pytest.mark.slow
def test_a_task_that_ecs_never_knows_has_an_unknown_outcome(stage: Stage, clock: FakeClock) -> None:
    stage.cloud.ecs.unseen = 1e9
    begun = clock.now()
    assert stage.launch("ecs-migrate").code == 25
    assert 60 <= clock.now() - begun < 70


@pytest.mark.slow
def test_no_answer_for_minutes_is_no_reason_to_give_up(stage: Stage) -> None:
    refused = iter(range(200))

    def look(call: Call) -> None:
        if call.action == "ecs:DescribeTasks" and next(refused, None) is not None:
            raise Refusal("ServerException", "Service Unavailable", status=503)

    stage.cloud.server.faults.append(look)
    assert stage.launch("ecs-migrate").code == 0


@pytest.mark.parametrize("times", [1, 10_000])
def test_a_failure_that_does_not_last_is_no_reason_to_give_up_either(stage: Stage, times: int) -> None:
    describe, left = stage.cloud.server.handlers["ecs:DescribeTasks"], iter(range(times))

    def fail(call: Call) -> Answer | None:
        failures = [{"arn": arn, "reason": "SHARD_LOST"} for arn in call.parameters["tasks"]]
        return describe(call) if next(left, None) is None else {"tasks": [], "failures": failures}

    at(stage, "ecs:RunTask", 1, lambda: stage.cloud.server.handlers.update({"ecs:DescribeTasks": fail}))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == (0 if times == 1 else 25), outcome.err
    assert ("can't be watched any more. AWS refused ecs:DescribeTasks: SHARD_LOST" in outcome.err) == (times > 1)


def test_a_log_that_may_not_be_read_is_asked_for_once_and_told(stage: Stage) -> None:
    refuse(stage, "logs:GetLogEvents", "AccessDeniedException")
    outcome = stage.launch("ecs-run", "--", "verify")
    assert outcome.code == 0
    assert "The log can't be read" in outcome.err
    assert stage.actions.count("GetLogEvents") == 1


@pytest.mark.slow
def test_a_task_that_may_not_be_stopped_is_said_to_go_on(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(LONG)
    refuse(stage, "ecs:StopTask", "AccessDeniedException")
    outcome = stage.launch("ecs-migrate", "--timeout", "60s")
    assert outcome.code == 25
    assert "launcher stop --environment dev" in outcome.err


def test_no_answer_to_run_task_leaves_the_outcome_unknown(stage: Stage) -> None:
    refuse(stage, "ecs:RunTask", "ThrottlingException")
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 25
    tokens = {call.parameters["clientToken"] for call in stage.cloud.server.calls if call.operation == "RunTask"}
    assert len(tokens) == 1


@pytest.mark.slow
def test_tasks_are_looked_at_once_a_second_at_most(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=100.0))
    assert stage.launch("ecs-migrate").code == 0
    times = [call.at for call in stage.cloud.server.calls if call.operation in ("DescribeTasks", "ListTasks")]
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(times[1:]))


@pytest.mark.slow
def test_status_logs_and_stop(stage: Stage) -> None:
    assert "No migration task of dev" in stage.launch("status").err
    assert stage.launch("logs").code == 20
    assert stage.launch("ecs-migrate").code == 0
    stage.cloud.ecs.start = scripted(LONG)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    stage.clock.sleep(60)
    first, second = stage.cloud.ecs.tasks.values()
    lines = stage.launch("status").out.splitlines()
    assert lines[0].startswith(f"{second.id}  RUNNING")
    assert lines[1].startswith(f"{first.id}  STOPPED        exit 0")
    assert stage.launch("logs").out.splitlines() == ["begun"]
    assert stage.launch("logs", first.id).out.splitlines() == SHOWN
    stopped = stage.launch("stop", "--json")
    assert "/8" not in stopped.err
    assert "Verdict" not in stopped.err
    assert stopped.json["task"]["exit_code"] == 143
    assert stopped.code == 0
    assert stage.launch("stop").code == 0
    stage.clock.sleep(10)
    told = stage.launch("status", "--json").json
    assert [task["arn"] for task in told["over"]] == [second.arn, first.arn]
    assert told["alive"] == []
