"""The policy is enough for everything that the launcher does, and holds nothing besides."""

from __future__ import annotations

import ast
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name

import launcher.aws.client
from launcher.aws.client import Aws
from launcher.cli.console import Console
from launcher.cli.dependencies import Dependencies
from launcher.cli.main import main
from launcher.doctor import least_policy
from launcher.doctor.least_policy import PERMISSIONS
from launcher.doctor.policy_resources import PolicyResources
from launcher.environment.options import Options
from launcher.image.tag import content_tag
from launcher.machine.process import Completed, Runner, run
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.plays import start_task
from launcher.rehearsal.policy import allows
from launcher.rehearsal.stack import DATABASE_PASSWORD
from launcher.rehearsal.stand_in_docker import StandInDocker
from launcher.rehearsal.terraform import write_root
from launcher.terraform.backend import S3State
from launcher.terraform.outputs import Outputs
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, make_stage

ACTIONS = {action for permission in PERMISSIONS for action in permission.actions}
# What docker and not boto3 asks of ECR, what Terraform asks for, and what AWS asks for along with another action.
DOCKERS = {
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
}
TERRAFORMS = {"s3:ListBucket", "sts:AssumeRole"}
BESIDES = {
    *DOCKERS,
    *TERRAFORMS,
    "ecs:TagResource",
    "iam:PassRole",
    "kms:Decrypt",
    "rds:AddTagsToResource",
}


def calls_of_aws_py() -> set[tuple[str, str, bool]]:
    """Every boto3 call in launcher/aws/client.py: client and method, and whether it is made by a paginator.

    That is `self._ecs.run_task(...)` or `self._ecs.get_paginator("list_tasks")`.
    """
    calls, services = set[tuple[str, str, bool]](), botocore.session.Session().get_available_services()
    for node in ast.walk(ast.parse(inspect.getsource(launcher.aws.client))):
        match node:
            case ast.Call(
                ast.Attribute(ast.Attribute(ast.Name("self"), client), "get_paginator"), [ast.Constant(str(name))]
            ):
                paged = True
            case ast.Call(ast.Attribute(ast.Attribute(ast.Name("self"), client), name)):
                paged = False
            case _:
                continue
        service = client.lstrip("_").removesuffix("_once")
        if service in services:
            calls.add((service, name, paged))
    return calls


def iam_action(service: str, method: str) -> str:
    """A boto3 call as IAM names it: `run_task` of ecs is ecs:RunTask."""
    names = botocore.session.Session().get_service_model(service).operation_names
    action = f"{service}:{next(name for name in names if xform_name(name) == method)}"
    return {"s3:HeadObject": "s3:GetObject"}.get(action, action)


def test_every_call_is_in_the_policy_and_nothing_else_is() -> None:
    calls = {iam_action(service, method) for service, method, _ in calls_of_aws_py()}
    assert len(calls) > 20, "the calls were not found"
    assert calls - ACTIONS == {"sts:GetCallerIdentity"}, "which AWS allows to every caller"
    assert ACTIONS - calls == BESIDES


def test_resources_are_the_stack_s_own_wherever_the_service_knows_any() -> None:
    policy = least_policy.policy(PolicyResources.by_name(Options("prod"), Outputs(), "123456789012", "ap-northeast-1"))
    wide = {action for entry in policy["Statement"] if entry["Resource"] == "*" for action in entry["Action"]}
    assert wide == {
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcEndpoints",
        "ecr:GetAuthorizationToken",
        "ecr:GetRegistryScanningConfiguration",
        "ecs:DescribeTaskDefinition",
        "ecs:ListTasks",  # within the cluster, by its condition
        "logs:DescribeLogGroups",
    }
    assert "dev" not in json.dumps(policy)


SCOPE = replace(
    PolicyResources.by_name(Options("dev"), Outputs(), "123456789012", "ap-northeast-1"),
    caller="arn:aws:iam::123456789012:role/caller",
    state=S3State("states", "dev/terraform.tfstate"),
    state_key="arn:aws:kms:us-east-1:123456789012:key/abc",
)
HERE = {"ecs:cluster": SCOPE.arn("ecs", "cluster/neuraKnot-dev-cluster")}
ELSEWHERE = {"ecs:cluster": SCOPE.arn("ecs", "cluster/neuraKnot-prod-cluster")}
OWN = {"aws:ResourceTag/environment": "dev", "aws:ResourceTag/made-by": "launcher"}
VIA_S3 = {"kms:ViaService": "s3.us-east-1.amazonaws.com"}


