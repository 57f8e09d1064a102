"""Before anything is deleted there is a snapshot, Docker if it is needed, and nobody else's task."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.local.api import Call, Refusal
from launcher.local.docker import StandInDocker
from launcher.local.plays import start_task
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, make_stage


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD, environment="prod"), clock, tmp_path)


def being(stage: Stage, status: str, *, looks: int) -> None:
    """Have RDS show new snapshots in this status, so many times."""
    left = iter(range(looks))

    def describe(call: Call) -> dict[str, str] | None:
        if next(left, None) is None:
            return None
        name = call.parameters["DBSnapshotIdentifier"]
        snapshot = f"<DBSnapshotIdentifier>{name}</DBSnapshotIdentifier><Status>{status}</Status>"
        result = f"<DBSnapshots><DBSnapshot>{snapshot}<PercentProgress>40</PercentProgress></DBSnapshot></DBSnapshots>"
        action = "DescribeDBSnapshots"
        return {"xml": f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"}

    stage.cloud.server.handlers["rds:DescribeDBSnapshots"] = describe


def reset(stage: Stage, *arguments: str) -> int:
    return stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", *arguments).code


def test_the_reset_waits_until_it_is_available(stage: Stage, clock: FakeClock) -> None:
    being(stage, "creating", looks=30)
    begun = clock.now()
    assert reset(stage) == 0
    assert clock.now() - begun >= 300
    assert stage.actions.index("RunTask") > max(
        index for index, action in enumerate(stage.actions) if action == "DescribeDBSnapshots"
    )


@pytest.mark.parametrize(("status", "looks"), [("failed", 1), ("creating", 10_000)])
def test_without_a_snapshot_nothing_is_deleted(stage: Stage, status: str, looks: int) -> None:
    being(stage, status, looks=looks)
    assert reset(stage) == 20
    assert "RunTask" not in stage.actions


def test_a_database_that_is_not_on_rds_is_reset_without_one_only(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--db-instance", "elsewhere")
    assert outcome.code == 20
    assert "--no-snapshot" in outcome.err
    assert "RunTask" not in stage.actions
    assert reset(stage, "--db-instance", "elsewhere", "--no-snapshot") == 0


ELSEWHERE = ("--db-host", "other-db.internal.example")


@pytest.mark.parametrize("dry_run", [["--dry-run"], []])
@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("other-db.internal.example", "RDS has no instance other-db.internal.example"),
        (
            "neuraknot-prod-db.another.ap-northeast-1.rds.amazonaws.com",
            "rds.amazonaws.com (--db-host), but the RDS instance neuraknot-prod-db is at",
        ),
    ],
)
def test_a_snapshot_of_another_database_is_none(stage: Stage, host: str, says: str, dry_run: list[str]) -> None:
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--db-host", host, *dry_run)
    assert outcome.code == 20
    assert says in outcome.err
    assert "--db-instance" in outcome.err
    assert not stage.writes


@pytest.mark.parametrize("by_variable", [True, False])
def test_an_instance_that_was_named_outright_is_believed(
    stage: Stage, by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = stage.cloud.stack.database_instance
    if by_variable:
        monkeypatch.setenv("NEURAKNOT_DB_INSTANCE", instance)
    assert reset(stage, *ELSEWHERE, *([] if by_variable else ["--db-instance", instance])) == 0
    assert "CreateDBSnapshot" in stage.writes


def test_whatever_fails_after_the_snapshot_its_restoring_is_told(stage: Stage) -> None:
    def lose(call: Call) -> None:
        if call.action == "ecs:DescribeTasks":
            raise Refusal("AccessDeniedException", "no")

    stage.cloud.server.faults.append(lose)
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod")
    assert outcome.code == 25
    [snapshot] = [name for name in stage.cloud.stack.rds.database_snapshots if "-before-" in name]
    assert f"To restore {snapshot}: aws rds restore-db-instance-from-db-snapshot" in outcome.err


def test_without_docker_no_snapshot_and_no_repository_is_made(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = make_stage(make_cloud(script=GOOD, environment="prod"), clock, tmp_path, pushed=False)
    assert isinstance(stage.runner, StandInDocker)
    stage.runner.engine = False

    def ask(_: str) -> str:
        raise AssertionError("somebody was asked")

    outcome = stage.launch("ecs-migrate", "--reset", ask=ask)
    assert outcome.code == 22
    assert "Docker is not running" in outcome.err
    assert not stage.writes
    assert stage.launch("ecs-migrate", "--dry-run").code == 0


def test_a_task_that_somebody_starts_meanwhile_gets_no_second_one_beside_it(stage: Stage) -> None:
    def somebody(call: Call) -> None:
        if call.action == "rds:CreateDBSnapshot":
            start_task(stage.cloud, started_by="somebody else")

    stage.cloud.server.faults.append(somebody)
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod")
    assert outcome.code == 4
    assert "started by somebody else. No other was started." in outcome.err
    assert "To restore neuraknot-prod-db-before-" in outcome.err
    assert "RunTask" not in stage.actions


def test_nor_one_that_is_started_while_somebody_types(stage: Stage) -> None:
    answers = iter(("YES", "prod", "DELETE ALL DATA"))

    def ask(_: str) -> str:
        answer = next(answers)
        if answer == "prod":
            start_task(stage.cloud, started_by="somebody else")
        return answer

    assert stage.launch("ecs-migrate", "--reset", "--no-snapshot", ask=ask).code == 4
    assert "RunTask" not in stage.actions


def test_nor_one_that_is_started_while_the_image_is_built(stage: Stage) -> None:
    def somebody(call: Call) -> None:
        if call.action == "ecr:GetAuthorizationToken":
            start_task(stage.cloud, started_by="somebody else")

    stage.cloud.server.faults.append(somebody)
    (stage.root / "changed").write_text("so that the image must be built")
    assert stage.launch("ecs-migrate").code == 4
    assert "RunTask" not in stage.actions
