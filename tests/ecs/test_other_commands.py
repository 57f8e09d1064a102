"""`status`, `logs` and `stop`: what there is, what it said, and how it is ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.local.plays import start_task
from launcher.local.program import Script, scripted
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, PASSWORD, SHOWN, Stage, make_stage


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def test_a_log_for_programs_is_one_object(stage: Stage) -> None:
    assert stage.launch("ecs-migrate").code == 0
    (task,) = stage.cloud.ecs.tasks.values()
    told = stage.launch("logs", "--json")
    assert told.code == 0, told.err
    assert [line["text"] for line in told.json["lines"]] == SHOWN
    assert told.json["task"]["arn"] == task.arn
    assert told.json["log"]["stream"].endswith(task.id)
    assert not any(line in told.err for line in SHOWN)


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--follow"]])
def test_a_password_in_secrets_tfvars_is_hidden_in_a_log_too(stage: Stage, arguments: list[str]) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, f"connecting with {PASSWORD}"),), seconds=1.0))
    assert stage.launch("ecs-migrate").code == 0
    told = stage.launch("logs", *arguments)
    assert "connecting with ***" in told.out + told.err
    assert PASSWORD not in told.out + told.err
    assert json.dumps(PASSWORD, ensure_ascii=False)[1:-1] not in told.out


def test_only_a_migration_of_this_environment_is_stopped(stage: Stage) -> None:
    task = start_task(stage.cloud, started_by="the service", family="neuraKnot-dev-backend-go")
    outcome = stage.launch("stop", task.id)
    assert outcome.code == 5
    assert "it is of neuraKnot-dev-backend-go" in outcome.err
    assert "StopTask" not in stage.writes


def test_a_mistyped_task_is_not_taken_for_one_that_is_over(stage: Stage) -> None:
    outcome = stage.launch("stop", "nonsense")
    assert outcome.code == 20
    assert "ECS knows no task nonsense" in outcome.err
    assert "launcher status --environment dev" in outcome.err


def test_status_keeps_its_columns_whatever_ended_the_tasks(stage: Stage) -> None:
    assert stage.launch("ecs-migrate").code == 0
    task = start_task(stage.cloud, started_by="somebody else")
    stage.clock.sleep(60)
    task.exit_code, task.stop_code = None, "ServiceSchedulerInitiated"
    lines = stage.launch("status").out.splitlines()
    assert len(lines) == 2
    assert len({line.index("20", 48) for line in lines}) == 1, lines