@pytest.mark.parametrize(
    ("action", "resource", "context", "allowed"),
    [
        ("ecs:RunTask", SCOPE.arn("ecs", "task-definition/neuraKnot-dev-migrate:7"), HERE, True),
        ("ecs:RunTask", SCOPE.arn("ecs", "task-definition/neuraKnot-dev-migrate:7"), ELSEWHERE, False),
        ("ecs:RunTask", SCOPE.arn("ecs", "task-definition/neuraKnot-dev-backend-go:7"), HERE, False),
        ("ecs:ListTasks", "*", HERE, True),
        ("ecs:ListTasks", "*", ELSEWHERE, False),
        ("ecs:StopTask", SCOPE.arn("ecs", "task/neuraKnot-dev-cluster/0"), {**HERE, **OWN}, True),
        ("ecs:StopTask", SCOPE.arn("ecs", "task/neuraKnot-dev-cluster/0"), HERE, False),
        (
            "ecs:StopTask",
            SCOPE.arn("ecs", "task/neuraKnot-dev-cluster/0"),
            {**HERE, **OWN, "aws:ResourceTag/environment": "prod"},
            False,
        ),
        ("ecs:StopTask", SCOPE.arn("ecs", "task/neuraKnot-prod-cluster/0"), {**HERE, **OWN}, False),
        ("ecs:DescribeTasks", SCOPE.arn("ecs", "task/neuraKnot-dev-cluster/0"), {**HERE, **OWN}, True),
        ("ecs:DescribeTasks", SCOPE.arn("ecs", "task/neuraKnot-dev-cluster/0"), HERE, False),
        ("ecs:DescribeTasks", SCOPE.arn("ecs", "task/neuraKnot-prod-cluster/0"), {**HERE, **OWN}, False),
        ("ecs:TagResource", SCOPE.arn("ecs", "task/neuraKnot-dev-cluster/*"), {"ecs:CreateAction": "RunTask"}, True),
        ("ecs:TagResource", SCOPE.arn("ecs", "task/neuraKnot-dev-cluster/0"), {}, False),
        ("kms:Decrypt", "arn:aws:kms:us-east-1:123456789012:key/abc", VIA_S3, True),
        ("kms:Decrypt", "arn:aws:kms:us-east-1:123456789012:key/abc", {}, False),
        ("kms:Decrypt", "arn:aws:kms:us-east-1:123456789012:key/other", VIA_S3, False),
        (
            "iam:PassRole",
            "arn:aws:iam::123456789012:role/neuraKnot-dev-ecs-task-role",
            {"iam:PassedToService": "ecs-tasks.amazonaws.com"},
            True,
        ),
        (
            "iam:PassRole",
            "arn:aws:iam::123456789012:role/neuraKnot-dev-ecs-task-role",
            {"iam:PassedToService": "ec2.amazonaws.com"},
            False,
        ),
        ("ecr:PutImage", SCOPE.arn("ecr", "repository/neuraknot-dev-backend-go"), {}, False),
        ("logs:GetLogEvents", SCOPE.arn("logs", "log-group:/ecs/neuraKnot-dev-migrate:log-stream:a/b/c"), {}, True),
        ("logs:GetLogEvents", SCOPE.arn("logs", "log-group:/ecs/neuraKnot-dev-backend-go:log-stream:a"), {}, False),
        ("rds:CreateDBSnapshot", SCOPE.arn("rds", "db:neuraknot-prod-db"), {}, False),
        ("rds:CreateDBSnapshot", SCOPE.arn("rds", "db:neuraknot-dev-db"), {}, True),
        ("rds:CreateDBSnapshot", SCOPE.arn("rds", "snapshot:neuraknot-dev-db-before-1"), {}, True),
        ("rds:AddTagsToResource", SCOPE.arn("rds", "snapshot:neuraknot-dev-db-before-1"), {}, True),
        ("rds:AddTagsToResource", SCOPE.arn("rds", "db:neuraknot-dev-db"), {}, False),
        ("rds:DescribeDBSnapshots", SCOPE.arn("rds", "db:neuraknot-dev-db"), {}, False),
        ("ecs:RegisterTaskDefinition", SCOPE.arn("ecs", "task-definition/neuraKnot-dev-migrate:*"), {}, True),
        ("ecs:RegisterTaskDefinition", SCOPE.arn("ecs", "task-definition/neuraKnot-dev-backend-go:*"), {}, False),
        ("iam:GetRole", "arn:aws:iam::123456789012:role/neuraKnot-dev-ecs-task-role", {}, True),
        ("iam:GetRole", "arn:aws:iam::123456789012:role/caller", {}, True),
        ("iam:GetRole", "arn:aws:iam::123456789012:role/another", {}, False),
        ("iam:SimulatePrincipalPolicy", "arn:aws:iam::123456789012:role/caller", {}, True),
        ("s3:GetObject", "arn:aws:s3:::states/dev/terraform.tfstate", {}, True),
        ("s3:GetObject", "arn:aws:s3:::states/prod/terraform.tfstate", {}, False),
        ("s3:ListBucket", "arn:aws:s3:::states", {}, True),
        ("rds:DeleteDBInstance", SCOPE.arn("rds", "db:neuraknot-dev-db"), {}, False),
        ("secretsmanager:GetSecretValue", SCOPE.arn("secretsmanager", "secret:neuraKnot-dev-db"), {}, False),
    ],
)
def test_the_policy_allows_the_launcher_s_work_and_nothing_next_to_it(
    action: str, resource: str, context: dict[str, str], allowed: bool
) -> None:
    assert allows([least_policy.policy(SCOPE)], action, resource, context) is allowed


