"""What can keep a Fargate task from starting, according to the stack's current state."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moto.secretsmanager.exceptions import SecretsManagerClientError
from moto.ssm.models import ssm_backends

from launcher.aws.partitions import endpoint_name
from launcher.rehearsal.network import ENDPOINTS
from launcher.rehearsal.policy import allows, role_documents
from launcher.rehearsal.stack import LocalStack
from launcher.rehearsal.task import LocalTask, Obstacle

_SECRET = re.compile(
    r"(?P<arn>arn:aws[\w-]*:secretsmanager:[^:]+:\d+:secret:[^:]+)(?::(?P<key>[^:]*):(?P<stage>[^:]*):(?P<version>[^:]*))?"
)
_IMAGE = re.compile(
    r"(?P<registry>[^/]+)/(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)

_ADDRESS = "52.119.186.1"  # an address of ECR in Tokyo


class UnresolvedError(Exception):
    """A secret can't be resolved; the message is the end of ECS's sentence."""


def find_obstacle(stack: LocalStack, task: LocalTask) -> Obstacle | None:
    """Return why this task can't start now, in ECS's own words; None if it can."""
    return next(_obstacles(stack, task), None)


def _obstacles(stack: LocalStack, task: LocalTask) -> Iterator[Obstacle]:
    """Yield the obstacles in the order in which Fargate meets them."""
    network = task.request["networkConfiguration"]["awsvpcConfiguration"]
    role = str(task.definition["executionRoleArn"])
    container = main_definition(task)
    reaches = {service: _reaches(stack, network, service) for service in ENDPOINTS}
    timeout = f"{_ADDRESS}:443: i/o timeout"
    if not reaches["ecr.api"]:
        host = f"https://api.ecr.{stack.region}.amazonaws.com/"
        yield _initialisation(
            "unable to pull secrets or registry auth: The task cannot pull registry auth from Amazon ECR: There is a "
            "connection issue between the task and Amazon ECR. Check your task network configuration. RequestError: "
            f'send request failed caused by: Post "{host}": dial tcp {timeout}'
        )
    if not allows(role_documents(stack.account, role), "ecr:GetAuthorizationToken", "*"):
        denied = _denied(task, role, "ecr:GetAuthorizationToken", "*")
        yield _initialisation(
            "unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve ecr "
            f"registry auth: service call has been retried 3 time(s): {denied}"
        )
    if container.get("secrets") and not reaches["secretsmanager"]:
        arn = container["secrets"][0]["valueFrom"]
        yield _initialisation(
            "unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret "
            f"from asm: service call has been retried 5 time(s): failed to fetch secret {arn} from secrets manager: "
            "RequestCanceled: request context canceled caused by: context deadline exceeded. Please check your task "
            "network configuration."
        )
    try:
        resolve_secrets(stack, task)
    except UnresolvedError as error:
        yield _initialisation(f"unable to pull secrets or registry auth: execution resource retrieval failed: {error}")
    image = container["image"]
    if not reaches["ecr.dkr"]:
        host = image.split("/")[0]
        yield pull_failure(
            f'failed to resolve ref {image}: failed to do request: Head "https://{host}/v2/": dial tcp {timeout}'
        )
    yield from _image_obstacles(stack, image)
    if not reaches["s3"]:
        bucket = f"https://prod-{stack.region}-starport-layer-bucket.s3.{stack.region}.amazonaws.com/"
        yield pull_failure(
            f'failed to copy: httpReadSeeker: failed open: failed to do request: Get "{bucket}": dial tcp {timeout}'
        )
    group = container.get("logConfiguration", {}).get("options", {}).get("awslogs-group")
    logger = (
        "failed to validate logger args: create stream has been retried 1 times: failed to create Cloudwatch log "
        "stream: operation error CloudWatch Logs: CreateLogStream, "
    )
    if group is not None and not reaches["logs"]:
        host = f"https://logs.{stack.region}.amazonaws.com/"
        yield _initialisation(f'{logger}request send failed, Post "{host}": dial tcp {timeout} : exit status 1')
    if group is not None and group not in stack.logs.groups:
        yield _initialisation(
            f"{logger}https response error StatusCode: 400, ResourceNotFoundException: The specified log group does "
            "not exist. : exit status 1"
        )


def main_definition(task: LocalTask) -> Mapping[str, Any]:
    """Return the definition of the task's main container."""
    found: Mapping[str, Any] = next(
        entry for entry in task.definition["containerDefinitions"] if entry["name"] == task.main
    )
    return found


