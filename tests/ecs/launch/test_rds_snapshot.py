"""Before anything is deleted there is a snapshot, Docker if it is needed, and nobody else's task."""

from __future__ import annotations

import json
import re
import shlex
import signal
from datetime import UTC, datetime
from pathlib import Path

import botocore.session
import pytest

from launcher.aws.client import Aws
from launcher.environment.rds import Kind, RdsDatabase
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.plays import start_task
from launcher.rehearsal.stand_in_docker import StandInDocker
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.doctor.test_doctor import replica
from tests.ecs.launching import GOOD, Stage, make_stage
from tests.ecs.task.test_watching import at, send


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD, environment="prod"), clock, tmp_path)


def restored(command: str, operation: str) -> dict[str, str]:
    """The options of a command that restores something, each of which RDS knows."""
    program, service, verb, *words = shlex.split(command)
    model = botocore.session.get_session().get_service_model("rds")
    known = {botocore.xform_name(name, "-"): name for name in model.operation_names}
    assert (program, service, known[verb]) == ("aws", "rds", operation)
    options = dict(option.partition(" ")[::2] for option in " ".join(words).removeprefix("--").split(" --"))
    taken = model.operation_model(operation).input_shape
    assert taken is not None
    members = {botocore.xform_name(name, "-").replace("v-2", "v2") for name in taken.members} | {"region"}
    assert {option.removeprefix("no-") for option in options} <= members
    return options


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


@pytest.mark.slow
def test_the_reset_waits_until_it_is_available(stage: Stage, clock: FakeClock) -> None:
    being(stage, "creating", looks=30)
    begun = clock.now()
    assert reset(stage) == 0
    assert clock.now() - begun >= 300
    assert stage.actions.index("RunTask") > max(
        index for index, action in enumerate(stage.actions) if action == "DescribeDBSnapshots"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "looks", "words", "hint"),
    [
        ("failed", 1, "failed after 0 s", "aws rds describe-db-snapshots"),
        ("creating", 10_000, "and goes on", "aws rds delete-db-snapshot"),
    ],
)
def test_without_a_snapshot_nothing_is_deleted(stage: Stage, status: str, looks: int, words: str, hint: str) -> None:
    being(stage, status, looks=looks)
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--json")
    told = outcome.json
    assert outcome.code == 20
    assert "RunTask" not in stage.actions
    assert told["snapshot"]["status"] == status
    assert words in told["message"]
    assert f"{hint} --db-snapshot-identifier {told['snapshot']['name']} --region ap-northeast-1" in told["hint"]


