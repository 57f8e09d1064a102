"""Alive is what is not STOPPED, and nothing else is, wherever tasks are listed or counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from launcher.rehearsal.api import Call
from launcher.rehearsal.plays import start_task
from launcher.rehearsal.program import Script, scripted
from launcher.rehearsal.server import Answer
from launcher.rehearsal.task import LocalTask
from launcher.task.find import read_task
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, make_stage

STUBBORN = Script(lines=((0.1, "begun"),), seconds=25.0, heeds_sigterm=False)


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=STUBBORN), clock, tmp_path)


@pytest.fixture
def stopping(stage: Stage) -> LocalTask:
    """A task that was told to stop, and whose container still runs."""
    assert stage.launch("ecs-migrate", "--detach").code == 0
    stage.clock.sleep(5)
    (task,) = stage.cloud.ecs.tasks.values()
    boto3.client("ecs").stop_task(cluster=stage.cloud.stack.cluster, task=task.arn, reason="enough")
    assert (task.desired, task.status) == ("STOPPED", "STOPPING")
    stage.cloud.ecs.start = scripted(GOOD)
    return task


def listed(stage: Stage, status: str) -> list[str]:
    stack = stage.cloud.stack
    answer = boto3.client("ecs").list_tasks(cluster=stack.cluster, family=stack.family, desiredStatus=status)  # type: ignore[arg-type]
    return answer["taskArns"]


def test_the_double_lists_tasks_by_what_they_are_to_be(stage: Stage, stopping: LocalTask) -> None:
    assert (listed(stage, "RUNNING"), listed(stage, "STOPPED")) == ([], [stopping.arn])
    stage.clock.sleep(60)
    listed(stage, "STOPPED")
    assert stopping.stopped is not None
    stage.clock.time = stopping.stopped + 10
    assert (listed(stage, "RUNNING"), listed(stage, "STOPPED")) == ([stopping.arn], [stopping.arn])
    stage.clock.sleep(60)
    assert (listed(stage, "RUNNING"), listed(stage, "STOPPED")) == ([], [stopping.arn])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["ecs-migrate"], ["ecs-migrate", "--reset"], ["ecs-run", "--", "plan"]])
def test_no_other_is_started_beside_one_that_is_being_stopped(
    stage: Stage, stopping: LocalTask, arguments: list[str]
) -> None:
    outcome = stage.launch(*arguments)
    assert outcome.code == 4
    assert f"{stopping.id} (STOPPING)" in outcome.err
    assert len(stage.cloud.ecs.tasks) == 1


@pytest.mark.slow
def test_it_can_be_attached_to(stage: Stage, stopping: LocalTask) -> None:
    assert stage.launch("ecs-migrate", "--attach").code == 0
    assert len(stage.cloud.ecs.tasks) == 1


@pytest.mark.slow
def test_stop_waits_for_its_end(stage: Stage, stopping: LocalTask) -> None:
    outcome = stage.launch("stop", "--json")
    assert (outcome.code, outcome.json["stopped"]) == (0, True)
    assert outcome.json["task"]["exit_code"] == 0
    assert "nothing to stop" not in outcome.err


@pytest.mark.slow
def test_doctor_says_that_it_runs(stage: Stage, stopping: LocalTask) -> None:
    outcome = stage.launch("doctor", "--json")
    assert outcome.code != 0
    assert f"1 of neuraKnot-dev-migrate runs: {stopping.id} (STOPPING)." in outcome.out


@pytest.mark.slow
def test_status_and_logs_take_it_for_alive(stage: Stage, stopping: LocalTask) -> None:
    told = stage.launch("status", "--json").json
    assert ([task["arn"] for task in told["alive"]], told["over"]) == ([stopping.arn], [])
    assert stage.launch("logs", "--json").json["task"]["arn"] == stopping.arn


@pytest.mark.slow
def test_one_that_stopped_just_now_is_over_though_it_is_listed_as_to_run(stage: Stage, stopping: LocalTask) -> None:
    stage.clock.sleep(40)
    stage.launch("status")
    assert stopping.stopped is not None
    stage.clock.time = stopping.stopped + 5
    assert listed(stage, "RUNNING") == [stopping.arn]
    told = stage.launch("status", "--json").json
    assert (told["alive"], [task["arn"] for task in told["over"]]) == ([], [stopping.arn])
    assert stage.launch("stop").err == "Done. No migration task of dev is alive; there is nothing to stop.\n"
    assert "no task of neuraKnot-dev-migrate is alive" in stage.launch("doctor", "--json").out
    assert stage.launch("ecs-migrate").code == 0


@pytest.mark.slow
def test_one_whose_container_has_ended_is_alive_and_in_nobody_s_way(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(GOOD)
    assert stage.launch("ecs-migrate").code == 0
    (task,) = stage.cloud.ecs.tasks.values()
    assert task.status == "DEPROVISIONING"
    told = stage.launch("status", "--json").json
    assert [task["status"] for task in told["alive"]] == ["DEPROVISIONING"]
    assert stage.launch("ecs-run", "--", "verify").code == 0


def test_one_that_can_t_be_described_yet_is_alive(stage: Stage) -> None:
    task = start_task(stage.cloud, started_by="somebody else")
    stage.cloud.ecs.unseen = 3600.0
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 4
    assert f"{task.id} (MISSING)" in outcome.err


ANSWERS: dict[str, Callable[[str], list[dict[str, str]]]] = {
    "missing": lambda arn: [{"arn": arn, "reason": "MISSING"}],
    "a failure of another": lambda _: [{"arn": "arn:aws:ecs:x:1:task/other", "reason": "MISSING"}],
    "a failure of none": lambda _: [{"reason": "MISSING"}],
    "no failure": lambda _: [],
}


@pytest.fixture(params=list(ANSWERS.values()), ids=list(ANSWERS))
def undescribed(stage: Stage, stopping: LocalTask, request: pytest.FixtureRequest) -> LocalTask:
    """The same one, which ListTasks names among the STOPPED, and DescribeTasks does not describe the first time."""
    described, asked = stage.cloud.server.handlers["ecs:DescribeTasks"], iter([False])

    def describe(call: Call) -> Answer | None:
        return described(call) if next(asked, True) else {"tasks": [], "failures": request.param(stopping.arn)}

    stage.cloud.server.handlers["ecs:DescribeTasks"] = describe
    return stopping


@pytest.mark.slow
def test_what_is_listed_and_not_described_is_alive(stage: Stage, undescribed: LocalTask) -> None:
    told = stage.launch("status", "--json").json
    assert [(task["arn"], task["status"]) for task in told["alive"]] == [(undescribed.arn, "MISSING")]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["ecs-migrate"], ["ecs-migrate", "--reset"], ["ecs-run", "--", "plan"]])
def test_no_other_is_started_beside_it(stage: Stage, undescribed: LocalTask, arguments: list[str]) -> None:
    outcome = stage.launch(*arguments)
    assert outcome.code == 4
    assert f"{undescribed.id} (MISSING)" in outcome.err
    assert len(stage.cloud.ecs.tasks) == 1


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True], ids=["the newest", "by its id"])
def test_it_can_be_stopped(stage: Stage, undescribed: LocalTask, named: bool) -> None:
    outcome = stage.launch("stop", *[undescribed.id] * named, "--json")
    assert (outcome.code, outcome.json["stopped"]) == (0, True), outcome.err
    assert outcome.json["task"]["arn"] == undescribed.arn


@pytest.mark.parametrize("code", [True, False, "0", 0.0, 256, -1, [0], None])
def test_what_can_be_no_exit_code_is_none(code: Any) -> None:
    containers = [None, "migrate", {"name": "migrate", "exitCode": code, "lastStatus": "STOPPED"}]
    told = {"taskArn": "arn:task/1", "lastStatus": "DEPROVISIONING", "containers": containers}
    task = read_task({**told, "overrides": {"containerOverrides": [None]}}, "migrate")
    assert (task.exit_code, task.container_ended) == (None, False)


@pytest.mark.parametrize("code", [0, 255])
def test_what_can_be_one_is(code: int) -> None:
    assert read_task({"containers": [{"name": "migrate", "exitCode": code}]}, "migrate").exit_code == code


def test_hundreds_of_tasks_that_are_over_hide_none(stage: Stage) -> None:
    for _ in range(230):
        start_task(stage.cloud, started_by="many").stop("enough", stage.clock.now())
    stage.clock.sleep(60)
    newest = start_task(stage.cloud, started_by="the last")
    told = stage.launch("status", "--json").json
    assert ([task["arn"] for task in told["alive"]], len(told["over"])) == ([newest.arn], 230)
