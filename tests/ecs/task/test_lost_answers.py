"""An answer to a write is no description: what became of it is looked at before it is judged."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import boto3
import pytest

from launcher.aws.client import Aws
from launcher.errors import TransientAwsError
from launcher.rehearsal import plays
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.program import Script, scripted
from launcher.rehearsal.task import Obstacle
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, SHOWN, Stage, make_stage
from tests.ecs.rehearsal.test_double import register, run
from tests.ecs.task.test_watching import at, send


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def lose(stage: Stage, times: int, action: str = "ecs:RunTask") -> None:
    plays.lost_answers(times, action)(plays.Scene(stage.cloud, stage.terraform, stage.runner, stage.runner))  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [1, 2, 3, 4, 5])
def test_a_task_that_is_over_when_run_task_answers_at_last_is_judged_by_what_it_did(stage: Stage, times: int) -> None:
    lose(stage, times)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == SHOWN
    assert "Done. dev is at revision 004; 001, 002 ran." in outcome.err
    assert len(stage.cloud.ecs.tasks) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (Script(seconds=1.0, exit_code=7, error="no"), 7, "The container ended with 7: no"),
        (Script(seconds=1.0, exit_code=0, report=None), 25, "its log ends without its report"),
        (Script(seconds=1.0, exit_code=None), 25, "The task was lost"),
        (Script(lines=plays.BEGINNING, seconds=120.0), 0, "dev is at revision 004"),
    ],
    ids=["it failed", "it left no report", "its host was lost", "it still runs"],
)
def test_and_by_nothing_else(stage: Stage, script: Script, code: int, words: str) -> None:
    stage.cloud.ecs.start = scripted(script)
    lose(stage, 4)
    outcome = stage.launch("ecs-migrate", "--json")
    assert (outcome.code, outcome.json["exit_code"]) == (code, code)
    assert words in outcome.json["message"]
    assert outcome.json["task"]["command"] == ["alembic", "upgrade", "head"]


@pytest.mark.slow
def test_a_task_that_never_started_is_told_from_one_that_is_hardly_described(stage: Stage) -> None:
    plays.obstacle(Obstacle("CannotPullContainerError: no"))(
        plays.Scene(stage.cloud, stage.terraform, stage.runner, stage.runner)  # type: ignore[arg-type]
    )
    lose(stage, 4)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 23
    assert "CannotPullContainerError" in outcome.err


@pytest.mark.slow
def test_a_task_that_is_missing_for_a_moment_is_waited_for(stage: Stage) -> None:
    lose(stage, 4)
    stage.cloud.ecs.unseen = 60.0
    assert stage.launch("ecs-migrate").code == 0


@pytest.mark.slow
def test_one_that_ecs_never_describes_is_not_known(stage: Stage) -> None:
    lose(stage, 4)
    stage.cloud.ecs.unseen = 1e9
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 25
    assert "ECS does not know the task" in outcome.err


def test_detached_from_one_that_is_over_its_end_is_told(stage: Stage) -> None:
    lose(stage, 4)
    outcome = stage.launch("ecs-migrate", "--detach", "--json")
    assert (outcome.code, outcome.json["verdict"], outcome.json["after"]) == (0, "succeeded", "004")


@pytest.mark.parametrize("code", ["AccessDeniedException", "ExpiredTokenException", "ClusterNotFoundException"])
def test_a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_started(stage: Stage, code: str) -> None:
    lose(stage, 1)
    asked = iter([False])

    def refuse(call: Call) -> None:
        if call.operation == "RunTask" and next(asked, True):
            raise Refusal(code, "not now")

    stage.cloud.server.faults.append(refuse)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 25
    assert "may have been started or not" in outcome.err
    assert len(stage.cloud.ecs.tasks) == 1


def answer(stage: Stage, *answers: dict[str, Any] | None) -> None:
    """Start the task, and have RunTask answer in turn; None is an answer that is lost, and the last one goes on."""
    started = stage.cloud.server.handlers["ecs:RunTask"]
    left = list(answers)

    def say(call: Call) -> dict[str, Any]:
        started(call)
        said = left.pop(0) if len(left) > 1 else left[0]
        if said is None:
            raise Refusal("ServerException", "Service Unavailable", status=500)
        return {"tasks": [], "failures": [], **said}

    stage.cloud.server.handlers["ecs:RunTask"] = say


FAILED = {"failures": [{"reason": "AGENT"}]}
FULL = {"failures": [{"reason": "Capacity is unavailable at this time."}]}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((None, FAILED), "first AWS did not answer, then it did not start it: AGENT."),
        ((None, {"failures": [{}]}), "then it did not start it: it gives no reason."),
        ((None, FULL), "then it did not start it: Capacity is unavailable"),
        ((FULL, None, FAILED), "then it did not start it: AGENT."),
        (({},), "ECS names neither a task nor a failure."),
        ((None, {}), "ECS names neither a task nor a failure."),
        ((FULL, {}), "ECS names neither a task nor a failure."),
    ],
    ids=["refused", "without a reason", "no room", "between", "nothing", "lost, then nothing", "no room, then nothing"],
)
def test_an_answer_without_a_task_is_no_proof_that_none_was_started(stage: Stage, answers: Any, words: str) -> None:
    answer(stage, *answers)
    outcome = stage.launch("ecs-migrate", "--json")
    assert (outcome.code, outcome.json["verdict"]) == (25, "unknown"), outcome.err
    assert outcome.json["message"].startswith("The task may have been started or not: ")
    assert words in outcome.json["message"]
    assert "launcher status" in outcome.json["hint"]


def test_run_task_is_tried_once_so_that_no_lost_answer_goes_unnoticed(stage: Stage) -> None:
    def fail(_: Call) -> None:
        raise Refusal("ServerException", "Service Unavailable", status=500)

    stage.cloud.server.faults.append(fail)
    with pytest.raises(TransientAwsError):
        Aws(region=stage.cloud.server.region, attempts=3).run_task({"taskDefinition": "x"})
    assert stage.actions == ["RunTask"]


@pytest.mark.parametrize("reason", ["AGENT", "The agent is gone."])
def test_a_failure_without_a_lost_answer_is_one(stage: Stage, reason: str) -> None:
    stage.cloud.ecs.failures = iter([reason])
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 23
    assert f"ECS did not start the task: {reason.rstrip('.')}. This command did not touch" in outcome.err


def test_a_signal_after_a_lost_answer_does_not_say_that_nothing_was_started(stage: Stage) -> None:
    answer(stage, None, FULL)
    at(stage, "ecs:RunTask", 2, send(signal.SIGTERM))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 25, outcome.err
    assert "no task was started" not in outcome.err


def test_a_lost_answer_to_stop_task_is_asked_for_again(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, "begun"),), seconds=600.0))
    lose(stage, 3, "ecs:StopTask")
    at(stage, "logs:GetLogEvents", 3, send(signal.SIGTERM))
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 143, outcome.err
    assert outcome.out.splitlines() == ["begun"]


@pytest.mark.slow
def test_where_stop_task_is_never_answered_that_is_said(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=6000.0))

    def refuse(call: Call) -> None:
        if call.operation == "StopTask":
            raise Refusal("ServerException", "Service Unavailable", status=500)

    stage.cloud.server.faults.append(refuse)
    outcome = stage.launch("ecs-migrate", "--timeout", "10s")
    assert outcome.code == 25
    assert "was to be told, but AWS does not answer, to stop 120 s ago, and is still RUNNING" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("made", [True, False])
def test_a_lost_answer_to_create_db_snapshot(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, made: bool
) -> None:
    stage = make_stage(make_cloud(script=GOOD, environment="prod"), clock, tmp_path)

    def lost(call: Call) -> dict[str, Any] | None:
        if made:
            name = call.parameters["DBSnapshotIdentifier"]
            stage.cloud.stack.rds.create_db_snapshot(call.parameters["DBInstanceIdentifier"], name)
        raise Refusal("InternalFailure", "try again", status=500)

    stage.cloud.server.handlers["rds:CreateDBSnapshot"] = lost
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--json")
    if made:
        assert outcome.code == 0, outcome.err
        assert outcome.json["snapshot"]["status"] == "available"
    else:
        assert outcome.code == 21
        assert "RunTask" not in stage.actions


def test_a_log_group_whose_answer_was_lost_is_kept_for_a_week_all_the_same(stage: Stage) -> None:
    def lost(call: Call) -> dict[str, Any] | None:
        if stage.actions.count("CreateLogGroup") == 1:
            stage.cloud.stack.logs.create_log_group(call.parameters["logGroupName"], {})
            raise Refusal("ServiceUnavailableException", "try again", status=503)
        return None

    stage.cloud.server.handlers["logs:CreateLogGroup"] = lost
    assert stage.launch("ecs-migrate").code == 0
    assert stage.cloud.stack.logs.groups[stage.cloud.stack.log_group].retention_in_days == 7


def test_the_double_hardly_tells_of_a_task_that_is_over_and_forgets_its_token(
    make_cloud: MakeCloud, clock: FakeClock
) -> None:
    cloud = make_cloud()
    definition = register(cloud)

    def again() -> dict[str, Any]:
        (task,) = run(cloud, definition, clientToken="t")["tasks"]
        return dict(task)

    first = again()
    assert again()["createdAt"] == first["createdAt"]
    clock.sleep(60)
    boto3.client("ecs").list_tasks(cluster=cloud.stack.cluster)
    assert again() == {"taskArn": first["taskArn"], "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
    clock.sleep(3500)
    assert again()["taskArn"] == first["taskArn"]
    clock.sleep(100)
    assert again()["taskArn"] != first["taskArn"]


def test_the_double_keeps_no_token_for_longer_than_a_day(make_cloud: MakeCloud, clock: FakeClock) -> None:
    cloud = make_cloud(script=Script(seconds=1e9))
    definition = register(cloud)
    first = run(cloud, definition, clientToken="t")["tasks"][0]["taskArn"]
    clock.sleep(86_000)
    assert run(cloud, definition, clientToken="t")["tasks"][0]["taskArn"] == first
    clock.sleep(500)
    assert run(cloud, definition, clientToken="t")["tasks"][0]["taskArn"] != first
