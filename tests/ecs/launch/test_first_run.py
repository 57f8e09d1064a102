"""The first run in an account makes what is missing, also when another first run makes it at the same moment."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from launcher.rehearsal.api import Call, Refusal
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, make_stage
from tests.ecs.task.test_watching import at


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path, pushed=False)


def refuse(stage: Stage, action: str, code: str, *, times: int = 1) -> None:
    """Have AWS refuse a call so many times."""
    left = iter(range(times))

    def look(call: Call) -> None:
        if call.action == action and next(left, None) is not None:
            raise Refusal(code, f"{code} was played")

    stage.cloud.server.faults.append(look)


def test_a_repository_that_somebody_makes_meanwhile_is_taken(stage: Stage) -> None:
    stack = stage.cloud.stack
    at(stage, "ecr:CreateRepository", 1, lambda: stack.use_registry("mirror.example"))
    outcome = stage.launch("ecs-migrate", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["image"].startswith(f"mirror.example/{stack.repository}@sha256:")
    assert "Made the repository" not in outcome.err


def test_a_log_group_that_somebody_makes_meanwhile_is_left_as_it_is(stage: Stage) -> None:
    stack = stage.cloud.stack

    def somebody() -> None:
        stack.logs.create_log_group(stack.log_group, {})

    at(stage, "logs:CreateLogGroup", 1, somebody)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 0, outcome.err
    assert f"{stack.log_group} is there" in outcome.err
    assert "PutRetentionPolicy" not in stage.actions


@pytest.mark.slow
def test_two_who_make_the_log_group_at_once_do_not_fail(stage: Stage) -> None:
    refuse(stage, "logs:CreateLogGroup", "OperationAbortedException", times=2)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 0, outcome.err
    assert stage.cloud.stack.logs.groups[stage.cloud.stack.log_group].retention_in_days == 7


def test_nobody_waits_for_ever_for_another_who_makes_it(stage: Stage) -> None:
    refuse(stage, "logs:CreateLogGroup", "OperationAbortedException", times=100)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 21
    assert stage.actions.count("CreateLogGroup") == 4


@pytest.mark.slow
@pytest.mark.parametrize("code", ["AccessDeniedException", "ServiceUnavailableException"])
def test_a_retention_that_can_not_be_set_is_told_with_the_command(stage: Stage, code: str) -> None:
    refuse(stage, "logs:PutRetentionPolicy", code)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 0, outcome.err
    [command] = [line for line in outcome.err.splitlines() if "aws logs put-retention-policy" in line]
    given = shlex.split(command)[3:]
    group = ["--log-group-name", stage.cloud.stack.log_group]
    assert given == [*group, "--retention-in-days", "7", "--region", stage.cloud.stack.region]
    assert "So the log is kept for ever" in outcome.err
