"""The task's network, roles and platform, taken from a running service in the same stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.errors import ConfigurationError, CredentialsError, NotFoundError
from launcher.models import Identity, Sourced

if TYPE_CHECKING:
    from launcher.aws.client import Aws

_FROM_SERVICE = ("subnets", "security_groups", "execution_role")
_DEPLOYED = ("networkConfiguration", "taskDefinition")


@dataclass(frozen=True)
class Network:
    """The task's network in the VPC and its roles; `service` is None if no value comes from a service."""

    service: Sourced[str] | None
    subnets: Sourced[tuple[str, ...]]
    security_groups: Sourced[tuple[str, ...]]
    assign_public_ip: Sourced[bool]
    execution_role: Sourced[str]
    task_role: Sourced[str] | None
    platform: Sourced[str]


def gives_network(given: Mapping[str, Sourced[Any]]) -> bool:
    """Whether the caller gives all that a service would provide, and names no service."""
    return all(name in given for name in _FROM_SERVICE) and "service" not in given


def network_for(
    given: Mapping[str, Sourced[Any]],
    cluster: Sourced[str],
    service: Sourced[str] | None,
    aws: Aws,
    identity: Identity,
    region: Sourced[str],
) -> Network:
    """Return the task's network and roles: the caller's values, or those of the running service.

    Args:
        given: the caller's values, by name.
        cluster: the service's cluster.
        service: its name; None if the caller gives the network.
        aws: for the stack's region; only read from.
        identity: the account, for error messages.
        region: the region, for error messages: a missing service may be in another.

    Raises:
        ConfigurationError: the service does not exist or can't be used.
        CredentialsError: the cluster does not exist, so the account or region may be wrong.
    """
    if service is None:
        return Network(
            None,
            given["subnets"],
            given["security_groups"],
            given.get("public_ip") or Sourced(False, "default"),
            given["execution_role"],
            given.get("task_role"),
            given.get("platform") or Sourced("linux/amd64", "default"),
        )
    described, definition = _running_service(cluster, service, aws, identity, region)
    vpc: Mapping[str, Any] = described.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
    source = f"service {service.value}"
    subnets = given.get("subnets") or Sourced(tuple(vpc.get("subnets", ())), source)
    if not subnets.value:
        raise ConfigurationError(
            f"The service {service.value} has no awsvpc network of its own.",
            hint="Give the network: --subnets and --security-groups.",
        )
    execution_role = given.get("execution_role") or Sourced(str(definition.get("executionRoleArn", "")), source)
    if not execution_role.value:
        raise ConfigurationError(
            f"The task definition of the service {service.value} has no execution role.", hint="Give --execution-role."
        )
    task_role = definition.get("taskRoleArn")
    return Network(
        service,
        subnets,
        given.get("security_groups") or Sourced(tuple(vpc.get("securityGroups", ())), source),
        given.get("public_ip") or Sourced(vpc.get("assignPublicIp") == "ENABLED", source),
        execution_role,
        given.get("task_role") or (Sourced(str(task_role), source) if task_role else None),
        given.get("platform") or Sourced(platform_of(definition), source),
    )


def as_deployed(service: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a service with the network and the task definition that it runs now.

    CODE_DEPLOY and EXTERNAL keep them in task sets, of which the primary one serves.

    Raises:
        ConfigurationError: nothing tells what the service runs.
    """
    controller = service.get("deploymentController", {}).get("type", "ECS")
    primary = next((each for each in service.get("taskSets", ()) if each.get("status") == "PRIMARY"), None)
    if primary is not None:
        service = {**service, **{name: primary[name] for name in _DEPLOYED if primary.get(name)}}
    if controller != "ECS" and not (primary and service.get("taskDefinition")):
        raise ConfigurationError(
            f"What the service {service.get('serviceName')} runs is not known: it is deployed by {controller}, and has"
            " no primary task set.",
            hint="Deploy it first, or give what it would: --subnets, --security-groups and --execution-role.",
        )
    return service


def _running_service(
    cluster: Sourced[str], service: Sourced[str], aws: Aws, identity: Identity, region: Sourced[str]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        described = aws.service(cluster.value, service.value)
    except NotFoundError:
        described = None
    if described is None:
        raise _no_service(cluster, service, aws, identity, region)
    if described["status"] != "ACTIVE":
        raise ConfigurationError(
            f"The service {service.value} in {cluster.value} is {described['status']}.",
            hint="Name the service whose network and roles are to be used with --service.",
        )
    deployed = as_deployed(described)
    name = deployed["taskDefinition"]
    definition = aws.task_definition(name)
    if definition is None:
        raise ConfigurationError(
            f"The service {service.value} runs {name}, which does not exist.", hint="Deploy the service first."
        )
    return deployed, definition


def _no_service(
    cluster: Sourced[str], service: Sourced[str], aws: Aws, identity: Identity, region: Sourced[str]
) -> ConfigurationError | CredentialsError:
    """Return why a service can't be found: the service, its cluster, or the account and region."""
    found = aws.cluster(cluster.value)
    where = f"in the account {identity.account} (role {identity.role}), region {region.value} ({region.source})"
    if found is not None and found.get("status") == "ACTIVE":
        return ConfigurationError(
            f"There is no service {service.value} ({service.source}) in the cluster {cluster.value}.",
            hint=f"List them with: aws ecs list-services --cluster {cluster.value} --region {region.value}",
        )
    if found is not None:
        return ConfigurationError(
            f"The cluster {cluster.value} is {found.get('status')} {where}.", hint="Apply Terraform first."
        )
    message = f"There is no ECS cluster {cluster.value} ({cluster.source}) {where}."
    if cluster.source.startswith(("--", "NEURAKNOT_")):
        return ConfigurationError(message, hint=f"List them with: aws ecs list-clusters --region {region.value}")
    return CredentialsError(
        message, hint="Are the account and the region the right ones? Name them with --profile and --region."
    )


def platform_of(definition: Mapping[str, Any]) -> str:
    """Return the platform that a task definition asks for, as Docker calls it.

    Raises:
        ConfigurationError: it is not Linux.
    """
    platform = definition.get("runtimePlatform", {})
    family = str(platform.get("operatingSystemFamily", "LINUX"))
    if family != "LINUX":
        raise ConfigurationError(f"The service runs on {family}.", hint="Give --platform linux/amd64 or linux/arm64.")
    return "linux/arm64" if platform.get("cpuArchitecture") == "ARM64" else "linux/amd64"


STARTING_SERVICES = ("ecr.api", "ecr.dkr", "s3", "logs")
"""The AWS services that a Fargate task needs before its first line of output; S3 stores the image's layers."""