def resolve_secrets(stack: LocalStack, task: LocalTask) -> dict[str, str]:
    """Return the values of the container's `secrets`, by variable.

    Raises:
        UnresolvedError: a secret does not exist, or the execution role may not read it.
    """
    return {
        entry["name"]: _resolve(stack, task, entry["valueFrom"]) for entry in main_definition(task).get("secrets", [])
    }


def _resolve(stack: LocalStack, task: LocalTask, reference: str) -> str:
    documents = role_documents(stack.account, str(task.definition["executionRoleArn"]))
    role = str(task.definition["executionRoleArn"])
    secret = _SECRET.fullmatch(reference)
    if secret is None:
        return _parameter(stack, task, documents, reference)
    arn = secret["arn"]
    failed = (
        "unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret "
        f"{arn} from secrets manager: "
    )
    if not allows(documents, "secretsmanager:GetSecretValue", arn):
        raise UnresolvedError(failed + _denied(task, role, "secretsmanager:GetSecretValue", arn))
    try:
        found = stack.secrets.get_secret_value(arn, secret["version"] or "", secret["stage"] or "")
    except SecretsManagerClientError as error:
        raise UnresolvedError(
            f"{failed}ResourceNotFoundException: Secrets Manager can't find the specified secret."
        ) from error
    text = str(found["SecretString"])
    if not secret["key"]:
        return text
    members = json.loads(text)
    if secret["key"] not in members:
        raise UnresolvedError(f"{failed}retrieved secret from Secrets Manager did not contain json key {secret['key']}")
    return str(members[secret["key"]])


def _parameter(stack: LocalStack, task: LocalTask, documents: Sequence[Mapping[str, Any]], reference: str) -> str:
    name = reference.split(":parameter", 1)[-1]
    arn = stack.arn("ssm", f"parameter/{name.lstrip('/')}")
    role = str(task.definition["executionRoleArn"])
    failed = "unable to retrieve secrets from ssm: service call has been retried 1 time(s): "
    if not allows(documents, "ssm:GetParameters", arn):
        raise UnresolvedError(failed + _denied(task, role, "ssm:GetParameters", arn))
    found = ssm_backends[stack.account][stack.region].get_parameters([name])
    if not found:
        raise UnresolvedError(f"invalid ssm parameters: {name}")
    return str(found[name].value)


def _image_obstacles(stack: LocalStack, image: str) -> Iterator[Obstacle]:
    reference = _IMAGE.fullmatch(image)
    if reference is None or reference["registry"] not in stack.registries:
        return  # another registry, whose content is not known here
    repository = stack.ecr.repositories.get(reference["repository"])
    wanted = reference["digest"] or reference["tag"] or "latest"
    known = (
        {name for entry in repository.images for name in (entry.image_digest, *entry.image_tags)} if repository else {}
    )
    if wanted not in known:
        yield pull_failure(f"failed to resolve ref {image}: {image}: not found")


def pull_failure(reason: str) -> Obstacle:
    """Return the obstacle for an image that can't be pulled: both task and container have the reason."""
    text = f"CannotPullContainerError: pull image manifest has been retried 5 time(s): {reason}"
    return Obstacle(text, text)


def start_failure(program: str) -> Obstacle:
    """Return the obstacle for an image that does not contain the program."""
    return Obstacle(
        "Task failed to start",
        "CannotStartContainerError: ResourceInitializationError: failed to create new container runtime task: failed "
        "to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "
        f'"{program}": executable file not found in $PATH: unknown',
    )


def _initialisation(reason: str) -> Obstacle:
    return Obstacle(f"ResourceInitializationError: {reason}")


def _denied(task: LocalTask, role: str, action: str, resource: str) -> str:
    account, name = role.split(":")[4], role.rsplit("/", 1)[-1]
    return (
        f"AccessDeniedException: User: arn:aws:sts::{account}:assumed-role/{name}/{task.id} is not authorized to "
        f"perform: {action} on resource: {resource} because no identity-based policy allows the {action} action"
    )


def _reaches(stack: LocalStack, network: Mapping[str, Any], service: str) -> bool:
    """Whether a task in this network can reach an AWS service: by a default route or a VPC endpoint."""
    subnet = network["subnets"][0]
    tables = stack.ec2.describe_route_tables(filters={"association.subnet-id": [subnet]})
    public = network.get("assignPublicIp") == "ENABLED"
    for route in (route for table in tables for route in table.routes):
        if route.destination_cidr_block == "0.0.0.0/0" and (
            route.nat_gateway is not None or (route.gateway is not None and public)
        ):
            return True
    wanted = endpoint_name(stack.region, service)
    endpoints = stack.ec2.vpc_end_points.values()
    return any(endpoint.service_name == wanted and endpoint.state == "available" for endpoint in endpoints)