def test_who_interrupts_the_wait_is_told_that_the_snapshot_goes_on(stage: Stage) -> None:
    being(stage, "creating", looks=30)
    at(stage, "rds:DescribeDBSnapshots", 2, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--json")
    told, [name] = outcome.json, [name for name in stage.cloud.stack.rds.database_snapshots if "-before-" in name]
    assert (outcome.code, told["verdict"]) == (130, "interrupted")
    assert told["message"] == f"Interrupted by SIGINT; no task was started, but the snapshot {name} goes on."
    assert f"aws rds delete-db-snapshot --db-snapshot-identifier {name} --region ap-northeast-1" in told["hint"]
    assert (told["snapshot"]["name"], told["snapshot"]["status"]) == (name, "creating")
    assert f"Snapshot  {name} (creating)" in outcome.err


def test_who_interrupts_its_beginning_is_told_that_there_may_be_one(stage: Stage) -> None:
    at(stage, "rds:CreateDBSnapshot", 1, send(signal.SIGTERM))
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod")
    assert outcome.code == 143
    assert "the snapshot neuraknot-prod-db-before-" in outcome.err
    assert "may have been begun" in outcome.err


def test_who_interrupts_later_on_is_told_of_no_snapshot_that_goes_on(stage: Stage) -> None:
    at(stage, "logs:CreateLogGroup", 1, send(signal.SIGINT))
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod")
    assert outcome.code == 130
    assert "Error: Interrupted by SIGINT; no task was started.\n" in outcome.err
    assert "to restore it:\n             aws rds restore-db-instance-from-db-snapshot" in outcome.err


@pytest.mark.parametrize("on", [True, False])
def test_what_is_restored_stands_where_the_database_stood(stage: Stage, on: bool) -> None:
    stack = stage.cloud.stack
    instance = stack.rds.databases[stack.database_instance]
    instance.multi_az = instance.publicly_accessible = on
    told = stage.launch("ecs-migrate", "--snapshot", "--json").json["snapshot"]
    options = restored(told["restore"], "RestoreDBInstanceFromDBSnapshot")
    no = "" if on else "no-"
    assert options == {
        "db-instance-identifier": f"{stack.database_instance}-restored",
        "db-snapshot-identifier": told["name"],
        "db-instance-class": "db.t4g.micro",
        "db-subnet-group-name": f"{stack.database_instance}-subnets",
        "vpc-security-group-ids": stack.database_group,
        "db-parameter-group-name": "default.postgres15",
        "region": stack.region,
        f"{no}multi-az": "",
        f"{no}publicly-accessible": "",
    }


OF_CLUSTERS = {
    "aurora": {"engine": "aurora-postgresql", "storage-type": "aurora"},
    "multi-az": {
        "engine": "postgres",
        "db-cluster-instance-class": "db.m6gd.large",
        "storage-type": "io1",
        "iops": "1000",
        "no-publicly-accessible": "",
    },
}


@pytest.mark.parametrize(
    "by",
    [
        "its own host",
        "its instance's host",
        "its name",
        "its name with its instance's host",
        "its instance's name",
    ],
)
@pytest.mark.parametrize("kind", OF_CLUSTERS)
def test_a_cluster_is_snapshotted_as_a_whole(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, kind: str, by: str
) -> None:
    stage = make_stage(make_cloud(script=GOOD, environment="prod", database=kind, login="managed"), clock, tmp_path)
    stack, cluster = stage.cloud.stack, "neuraknot-prod-db"
    arguments = {
        "its instance's host": ["--db-host", stack.rds.databases[stack.database_instance].address],
        "its name": ["--db-instance", cluster, "--db-host", "db.internal"],
        "its name with its instance's host": [
            "--db-instance",
            cluster,
            "--db-host",
            stack.rds.databases[stack.database_instance].address,
        ],
        "its instance's name": ["--db-instance", stack.database_instance, "--db-host", "db.internal"],
    }
    outcome = stage.launch("ecs-migrate", "--snapshot", "--json", *arguments.get(by, []))
    assert outcome.code == 0, outcome.err
    told = outcome.json["snapshot"]
    assert told["name"] in stack.rds.cluster_snapshots
    assert told["status"] == "available"
    secrets = stage.cloud.stack.ecs.describe_task_definition(stack.family).container_definitions[0]["secrets"]
    assert secrets == [{"name": "DB_PASSWORD", "valueFrom": f"{stack.secret}:password::"}]
    commands = told["restore"].split(" && ")
    assert restored(commands[0], "RestoreDBClusterFromSnapshot") == {
        "db-cluster-identifier": f"{cluster}-restored",
        "snapshot-identifier": told["name"],
        "engine-version": "15.8",
        "db-subnet-group-name": f"{cluster}-subnets",
        "vpc-security-group-ids": stack.database_group,
        "db-cluster-parameter-group-name": stack.rds.clusters[cluster].parameter_group,
        "region": stack.region,
        **OF_CLUSTERS[kind],
    }
    if kind == "aurora":  # a restored Aurora cluster has no instance
        assert restored(commands[1], "CreateDBInstance") == {
            "db-instance-identifier": f"{cluster}-restored-1",
            "db-cluster-identifier": f"{cluster}-restored",
            "db-instance-class": "db.t4g.micro",
            "engine": "aurora-postgresql",
            "region": stack.region,
        }


def test_a_serverless_cluster_is_restored_with_its_limits(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = make_stage(make_cloud(script=GOOD, environment="prod", database="aurora"), clock, tmp_path)
    cluster = stage.cloud.stack.rds.clusters["neuraknot-prod-db"]
    cluster.serverless_v2_scaling_configuration = {"min_capacity": 0.5, "max_capacity": 4.0}
    told = stage.launch("ecs-migrate", "--snapshot", "--json").json["snapshot"]["restore"].split(" && ")
    options = restored(told[0], "RestoreDBClusterFromSnapshot")
    assert options["serverless-v2-scaling-configuration"] == "MinCapacity=0.5,MaxCapacity=4.0"


# What RDS takes for a name, and how long it may be: that of a cluster's snapshot, an instance, a Multi-AZ cluster.
NAME = re.compile(r"[a-z](?:-?[a-z0-9])*")
SNAPSHOTS = {"cluster": 63, "instance": 255}


@pytest.mark.parametrize("engine", ["postgres", "aurora-postgresql"])
@pytest.mark.parametrize("kind", SNAPSHOTS)
@pytest.mark.parametrize("end", ["-b" * 26, "bb-" * 17 + "b"], ids=["hyphens", "words"])
def test_every_name_is_one_that_rds_takes(aws: Aws, clock: FakeClock, kind: Kind, engine: str, end: str) -> None:
    names = [f"a{end[: length - 1]}".rstrip("-") for length in range(1, 64)]
    found = set[str]()
    for name in {*names, "n" * 63, f"{'n' * 62}o"}:
        database = RdsDatabase(kind, name, "available", (), engine, "15.8", None, None, (), (), None, {})
        snapshot = database.snapshot_name(clock.now())
        words = database.restoring(snapshot, aws, "us-east-1").split()
        multi_az = kind == "cluster" and engine == "postgres"
        restored = [word for word in words if word.startswith(name[0]) and "-restored" in word]
        assert all(NAME.fullmatch(each) for each in (snapshot, *restored))
        assert len(snapshot) <= SNAPSHOTS[kind]
        assert max(map(len, restored)) <= (52 if multi_az else 63)
        assert (snapshot.startswith(f"{name}-before-")) == (len(name) <= SNAPSHOTS[kind] - 23)
        assert snapshot.endswith(f"{datetime.fromtimestamp(clock.now(), UTC):-before-%Y%m%d-%H%M%S}")
        assert not found & {snapshot, *restored}
        found |= {snapshot, *restored}


def test_a_cluster_with_a_long_name_is_snapshotted_with_the_policy_that_is_printed(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    cloud = make_cloud(script=GOOD, environment="a-feature-branch-with-a-longish-name", database="aurora")
    stage = make_stage(cloud, clock, tmp_path)
    printed = json.loads(stage.launch("iam-policy").out)
    cloud.stack.allow(cloud.stack.ci_role, "deploy", *printed["Statement"])
    cloud.iam.caller = cloud.stack.ci_role
    outcome = stage.launch("ecs-migrate", "--snapshot", "--json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.json["snapshot"]["name"]) <= 63


@pytest.mark.slow
def test_a_database_that_is_not_on_rds_is_reset_without_one_only(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--db-instance", "elsewhere")
    assert outcome.code == 20
    assert "--no-snapshot" in outcome.err
    assert "RunTask" not in stage.actions
    assert reset(stage, "--db-instance", "elsewhere", "--no-snapshot") == 0


ELSEWHERE = ("--db-host", "other-db.internal.example")


@pytest.mark.parametrize("dry_run", [["--dry-run"], []])
@pytest.mark.parametrize("named", [[], ["--db-instance", "neuraknot-prod-db"]])
@pytest.mark.parametrize("host", ["neuraknot-prod-db.another", "other-db.aaaa"])
def test_nor_is_one_of_an_instance_that_is_not_at_the_host(
    stage: Stage, host: str, named: list[str], dry_run: list[str]
) -> None:
    host = f"{host}.ap-northeast-1.rds.amazonaws.com"
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--db-host", host, *named, *dry_run)
    assert outcome.code == 20
    assert not stage.writes


@pytest.mark.parametrize("dry_run", [["--dry-run"], []])
@pytest.mark.parametrize(
    ("host", "says"),
    [
        (
            "neuraknot-prod-db.aaaa.us-east-1.rds.amazonaws.com",
            "RDS has no instance or cluster neuraknot-prod-db to make a snapshot of in ap-northeast-1: the host is in"
            " us-east-1",
        ),
        ("other-db.internal.example", "RDS has no instance or cluster other-db.internal.example"),
        (
            "neuraknot-prod-db.another.ap-northeast-1.rds.amazonaws.com",
            "rds.amazonaws.com (--db-host), but the RDS instance neuraknot-prod-db is at",
        ),
        (
            "other-db.cluster-another.ap-northeast-1.rds.amazonaws.com",
            "RDS has no instance or cluster other-db",
        ),
    ],
)
def test_a_snapshot_of_another_database_is_none(
    stage: Stage, host: str, says: str, dry_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "another database's")
    outcome = stage.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", "--db-host", host, *dry_run)
    assert outcome.code == 20
    assert says in outcome.err
    assert ("--region" if "us-east-1" in host else "--db-instance") in outcome.err
    assert not stage.writes


def test_a_read_replica_is_refused_before_a_snapshot_of_it_is_made(stage: Stage) -> None:
    stage.cloud.server.changes["rds:DescribeDBInstances"] = replica
    outcome = stage.launch("ecs-migrate", "--snapshot")
    assert outcome.code == 20
    assert "is a read replica of neuraknot-main: a migration writes" in outcome.err
    assert not stage.writes


@pytest.mark.parametrize("by_variable", [True, False])
def test_an_instance_that_was_named_outright_is_believed(
    stage: Stage, by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = stage.cloud.stack.database_instance
    monkeypatch.setenv("DB_PASSWORD", "another database's")
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
    assert f"To restore {snapshot}:\n   aws rds restore-db-instance-from-db-snapshot" in outcome.err


@pytest.mark.slow
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
    assert "started by somebody else. This command did not touch the database." in outcome.err
    assert "To restore neuraknot-prod-db-before-" in outcome.err
    assert "RunTask" not in stage.actions


@pytest.mark.slow
def test_nor_one_that_is_started_while_somebody_types(stage: Stage) -> None:
    answers = iter(("YES", "prod", "DELETE ALL DATA"))

    def ask(_: str) -> str:
        answer = next(answers)
        if answer == "prod":
            start_task(stage.cloud, started_by="somebody else")
        return answer

    assert stage.launch("ecs-migrate", "--reset", "--no-snapshot", ask=ask).code == 4
    assert "RunTask" not in stage.actions


@pytest.mark.slow
def test_nor_one_that_is_started_while_the_image_is_built(stage: Stage) -> None:
    def somebody(call: Call) -> None:
        if call.action == "ecr:GetAuthorizationToken":
            start_task(stage.cloud, started_by="somebody else")

    stage.cloud.server.faults.append(somebody)
    (stage.root / "changed").write_text("so that the image must be built")
    assert stage.launch("ecs-migrate").code == 4
    assert "RunTask" not in stage.actions
