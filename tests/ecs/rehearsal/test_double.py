"""The local AWS refuses what AWS refuses, and tells a task's life as ECS tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from launcher.aws.client import Aws
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.program import Script
from launcher.rehearsal.task import Injected
from launcher.task.find import find_tasks
from tests.ecs.conftest import FakeClock, MakeCloud

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def ecs(cloud: LocalAws) -> Any:
    return boto3.client("ecs")


def register(cloud: LocalAws, **changes: Any) -> str:
    """A definition as the launcher registers it, with the image and log group that it needs."""
    stack = cloud.stack
    if stack.repository not in stack.ecr.repositories:
        stack.put_image("tag", DIGEST)
        stack.logs.create_log_group(stack.log_group, {})
    container: dict[str, Any] = {
        "name": "migrate",
        "image": f"{stack.account}.dkr.ecr.{stack.region}.amazonaws.com/{stack.repository}:tag@{DIGEST}",
        "command": ["alembic", "upgrade", "head"],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": stack.log_group,
                "awslogs-region": stack.region,
                "awslogs-stream-prefix": "migrate",
            },
        },
    }
    container.update(changes.pop("container", {}))
    definition = {
        "family": stack.family,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": stack.execution_role_arn,
        "containerDefinitions": [container, *changes.pop("more", [])],
        **changes,
    }
    registered = boto3.client("ecs").register_task_definition(**definition)
    return str(registered["taskDefinition"]["taskDefinitionArn"])


def run(cloud: LocalAws, definition: str, **changes: Any) -> Any:
    stack = cloud.stack
    request: dict[str, Any] = {
        "cluster": stack.cluster,
        "taskDefinition": definition,
        "launchType": "FARGATE",
        "networkConfiguration": {
            "awsvpcConfiguration": {"subnets": list(stack.subnets), "securityGroups": [stack.service_group]}
        },
        **changes,
    }
    return boto3.client("ecs").run_task(**request)


def look(cloud: LocalAws, arn: str) -> Mapping[str, Any]:
    return dict(boto3.client("ecs").describe_tasks(cluster=cloud.stack.cluster, tasks=[arn])["tasks"][0])


def test_a_task_s_life_takes_its_time_and_has_no_exit_code_before_its_end(cloud: LocalAws, clock: FakeClock) -> None:
    arn = run(cloud, register(cloud))["tasks"][0]["taskArn"]
    seen: list[tuple[str, int | None, str | None]] = []
    for _ in range(30):
        task = look(cloud, arn)
        if not seen or seen[-1][0] != task["lastStatus"]:
            seen.append((task["lastStatus"], task["containers"][0].get("exitCode"), task.get("stopCode")))
        clock.sleep(1)
    assert seen == [
        ("PROVISIONING", None, None),
        ("PENDING", None, None),
        ("RUNNING", None, None),
        ("DEPROVISIONING", 0, "EssentialContainerExited"),
        ("STOPPED", 0, "EssentialContainerExited"),
    ]
    assert task["stoppedReason"] == "Essential container in task exited"
    assert (
        task["createdAt"] < task["pullStartedAt"] < task["startedAt"] < task["executionStoppedAt"] < task["stoppedAt"]
    )


def test_lines_reach_the_stream_as_the_driver_names_it(make_cloud: MakeCloud, clock: FakeClock) -> None:
    cloud = make_cloud(script=Script(lines=((0.5, "one"), (0.5, ""), (2.0, "two"))))
    arn = run(cloud, register(cloud))["tasks"][0]["taskArn"]
    stream = f"migrate/migrate/{arn.rsplit('/', 1)[-1]}"
    aws = Aws()
    assert aws.log_events(cloud.stack.log_group, stream) is None, "the stream was there before the container"
    clock.sleep(21)
    first = aws.log_events(cloud.stack.log_group, stream)
    clock.sleep(20)
    assert first is not None
    second = aws.log_events(cloud.stack.log_group, stream, first.token)
    assert second is not None
    assert [event["message"] for event in (*first.events, *second.events)] == ["one", " ", "two"]
    last = aws.log_events(cloud.stack.log_group, stream, second.token)
    assert last is not None
    assert (last.events, last.token) == ((), second.token)


def test_a_token_never_shows_an_event_twice_though_timestamps_go_backwards(cloud: LocalAws) -> None:
    register(cloud)
    group, logs, now = cloud.stack.log_group, boto3.client("logs"), int(cloud.server.now() * 1000)
    logs.create_log_stream(logGroupName=group, logStreamName="s")

    def put(message: str, age: int) -> None:
        event = {"timestamp": now - age, "message": message}
        logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=[event])  # type: ignore[list-item]

    seen, token = [], None
    for message, age in (("a", 10), ("late", 5000), ("b", 0)):
        put(message, age)
        page = Aws().log_events(group, "s", token)
        assert page is not None
        seen += [event["message"] for event in page.events]
        token = page.token
    assert seen == ["a", "late", "b"]


REFUSED: dict[str, tuple[Callable[[LocalAws], Any], str]] = {
    "unknown container in an override": (
        lambda cloud: run(cloud, register(cloud), overrides={"containerOverrides": [{"name": "web"}]}),
        "Override for container named web is not a container in the TaskDefinition.",
    ),
    "no network": (
        lambda cloud: run(cloud, register(cloud), networkConfiguration={}),
        "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
    ),
    "unknown subnet": (
        lambda cloud: run(
            cloud, register(cloud), networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-0"]}}
        ),
        "The subnet ID 'subnet-0' does not exist",
    ),
    "security group of another network": (
        lambda cloud: run(
            cloud,
            register(cloud),
            networkConfiguration={
                "awsvpcConfiguration": {
                    "subnets": list(cloud.stack.subnets),
                    "securityGroups": [cloud.stack.ec2.create_security_group("other", "-").id],
                }
            },
        ),
        "Security group and subnet belong to different networks.",
    ),
    "unknown cluster": (lambda cloud: run(cloud, register(cloud), cluster="nowhere"), "Cluster not found."),
    "unknown definition": (lambda cloud: run(cloud, "nothing:1"), "TaskDefinition not found."),
    "long startedBy": (lambda cloud: run(cloud, register(cloud), startedBy="x" * 129), "startedBy length"),
    "long clientToken": (lambda cloud: run(cloud, register(cloud), clientToken="x" * 65), "clientToken length"),
    "long overrides": (
        lambda cloud: run(
            cloud, register(cloud), overrides={"containerOverrides": [{"name": "migrate", "command": ["x" * 9000]}]}
        ),
        "Container Overrides length must be at most 8192",
    ),
    "memory that Fargate does not have": (
        lambda cloud: register(cloud, memory="700"),
        "No Fargate configuration exists for given values: 256 CPU, 700 memory.",
    ),
    "no execution role": (
        lambda cloud: register(cloud, executionRoleArn=""),
        "Fargate requires task definition to have execution role ARN to support log driver awslogs.",
    ),
    "a name that is both variable and secret": (
        lambda cloud: register(
            cloud,
            container={
                "environment": [{"name": "DB_PASSWORD", "value": ""}],
                "secrets": [{"name": "DB_PASSWORD", "valueFrom": "x"}],
            },
        ),
        "The secret name must be unique",
    ),
    "stopping an unknown task": (
        lambda cloud: boto3.client("ecs").stop_task(cluster=cloud.stack.cluster, task="0" * 32),
        "The referenced task was not found.",
    ),
    "describing nothing": (
        lambda cloud: boto3.client("ecs").describe_tasks(cluster=cloud.stack.cluster, tasks=[]),
        "Tasks cannot be empty.",
    ),
    "two filters with startedBy": (
        lambda cloud: boto3.client("ecs").list_tasks(cluster=cloud.stack.cluster, family="f", startedBy="me"),
        "The startedBy filter must be the only filter that you use.",
    ),
}


@pytest.mark.parametrize(("attempt", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_ecs_refuses_is_refused(cloud: LocalAws, attempt: Callable[[LocalAws], Any], words: str) -> None:
    with pytest.raises(ClientError, match=words.replace("(", r"\(")):
        attempt(cloud)
    assert cloud.ecs.tasks == {}


def test_a_client_token_starts_one_task_and_no_other_request(cloud: LocalAws) -> None:
    definition = register(cloud)
    arns = {run(cloud, definition, clientToken="token")["tasks"][0]["taskArn"] for _ in range(2)}
    assert len(arns) == len(cloud.ecs.tasks) == 1
    with pytest.raises(ClientError, match="ConflictException"):
        run(cloud, definition, clientToken="token", startedBy="somebody else")


def test_unknown_tasks_are_missing(cloud: LocalAws, ecs: Any) -> None:
    answer = ecs.describe_tasks(cluster=cloud.stack.cluster, tasks=["0" * 32])
    assert answer["tasks"] == []
    assert [failure["reason"] for failure in answer["failures"]] == ["MISSING"]


def test_stopped_tasks_are_listed_for_an_hour_and_running_ones_apart(
    cloud: LocalAws, ecs: Any, clock: FakeClock
) -> None:
    arn = run(cloud, register(cloud))["tasks"][0]["taskArn"]

    def listed(status: str) -> list[str]:
        answer = ecs.list_tasks(cluster=cloud.stack.cluster, family=cloud.stack.family, desiredStatus=status)
        return list(answer["taskArns"])

    assert (listed("RUNNING"), listed("STOPPED")) == ([arn], [])
    of_the_service = ecs.list_tasks(cluster=cloud.stack.cluster, serviceName=cloud.stack.service)
    assert of_the_service["taskArns"] == []
    clock.sleep(60)
    assert (listed("RUNNING"), listed("STOPPED")) == ([], [arn])
    clock.sleep(3600)
    assert (listed("RUNNING"), listed("STOPPED")) == ([], [])


@pytest.mark.parametrize(("heeds", "after", "code"), [(True, 0.0, 143), (False, 30.0, 137)])
def test_stop_task_sends_sigterm_and_then_sigkill(
    make_cloud: MakeCloud, clock: FakeClock, heeds: bool, after: float, code: int
) -> None:
    cloud = make_cloud(script=Script(seconds=9999, heeds_sigterm=heeds))
    arn = run(cloud, register(cloud))["tasks"][0]["taskArn"]
    clock.sleep(30)
    boto3.client("ecs").stop_task(cluster=cloud.stack.cluster, task=arn, reason="enough")
    asked = clock.now()
    clock.sleep(60)
    task = look(cloud, arn)
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "enough")
    assert task["containers"][0]["exitCode"] == code
    assert task["executionStoppedAt"].timestamp() == pytest.approx(asked + after, abs=0.01)


def test_a_task_stopped_before_it_ran_has_no_exit_code(cloud: LocalAws, clock: FakeClock) -> None:
    arn = run(cloud, register(cloud))["tasks"][0]["taskArn"]
    boto3.client("ecs").stop_task(cluster=cloud.stack.cluster, task=arn)
    clock.sleep(60)
    task = look(cloud, arn)
    assert task["lastStatus"] == "STOPPED"
    assert "startedAt" not in task
    assert all("exitCode" not in container for container in task["containers"])


def test_all_containers_are_told_of_and_injected_ones_come_first(cloud: LocalAws, clock: FakeClock) -> None:
    cloud.ecs.injected = (Injected("aws-guardduty-agent-x", 2),)
    sidecar = {"name": "sidecar", "image": "public.ecr.aws/sidecar", "essential": False}
    arn = run(cloud, register(cloud, more=[sidecar]))["tasks"][0]["taskArn"]
    clock.sleep(21)
    assert all("exitCode" not in container for container in look(cloud, arn)["containers"])
    clock.sleep(60)
    codes = [(container["name"], container["exitCode"]) for container in look(cloud, arn)["containers"]]
    assert codes == [("aws-guardduty-agent-x", 2), ("migrate", 0), ("sidecar", 143)]


def no_route(cloud: LocalAws) -> None:
    cloud.stack.ec2.delete_route(cloud.stack.route_table, "0.0.0.0/0")


def no_image(cloud: LocalAws) -> None:
    cloud.stack.ecr.repositories[cloud.stack.repository].images.clear()


def no_log_group(cloud: LocalAws) -> None:
    cloud.stack.logs.delete_log_group(cloud.stack.log_group)


def no_secret(cloud: LocalAws) -> None:
    cloud.stack.iam.delete_role_policy(cloud.stack.execution_role, "database-secret")


def no_registry(cloud: LocalAws) -> None:
    cloud.stack.iam.delete_role_policy(cloud.stack.execution_role, "execution")


OBSTACLES: dict[str, tuple[Callable[[LocalAws], None], str]] = {
    "no way out": (no_route, "ResourceInitializationError: .*dial tcp .*i/o timeout"),
    "no image": (no_image, "CannotPullContainerError: .*not found"),
    "no log group": (no_log_group, "ResourceInitializationError: .*log group does not exist"),
    "secret": (no_secret, "ResourceInitializationError: .*not authorized to perform: secretsmanager:GetSecretValue"),
    "registry": (no_registry, "ResourceInitializationError: .*not authorized to perform: ecr:GetAuthorizationToken"),
}


@pytest.mark.parametrize(("break_it", "words"), OBSTACLES.values(), ids=OBSTACLES.keys())
def test_a_broken_stack_keeps_tasks_from_starting(
    make_cloud: MakeCloud, clock: FakeClock, break_it: Callable[[LocalAws], None], words: str
) -> None:
    cloud = make_cloud(login="output")
    secret = {"name": "DB_PASSWORD", "valueFrom": f"{cloud.stack.secret}:password::"}
    definition = register(cloud, container={"secrets": [secret]})
    sound = run(cloud, definition)["tasks"][0]["taskArn"]
    clock.sleep(60)
    assert look(cloud, sound)["stopCode"] == "EssentialContainerExited"
    break_it(cloud)
    arn = run(cloud, definition)["tasks"][0]["taskArn"]
    clock.sleep(60)
    task = look(cloud, arn)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TaskFailedToStart")
    import re

    assert re.match(words, task["stoppedReason"])
    assert "exitCode" not in task["containers"][0]


def test_accounts_do_not_see_each_other_and_foreign_keys_are_refused(make_cloud: MakeCloud) -> None:
    one = make_cloud()
    arn = run(one, register(one))["tasks"][0]["taskArn"]
    two = make_cloud()
    assert two.server.account != one.server.account
    answer = boto3.client("ecs").describe_tasks(cluster=two.stack.cluster, tasks=[arn])
    assert [failure["reason"] for failure in answer["failures"]] == ["MISSING"]
    for service, operation in (("ecs", "list_clusters"), ("sts", "get_caller_identity"), ("ec2", "describe_vpcs")):
        client = boto3.client(service, aws_access_key_id="AKIDSOMEBODYELSESKEY", aws_secret_access_key="x")  # type: ignore[call-overload]
        with pytest.raises(ClientError, match=r"UnrecognizedClient|InvalidClientTokenId|AuthFailure"):
            getattr(client, operation)()


def test_the_roles_policies_decide_a_simulation(make_cloud: MakeCloud) -> None:
    cloud = make_cloud(login="managed")
    secret = str(cloud.stack.secret)
    results = Aws().simulate(cloud.stack.execution_role_arn, ["secretsmanager:GetSecretValue", "kms:Decrypt"], [secret])
    assert [result.allowed for result in results] == [True, False]


def test_a_simulation_answers_for_each_resource_of_an_action_and_in_pages(cloud: LocalAws) -> None:
    stack, actions = cloud.stack, ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject", "ecs:RunTask"]
    here = {"StringEquals": {"aws:SourceVpc": "vpc-1"}}
    stack.allow(stack.task_role, "one", {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::one/*"})
    stack.allow(
        stack.task_role,
        "two",
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::two/*", "Condition": here},
    )
    objects = ["arn:aws:s3:::one/x", "arn:aws:s3:::two/x", "arn:aws:s3:::three/x"]
    first = boto3.client("iam").simulate_principal_policy(
        PolicySourceArn=stack.task_role_arn, ActionNames=actions, ResourceArns=objects
    )
    assert first["IsTruncated"]
    assert len(first["EvaluationResults"]) < len(actions)
    assert first["EvaluationResults"][0]["EvalDecision"] == "implicitDeny"
    assert len(first["EvaluationResults"][0]["ResourceSpecificResults"]) == 3

    found = Aws().simulate(stack.task_role_arn, actions, objects)
    decided = [(each.action, each.resource, each.allowed) for each in found]
    assert decided == [
        (action, name, allowed if action != "ecs:RunTask" else False)
        for action in actions
        for name, allowed in zip(objects, (True, None, False), strict=True)
    ]
    assert found[1].lacks == ("aws:SourceVpc",)
    known = Aws().simulate(stack.task_role_arn, actions[:1], objects, {"aws:SourceVpc": "vpc-1"})
    assert [each.allowed for each in known] == [True, True, False]


def test_a_task_that_has_stopped_is_still_listed_as_running_and_nobody_is_misled(
    cloud: LocalAws, aws: Aws, ecs: Any, clock: FakeClock
) -> None:
    stack, definition = cloud.stack, register(cloud)
    arn = run(cloud, definition)["tasks"][0]["taskArn"]
    clock.sleep(27)  # in which the task ends
    listed = ecs.list_tasks(cluster=stack.cluster, family=stack.family, desiredStatus="RUNNING")["taskArns"]
    assert listed == [arn]
    found = find_tasks(aws, stack.cluster, stack.family, "migrate")
    assert ([], [arn]) == ([task.arn for task in found.alive], [task.arn for task in found.over])
    clock.sleep(60)
    assert ecs.list_tasks(cluster=stack.cluster, family=stack.family, desiredStatus="RUNNING")["taskArns"] == []


def test_an_archived_image_is_hidden_until_it_is_pushed_again(cloud: LocalAws, aws: Aws) -> None:
    stack, digest = cloud.stack, "sha256:" + "1" * 64
    stack.put_image("x", digest)
    cloud.ecr.archived.add(digest)
    assert aws.image_digest(stack.repository, tag="x") is aws.image_digest(stack.repository, digest=digest) is None
    stack.put_image("x", digest)
    assert aws.image_digest(stack.repository, tag="x") == digest


def test_an_enforced_policy_refuses_by_action_and_resource(cloud: LocalAws) -> None:
    definition = register(cloud)
    cloud.iam.caller = cloud.stack.ci_role
    with pytest.raises(ClientError, match="github-actions-role/rehearsal is not authorized to perform: ecs:RunTask on"):
        run(cloud, definition)


@pytest.mark.parametrize("task", ["abc", "arn:aws:ecs:ap-northeast-1:123456789012:task/c/abc"])
def test_an_id_of_another_length_is_refused_as_by_ecs(cloud: LocalAws, task: str) -> None:
    ecs, words = boto3.client("ecs"), r"taskId length should be one of \[32,36\]"
    with pytest.raises(ecs.exceptions.InvalidParameterException, match=words):
        ecs.describe_tasks(cluster=cloud.stack.cluster, tasks=[task])
    with pytest.raises(ecs.exceptions.InvalidParameterException, match=words):
        ecs.stop_task(cluster=cloud.stack.cluster, task=task)