def launcher_says(
    arguments: list[str], cloud: LocalAws, clock: FakeClock, folder: Path, runner: Runner = run
) -> tuple[int, str, str]:
    """The launcher's exit code, standard output and standard error."""
    out, err = StringIO(), StringIO()
    dependencies = Dependencies(
        aws=lambda profile, region: Aws(profile=profile, region=region, attempts=1),
        run=StandInDocker(cloud.stack, runner),
        clock=clock,
        environ=os.environ,
        console=lambda as_json: Console(json=as_json, stdout=out, stderr=err),
    )
    shared = ["--root", str(folder), "--terraform-dir", str(folder / "tf")]
    with pytest.raises(SystemExit) as ended:
        main([arguments[0], *shared, *arguments[1:]], dependencies)
    code = ended.value.code
    return (code if isinstance(code, int) else 0), out.getvalue(), err.getvalue()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile.migrate").write_text("FROM scratch\n")
    assert content_tag(tmp_path, "linux/amd64")
    return tmp_path


def prepared(make_cloud: MakeCloud, folder: Path, environment: str) -> LocalAws:
    cloud = make_cloud(environment=environment)
    write_root(folder / "tf", cloud.stack.outputs, DATABASE_PASSWORD)
    return cloud


def statements_for(cloud: LocalAws, clock: FakeClock, folder: Path) -> list[dict[str, Any]]:
    """What `launcher iam-policy` prints, asked by somebody who may do everything."""
    environment = cloud.stack.options.environment
    code, printed, _ = launcher_says(["iam-policy", "--environment", environment], cloud, clock, folder)
    assert code == 0
    statements: list[dict[str, Any]] = json.loads(printed)["Statement"]
    return statements


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["ecs-migrate", "--environment", "dev"],
        ["ecs-migrate", "--environment", "prod", "--reset", "--confirm-reset", "prod"],
        ["ecs-run", "--environment", "dev", "--timeout", "1", "--", "plan"],
        ["status", "--environment", "dev"],
        ["doctor", "--environment", "dev"],
        ["iam-policy", "--environment", "prod"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_with_the_policy_and_nothing_else_each_command_does_its_work(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path, arguments: list[str]
) -> None:
    cloud = prepared(make_cloud, checkout, arguments[2])
    statements = statements_for(cloud, clock, checkout)
    role = cloud.stack.ci_role
    cloud.stack.allow(role, "deploy", *statements)
    cloud.iam.caller = role
    code, _, said = launcher_says(arguments, cloud, clock, checkout)
    assert "may not do" not in said
    assert code in ((0, 24) if "--timeout" in arguments else (0,)), said


def state_in_s3(cloud: LocalAws, folder: Path, key: str | None = None) -> None:
    """Have Terraform's state be in S3, encrypted by a key."""
    (folder / "tf" / "terraform.tfstate").rename(folder / "state")
    bucket = f"states-{cloud.stack.account}"  # moto's names are the whole process's
    where = f'bucket = "{bucket}"\n key = "dev.tfstate"\n region = "ap-northeast-1"'
    (folder / "tf" / "main.tf").write_text(f'terraform {{\n backend "s3" {{\n {where}\n }}\n}}\n')
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "ap-northeast-1"})
    encryption: Any = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
    s3.put_object(Bucket=bucket, Key="dev.tfstate", Body=(folder / "state").read_bytes(), **encryption)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["instance", "aurora"])
