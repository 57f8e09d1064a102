"""Planning is pure: values in, a plan out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.image.tag import Image
from launcher.launch.plan import Plan, client_token, make_plan, run_request
from launcher.launch.survey import Survey
from launcher.launch.task_definition import Difference, task_definition
from launcher.models import FamilyTasks, Identity, Password, Request, Secret, Sourced, Stack

IMAGE = Image("1.dkr.ecr.ap-northeast-1.amazonaws.com/migrate", "content-1", "sha256:" + "a" * 64)
SECRET = "hidden by design"


def said(value: Any) -> Sourced[Any]:
    return Sourced(value, "the test")


STACK = Stack(
    environment="dev",
    production=False,
    identity=Identity("123456789012", "arn:aws:sts::123456789012:assumed-role/ci/session"),
    region=said("ap-northeast-1"),
    cluster=said("cluster"),
    service=said("service"),
    subnets=said(("subnet-1",)),
    security_groups=said(("sg-1",)),
    assign_public_ip=said(False),
    execution_role=said("arn:aws:iam::123456789012:role/execution"),
    task_role=said("arn:aws:iam::123456789012:role/task"),
    platform=said("linux/amd64"),
    db_instance=None,
    db_host=said("db"),
    db_port=said(5432),
    db_name=said("neuraKnot"),
    db_user=said("postgres"),
    db_sslmode=said("require"),
    db_sslrootcert=None,
    password=said(Password(value=Secret(SECRET))),
    family="neuraKnot-dev-migrate",
    container="migrate",
    repository="neuraknot-dev-migrate",
    log_group="/ecs/neuraKnot-dev-migrate",
)
REQUEST = Request(("alembic", "upgrade", "head"), client_token="token", started_by="alice@laptop")


def registered(definition: dict[str, Any]) -> dict[str, Any]:
    """As DescribeTaskDefinition gives it back."""
    answer = copy.deepcopy(definition)
    answer |= {"taskDefinitionArn": "arn:x/neuraKnot-dev-migrate:1", "revision": 1, "status": "ACTIVE"}
    answer |= {"volumes": [], "placementConstraints": [], "compatibilities": ["EC2", "FARGATE"]}
    [container] = answer["containerDefinitions"]
    answer |= {
        "pidMode": "",
        "ipcMode": "",
        "enableFaultInjection": False,
        "ephemeralStorage": None,
        "inferenceAccelerators": [],
    }
    container |= {"user": "", "workingDirectory": "", "privileged": False, "dockerLabels": {}, "dependsOn": []}
    container |= {"cpu": 0, "portMappings": [], "mountPoints": [], "volumesFrom": [], "systemControls": []}
    container["environment"].reverse()
    return answer


def plan_against(definition: dict[str, Any] | None, stack: Stack = STACK) -> Plan:
    return make_plan(stack, REQUEST, Survey(IMAGE, True, True, definition, FamilyTasks((), ())))


def test_what_aws_fills_in_and_reorders_is_no_difference() -> None:
    plan = plan_against(registered(task_definition(STACK, IMAGE)))
    assert plan.differences == ()
    assert not plan.registers


def test_the_first_definition_is_registered() -> None:
    assert plan_against(None).registers


def command(definition: dict[str, Any]) -> None:
    definition["containerDefinitions"][0]["command"] = ["rm"]


def password(definition: dict[str, Any]) -> None:
    definition["containerDefinitions"][0]["environment"].append({"name": "DB_PASSWORD", "value": "x"})


def empty_variable(definition: dict[str, Any]) -> None:
    definition["containerDefinitions"][0]["environment"].append({"name": "PGOPTIONS", "value": ""})


def sidecar(definition: dict[str, Any]) -> None:
    definition["containerDefinitions"].append({"name": "agent", "image": "agent:1"})


def memory(definition: dict[str, Any]) -> None:
    definition["memory"] = "1024"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (command, Difference("container.migrate.command", ["rm"], None)),
        (password, Difference("container.migrate.environment.DB_PASSWORD", "x", None)),
        (empty_variable, Difference("container.migrate.environment.PGOPTIONS", "", None)),
        (sidecar, Difference("container.agent.image", "agent:1", None)),
        (memory, Difference("memory", "1024", "512")),
    ],
)
def test_whatever_somebody_else_changed_is_a_difference(
    change: Callable[[dict[str, Any]], None], difference: Difference
) -> None:
    definition = registered(task_definition(STACK, IMAGE))
    change(definition)
    plan = plan_against(definition)
    assert plan.registers
    assert difference in plan.differences


def test_a_password_without_a_secret_travels_with_one_run_only() -> None:
    plan = plan_against(None)
    assert SECRET not in json.dumps(plan.definition)
    assert {"name": "DB_PASSWORD", "value": SECRET} in (
        run_request(plan, "arn:1", None)["overrides"]["containerOverrides"][0]["environment"]
    )
    assert SECRET not in repr(plan)


@pytest.mark.parametrize(("length", "fits"), [(1300, True), (1400, False)])
def test_a_password_has_to_fit_as_boto3_sends_it(length: int, fits: bool) -> None:
    stack = replace(STACK, password=said(Password(value=Secret("\u00e9" * length))))  # six characters each, in ASCII
    with nullcontext() if fits else pytest.raises(UsageError, match="ECS takes 8,192"):
        plan_against(None, stack)


def test_the_deadline_has_to_fit_as_well() -> None:
    def sent(length: int) -> int:
        stack = replace(STACK, password=said(Password(value=Secret("x" * length))))
        plan = plan_against(None, stack)
        request = run_request(plan, "arn:1", plan.request.deadline(1_795_800_000.0))
        return len(json.dumps(request["overrides"]))

    longest = 8192 - sent(0)
    assert sent(longest) == 8192
    with pytest.raises(UsageError, match="ECS takes 8,192"):
        sent(longest + 1)


def test_a_secret_is_referred_to_and_no_password_travels() -> None:
    stack = replace(STACK, password=said(Password(reference="arn:aws:ssm:r:1:parameter/x")))
    plan = plan_against(None, stack)
    [container] = plan.definition["containerDefinitions"]
    assert container["secrets"] == [{"name": "DB_PASSWORD", "valueFrom": "arn:aws:ssm:r:1:parameter/x"}]
    assert "DB_PASSWORD" not in json.dumps(run_request(plan, "arn:1", None))


def test_the_contract_with_the_container() -> None:
    [container] = task_definition(STACK, IMAGE)["containerDefinitions"]
    assert {entry["name"]: entry["value"] for entry in container["environment"]} == {
        "DB_HOST": "db",
        "DB_NAME": "neuraKnot",
        "DB_PORT": "5432",
        "DB_SSLMODE": "require",
        "DB_USER": "postgres",
        "NEURAKNOT_ENV": "dev",
        "NEURAKNOT_IMAGE": IMAGE.reference,
        "NEURAKNOT_RESULT": "json",
    }
    assert container["logConfiguration"]["options"]["mode"] == "blocking"


def test_the_container_is_told_of_the_authority_that_its_server_is_held_against() -> None:
    stack = replace(STACK, db_sslmode=said("verify-full"), db_sslrootcert=said("/app/certificates/rds.pem"))
    [container] = task_definition(stack, IMAGE)["containerDefinitions"]
    assert {"name": "DB_SSLROOTCERT", "value": "/app/certificates/rds.pem"} in container["environment"]


def test_the_client_token_is_the_runs_and_fits() -> None:
    plan = plan_against(None)
    assert client_token(plan) == client_token(plan_against(None))
    other = make_plan(STACK, replace(REQUEST, command=("neuraknot-db", "verify")), plan.survey)
    assert client_token(other) != client_token(plan)
    assert len(client_token(plan)) <= 64


def test_started_by_has_only_what_ecs_allows() -> None:
    tag = replace(REQUEST, started_by="alice o/r/7 (日本)" + "x" * 200).started_by_tag
    assert tag.startswith("alice-o/r/7-")
    assert len(tag) == 128
