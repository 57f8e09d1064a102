"""A snapshot is awaited before anything is deleted, and without one nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.local.api import Call
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