def test_the_commands_need_all_that_the_policy_allows_and_nothing_else(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path, database: str
) -> None:
    cloud = make_cloud(database=database, login="managed")
    stack = cloud.stack
    write_root(checkout / "tf", stack.outputs)
    state_in_s3(cloud, checkout, stack.arn("kms", "key/abc"))
    statements = statements_for(cloud, clock, checkout)
    for name in stack.iam.list_role_policies(stack.ci_role):
        stack.iam.delete_role_policy(stack.ci_role, name)
    stack.allow(stack.ci_role, "launcher", *statements)
    cloud.iam.caller = stack.ci_role

    def works(*arguments: str, ends: int = 0) -> None:
        code, out, said = launcher_says(list(arguments), cloud, clock, checkout)
        assert "may not do" not in said
        assert code == ends, out + said

    works("ecs-migrate", "--snapshot")
    works("logs")
    works("ecs-run", "--timeout", "1", "--", "plan", ends=24)
    works("status")
    works("ecs-migrate", "--detach")
    works("stop")
    works("doctor")
    works("iam-policy")
    allowed = {action for statement in statements for action in statement["Action"]}
    assert cloud.iam.needed == allowed - DOCKERS - TERRAFORMS


def guarded(make_cloud: MakeCloud, clock: FakeClock, checkout: Path) -> LocalAws:
    """A stack whose caller has the printed policy and nothing else."""
    cloud = prepared(make_cloud, checkout, "dev")
    cloud.stack.allow(cloud.stack.ci_role, "deploy", *statements_for(cloud, clock, checkout))
    cloud.iam.caller = cloud.stack.ci_role
    return cloud


@pytest.mark.slow
@pytest.mark.parametrize("beside_one_of_its_own", [True, False])
def test_a_task_without_the_launcher_s_tags_is_nobody_s_to_stop_and_keeps_others_from_starting(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path, beside_one_of_its_own: bool
) -> None:
    cloud = guarded(make_cloud, clock, checkout)
    if beside_one_of_its_own:
        assert launcher_says(["ecs-migrate"], cloud, clock, checkout)[0] == 0
    own = set(cloud.ecs.tasks)
    start_task(cloud, started_by="an older launcher")
    [task] = [task for arn, task in cloud.ecs.tasks.items() if arn not in own]

    def explains(*arguments: str, ends: int) -> None:
        code, out, said = launcher_says(list(arguments), cloud, clock, checkout)
        assert code == ends, out + said
        assert "started by hand or by an older launcher" in said
        assert f"describe-tasks --cluster neuraKnot-dev-cluster --include TAGS --tasks {task.id}" in said

    explains("stop", task.id, ends=21)
    explains("logs", "--follow", task.id, ends=21)
    if beside_one_of_its_own:
        code, out, _ = launcher_says(["status"], cloud, clock, checkout)
        assert (code, f"{task.id}  NOT READABLE" in out, len(out.splitlines())) == (0, True, 2)
        code, _, said = launcher_says(["ecs-migrate"], cloud, clock, checkout)
        assert (code, f"is alive: {task.id} (NOT READABLE)" in said) == (4, True)
    else:
        explains("status", ends=21)
        explains("ecs-migrate", ends=21)
    assert task.stopping is None
    assert len(cloud.ecs.tasks) == len(own) + 1


@pytest.mark.slow
def test_a_task_whose_tags_ecs_does_not_know_is_waited_for_and_its_log_is_read(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path
) -> None:
    cloud = guarded(make_cloud, clock, checkout)
    cloud.ecs.unseen = 20.0
    assert launcher_says(["ecs-migrate"], cloud, clock, checkout)[0] == 0
    [task] = cloud.ecs.tasks.values()
    clock.sleep(7200)
    code, _, said = launcher_says(["logs", task.id], cloud, clock, checkout)
    assert code == 0, said
    cloud.ecs.unseen = 600.0
    code, _, said = launcher_says(["ecs-migrate"], cloud, clock, checkout)
    assert code == 25
    assert "can't be watched any more" in said


@pytest.mark.parametrize(
    ("key", "told", "refused", "expected"),
    [
        ("arn:aws:kms:ap-northeast-1:{account}:key/abc", None, False, "arn:aws:kms:ap-northeast-1:{account}:key/abc"),
        (None, None, False, None),
        (None, "arn:aws:kms:us-east-1:123456789012:key/told", True, "arn:aws:kms:us-east-1:123456789012:key/told"),
        (None, "alias/ours", True, "not known (alias/ours)"),
        (None, None, True, "not known: if it is one of your own"),
    ],
)
def test_the_state_s_key_is_named_or_said_to_be_not_known(
    make_cloud: MakeCloud,
    clock: FakeClock,
    checkout: Path,
    key: str | None,
    told: str | None,
    refused: bool,
    expected: str | None,
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    key, expected = (word and word.format(account=cloud.stack.account) for word in (key, expected))
    state_in_s3(cloud, checkout, key)
    main_tf = checkout / "tf" / "main.tf"
    if told:
        main_tf.write_text(main_tf.read_text().replace('key = "dev', f'kms_key_id = "{told}"\n key = "dev'))

    def refuse(call: Call) -> None:
        if refused and call.action == "s3:HeadObject":
            raise Refusal("AccessDeniedException", "no", 403)

    cloud.server.faults.append(refuse)
    code, printed, said = launcher_says(["iam-policy"], cloud, clock, checkout)
    assert code == 0
    keys = [entry for entry in json.loads(printed)["Statement"] if entry["Action"] == ["kms:Decrypt"]]
    if expected is not None and expected.startswith("arn:"):
        assert [entry["Resource"] for entry in keys] == [expected]
        assert "not known" not in said
    else:
        assert keys == []
        assert (expected or "") in said
        assert ("key encrypts" in said) == (expected is not None)


@pytest.mark.parametrize(
    ("sid", "action"),
    [
        ("TagTheTask", "ecs:TagResource"),
        ("ReadTheService", "ecs:DescribeServices"),
        ("ReadDefinitions", "ecs:DescribeTaskDefinition"),
        ("RegisterTheDefinition", "ecs:RegisterTaskDefinition"),
        ("RunTheTask", "ecs:RunTask"),
        ("HandOverTheTasksRoles", "iam:PassRole"),
        ("PushTheImage", "ecr:"),
        ("FindTasks", "ecs:ListTasks"),
    ],
)
def test_without_one_statement_the_launcher_says_what_is_lacking_and_starts_nothing(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path, sid: str, action: str
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    statements = [entry for entry in statements_for(cloud, clock, checkout) if entry["Sid"] != sid]
    cloud.stack.allow(cloud.stack.ci_role, "deploy", *statements)
    cloud.iam.caller = cloud.stack.ci_role
    code, _, said = launcher_says(["ecs-migrate"], cloud, clock, checkout)
    assert code == 21
    assert f"may not do {action}" in said
    assert "launcher iam-policy" in said
    assert cloud.ecs.tasks == {}


@pytest.mark.slow
def test_it_tells_what_the_ci_role_lacks_and_nothing_once_it_has_the_policy(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    _, printed, said = launcher_says(["iam-policy"], cloud, clock, checkout)
    lacks = {line.split()[0] for line in said.splitlines() if line.startswith("   ") and ":" in line.split()[0]}
    assert {"ecs:RunTask", "logs:GetLogEvents"} <= lacks
    assert not lacks & {"iam:PassRole", "ecs:RegisterTaskDefinition", "ecr:PutImage"}
    where = f"--root {checkout} --terraform-dir {checkout / 'tf'}"
    assert f'"$(launcher iam-policy --environment dev {where} 2>/dev/null)"' in said
    cloud.stack.allow(cloud.stack.ci_role, "neuraknot-launcher", *json.loads(printed)["Statement"])
    _, _, said = launcher_says(["iam-policy"], cloud, clock, checkout)
    assert "has all of these permissions" in said


def test_without_a_stack_or_credentials_an_account_is_enough(cloud: LocalAws, clock: FakeClock, tmp_path: Path) -> None:
    cloud.server.know(cloud.credentials.access_key, expired=True)
    code, _, said = launcher_says(["iam-policy"], cloud, clock, tmp_path)
    assert code == 21
    assert "--account" in said
    code, printed, _ = launcher_says(["iam-policy", "--account", "123456789012"], cloud, clock, tmp_path)
    assert code == 0
    assert "arn:aws:ecs:ap-northeast-1:123456789012:cluster/neuraKnot-dev-cluster" in printed
    options = ["--account", "123456789012", "--project", "other"]
    assert "cluster/other-dev-cluster" in launcher_says(["iam-policy", *options], cloud, clock, tmp_path)[1]


PARTITIONS = [("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn"), ("eusc-de-east-1", "aws-eusc")]


@pytest.mark.parametrize(("region", "partition"), PARTITIONS)
def test_arns_are_of_the_region_s_partition(
    cloud: LocalAws, clock: FakeClock, tmp_path: Path, region: str, partition: str
) -> None:
    account = ["--account", "123456789012", "--region", region]
    (tmp_path / "tf").mkdir()
    (tmp_path / "tf" / "main.tf").write_text('terraform {\n backend "s3" {\n bucket = "b"\n key = "k"\n }\n}\n')
    cloud.server.know(cloud.credentials.access_key, expired=True)
    code, printed, _ = launcher_says(["iam-policy", *account], cloud, clock, tmp_path)
    assert code == 0
    assert f'"arn:{partition}:s3:::b/k"' in printed
    assert f'"arn:{partition}:iam::123456789012:role/neuraKnot-dev-github-actions-role"' in printed
    assert printed.count("arn:") == printed.count(f"arn:{partition}:")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("region", "registry"), [("us-gov-west-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")]
)
def test_in_another_partition_everything_is_found_and_allowed(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path, region: str, registry: str
) -> None:
    cloud = make_cloud(region=region, way_out="endpoints", login="output")
    write_root(checkout / "tf", cloud.stack.outputs, DATABASE_PASSWORD)
    cloud.stack.allow(cloud.stack.ci_role, "deploy", *statements_for(cloud, clock, checkout))
    cloud.iam.caller = cloud.stack.ci_role
    for command in (["doctor"], ["ecs-migrate", "--dry-run"]):
        code, out, said = launcher_says(command, cloud, clock, checkout)
        assert code == 0, out + said
    assert f"{cloud.stack.account}.dkr.ecr.{region}.{registry}/neuraknot-dev-migrate" in said + out


def resources(printed: str) -> str:
    return json.dumps([entry["Resource"] for entry in json.loads(printed)["Statement"]])


@pytest.mark.slow
def test_what_the_caller_names_is_in_the_policy_of_a_stack_that_can_t_be_read(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    role = cloud.stack.arn("iam", "role/mine")
    secret = cloud.stack.arn("secretsmanager", "secret:mine-x")
    given = ["--cluster", "nope", "--service", "web", "--execution-role", role, "--db-instance", "mine"]
    given += ["--db-password-secret", f"{secret}:password::"]
    code, printed, said = launcher_says(["iam-policy", *given], cloud, clock, checkout)
    assert code == 0
    assert "no ECS cluster nope" in said
    named = resources(printed)
    for part in ("cluster/nope", "service/nope/web", "task/nope/*", role, "db:mine", secret):
        assert f'{part}"' in named
    assert "neuraKnot-dev-cluster" not in named
    assert "role/neuraKnot-dev-*" in named  # the task role is the service's, which nobody could read


def test_what_terraform_names_is_in_the_policy_though_ecs_may_not_be_asked(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    host = "other-db.aaaa.ap-northeast-1.rds.amazonaws.com"
    secret = cloud.stack.arn("secretsmanager", "secret:theirs-x")
    changed = {"ecs_cluster_name": "theirs", "rds_host": host, "rds_master_user_secret_arn": secret}
    write_root(checkout / "tf", {**cloud.stack.outputs, **changed}, DATABASE_PASSWORD)
    for policy in cloud.stack.iam.list_role_policies(cloud.stack.ci_role):
        cloud.stack.iam.delete_role_policy(cloud.stack.ci_role, policy)
    cloud.iam.caller = cloud.stack.ci_role
    code, printed, said = launcher_says(["iam-policy"], cloud, clock, checkout)
    assert (code, "may not do ecs:DescribeServices" in said) == (0, True)
    named = resources(printed)
    assert all(f'{part}"' in named for part in ("cluster/theirs", "db:other-db", secret))


@pytest.mark.slow
def test_whoever_may_not_read_the_state_yet_is_given_it(
    make_cloud: MakeCloud, clock: FakeClock, checkout: Path
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    backend = 'terraform {\n  backend "s3" {\n    bucket = "states"\n    key = "dev.tfstate"\n  }\n}\n'
    (checkout / "tf" / "main.tf").write_text(backend)
    (checkout / "tf" / "terraform.tfstate").unlink()
    _, printed, said = launcher_says(["iam-policy"], cloud, clock, checkout)
    assert "outputs can't be read" in said
    assert '"arn:aws:s3:::states/dev.tfstate"' in resources(printed)


STATES_ROLE = "arn:aws:iam::999999999999:role/state"
READERS: dict[str, tuple[dict[str, Any], bool, str | None]] = {
    "a role": ({"assume_role": {"role_arn": STATES_ROLE, "external_id": None}}, True, None),
    "a role, as it was written once": ({"role_arn": STATES_ROLE}, True, None),
    "a profile": ({"profile": "states"}, False, "(profile states). That one needs s3:GetObject and s3:ListBucket"),
    "a profile's role": (
        {"profile": "states", "assume_role": {"role_arn": STATES_ROLE}},
        False,
        f"(profile states). That one needs sts:AssumeRole on {STATES_ROLE}",
    ),
    "keys": ({"access_key": "AKIA", "secret_key": "geheim"}, False, "(access_key, secret_key). That one needs s3"),
    "a web identity": (
        {"assume_role_with_web_identity": {"role_arn": STATES_ROLE}}, False, "(assume_role_with_web_identity). That",
    ),
    "nobody else": ({"profile": "", "role_arn": "", "assume_role": {"role_arn": None}}, False, None),
}  # fmt: skip


@pytest.mark.parametrize("known", ["by Terraform", "by what init recorded", "by the files"])
@pytest.mark.parametrize(("config", "assumed", "note"), READERS.values(), ids=READERS.keys())
def test_the_state_is_read_by_whom_the_backend_names(
    make_cloud: MakeCloud,
    clock: FakeClock,
    checkout: Path,
    known: str,
    config: dict[str, Any],
    assumed: bool,
    note: str | None,
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    where = {"bucket": "states", "key": "dev.tfstate", "region": "ap-northeast-1"}
    init = checkout / "tf" / ".terraform"
    init.mkdir()
    (init / "terraform.tfstate").write_text(json.dumps({"backend": {"type": "s3", "config": {**where, **config}}}))
    made = {**where, **(config if note or assumed else {})}
    values = "\n".join(
        f"{name} = {json.dumps(value).replace(': ', ' = ')}"
        for name, value in (made if known == "by the files" else where).items()
    )
    (checkout / "tf" / "main.tf").write_text(f'terraform {{\n backend "s3" {{\n{values}\n }}\n}}\n')
    outputs = {name: {"value": value} for name, value in cloud.stack.outputs.items()}

    def terraform(arguments: Sequence[str], **how: Any) -> Completed:
        if arguments[0] != "terraform":
            return run(arguments, **how)
        if known == "by Terraform":
            return Completed(tuple(arguments), 0, json.dumps(outputs, indent=2), "")
        return Completed(tuple(arguments), 1, "", "AccessDenied: not authorized to perform: sts:AssumeRole")

    if known == "by the files":
        (init / "terraform.tfstate").unlink()
        init.rmdir()
    code, printed, said = launcher_says(["iam-policy"], cloud, clock, checkout, terraform)
    assert code == 0, said
    actions = {action: entry["Resource"] for entry in json.loads(printed)["Statement"] for action in entry["Action"]}
    assert actions.get("sts:AssumeRole") == (STATES_ROLE if assumed else None)
    by_caller = not assumed and note is None
    assert ("s3:GetObject" in actions, "s3:ListBucket" in actions) == (by_caller, by_caller)
    assert "kms:Decrypt" not in actions
    assert (note or "") in said
    assert ("is read by whom" in said) == (note is not None)
    assert ("Which key encrypts" in said) == by_caller  # nobody made the bucket
    assert "geheim" not in said


@pytest.mark.parametrize("readable", [True, False])
def test_the_policy_is_the_ci_role_s_whoever_asks(
    readable: bool, make_cloud: MakeCloud, clock: FakeClock, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    stack = cloud.stack
    for policy in stack.iam.list_role_policies(stack.ci_role):
        stack.iam.delete_role_policy(stack.ci_role, policy)
    stack.iam.delete_role(stack.ci_role)
    ci = stack.iam.create_role(stack.ci_role, "{}", "/ci/", None, "", [], "3600")
    stack.iam.create_role("admin", "{}", "/", None, "", [], "3600")
    session = stack.sign_in(stack.arn("iam", "role/admin"))
    cloud.server.know(session.access_key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", session.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", session.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", session.session_token)
    given = [] if readable else ["--cluster", "nope"]
    _, printed, said = launcher_says(["iam-policy", *given], cloud, clock, checkout)
    [roles] = [entry for entry in json.loads(printed)["Statement"] if "iam:SimulatePrincipalPolicy" in entry["Action"]]
    assert ci.arn in roles["Resource"]
    assert "iam:GetRole" in roles["Action"]
    assert "admin" not in printed
    assert f"{stack.ci_role} lacks:" in said  # so that IAM knew the role by its real ARN


def test_json_goes_to_standard_output_alone(make_cloud: MakeCloud, clock: FakeClock, checkout: Path) -> None:
    cloud = prepared(make_cloud, checkout, "dev")
    _, printed, said = launcher_says(["iam-policy", "--json"], cloud, clock, checkout)
    assert json.loads(printed)["Version"] == "2012-10-17"
    assert "lacks" in said


def give_the_printed_policy(stage: Stage, *options: str) -> list[Any]:
    outcome = stage.launch("iam-policy", *options)
    assert outcome.code == 0
    statements: list[Any] = json.loads(outcome.out)["Statement"]
    stage.cloud.stack.allow(stage.cloud.stack.ci_role, "deploy", *statements)
    return statements


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("named", ["neuraknot-dev-db", "neuraKnot-Dev-DB"])
@pytest.mark.parametrize("kind", ["instance", "aurora", "multi-az"])
def test_the_policy_is_enough_for_a_database_under_an_alias(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, kind: str, named: str, readable: bool
) -> None:
    stage = make_stage(make_cloud(database=kind, login="tfvars", script=GOOD), clock, tmp_path)
    options = ("--db-host", "db.internal.example", "--db-instance", named)
    if not readable:
        stage.cloud.iam.caller = stage.cloud.stack.ci_role
        give_the_printed_policy(stage, *options)
    assert named.lower() == "neuraknot-dev-db"
    assert "neuraKnot-Dev-DB" not in json.dumps(give_the_printed_policy(stage, *options))
    stage.cloud.iam.caller = stage.cloud.stack.ci_role
    outcome = stage.launch("ecs-migrate", "--snapshot", *options)
    assert outcome.code == 0, outcome.err


def test_whoever_may_not_look_at_the_instance_of_a_cluster_is_given_both(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    cloud = make_cloud(database="aurora", login="managed", script=GOOD)
    stage = make_stage(cloud, clock, tmp_path)
    stage.outputs({"rds_host": str(cloud.stack.rds.databases[cloud.stack.database_instance].address)})
    cloud.iam.caller = cloud.stack.ci_role
    give_the_printed_policy(stage)
    assert stage.launch("ecs-migrate", "--dry-run").code == 0
    give_the_printed_policy(stage)  # now that it is known which cluster that is
    assert stage.launch("ecs-migrate", "--snapshot").code == 0


def test_a_database_that_could_not_be_asked_for_is_told(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = make_stage(make_cloud(), clock, tmp_path)
    stage.cloud.server.faults.append(throttle("rds:DescribeDBInstances"))
    secret = stage.cloud.stack.arn("secretsmanager", "secret:mine-x")
    outcome = stage.launch("iam-policy", "--db-password-secret", secret)
    assert "RDS can't be asked" in outcome.err
    assert "Rate exceeded" in outcome.err
    assert "cluster:*" in outcome.out


def throttle(action: str) -> Callable[[Call], None]:
    def fault(call: Call) -> None:
        if call.action == action:
            raise Refusal("Throttling", "Rate exceeded")

    return fault


DENIERS = {"Organizations": "A service control policy of the organization", "PermissionsBoundary": "A permissions"}


@pytest.mark.parametrize("denier", DENIERS)
def test_no_permission_is_to_be_given_where_something_else_denies(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, denier: str
) -> None:
    stage = make_stage(make_cloud(), clock, tmp_path)
    give_the_printed_policy(stage)
    stage.cloud.iam.deniers = {"ecs:RunTask": denier}
    said = stage.launch("iam-policy").err
    assert f"ecs:RunTask: {DENIERS[denier]}" in said
    assert "put-role-policy" not in said
    for policy in stage.cloud.stack.iam.list_role_policies(stage.cloud.stack.ci_role):
        stage.cloud.stack.iam.delete_role_policy(stage.cloud.stack.ci_role, policy)
    said = stage.launch("iam-policy").err
    assert f"ecs:RunTask: {DENIERS[denier]}" in said
    assert "put-role-policy" in said


def test_no_permission_is_to_be_given_where_a_policy_denies_outright(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = make_stage(make_cloud(), clock, tmp_path)
    give_the_printed_policy(stage)
    stage.cloud.stack.allow(
        stage.cloud.stack.ci_role, "no", {"Effect": "Deny", "Action": "ecs:StopTask", "Resource": "*"}
    )
    said = stage.launch("iam-policy").err
    assert "ecs:StopTask: A policy denies it outright" in said
    assert "put-role-policy" not in said
