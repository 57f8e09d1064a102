"""What ECS refuses to register or run on Fargate, with its own error messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from launcher.rehearsal.api import Refusal
from launcher.rehearsal.stack import LocalStack

_MIB = 1024
# CPU units, and the sizes of memory in MiB that they allow.
_SIZES: Mapping[str, frozenset[int]] = {
    "256": frozenset({512, _MIB, 2 * _MIB}),
    "512": frozenset(n * _MIB for n in range(1, 5)),
    "1024": frozenset(n * _MIB for n in range(2, 9)),
    "2048": frozenset(n * _MIB for n in range(4, 17)),
    "4096": frozenset(n * _MIB for n in range(8, 31)),
    "8192": frozenset(n * _MIB for n in range(16, 61, 4)),
    "16384": frozenset(n * _MIB for n in range(32, 121, 8)),
}
_OVERRIDES_LIMIT = 8192  # characters of all overrides together


def check_definition(definition: Mapping[str, Any]) -> None:
    """Refuse a definition that Fargate can't run.

    Raises:
        Refusal: as RegisterTaskDefinition would.
    """
    if "FARGATE" not in definition.get("requiresCompatibilities", []):
        return
    if definition.get("networkMode") != "awsvpc":
        raise Refusal("ClientException", "Fargate only supports network mode ‘awsvpc’.")
    cpu, memory = str(definition.get("cpu", "")), str(definition.get("memory", ""))
    if not memory.isdigit() or int(memory) not in _SIZES.get(cpu, frozenset()):
        raise Refusal(
            "ClientException", f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory."
        )
    for container in definition["containerDefinitions"]:
        logging = container.get("logConfiguration")
        needs_role = container.get("secrets") or logging or ".dkr.ecr." in container["image"]
        if needs_role and not definition.get("executionRoleArn"):
            what = "log driver awslogs" if logging else "ECR images"
            raise Refusal(
                "ClientException", f"Fargate requires task definition to have execution role ARN to support {what}."
            )
        names = [entry["name"] for entry in container.get("environment", [])]
        secrets = [entry["name"] for entry in container.get("secrets", [])]
        if set(names) & set(secrets):
            raise Refusal(
                "ClientException",
                "The secret name must be unique and not shared with any new or existing environment "
                "variables set on the container, such as " + f"'{min(set(names) & set(secrets))}'.",
            )
        if logging and logging["logDriver"] == "awslogs":
            missing = {"awslogs-group", "awslogs-region", "awslogs-stream-prefix"} - set(logging.get("options", {}))
            if missing:
                raise Refusal(
                    "ClientException",
                    f"Log driver awslogs requires options: {', '.join(sorted(missing))}.",
                )


def check_overrides(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse overrides that don't fit the definition.

    Raises:
        Refusal: as RunTask would.
    """
    names = {container["name"] for container in definition["containerDefinitions"]}
    for override in overrides.get("containerOverrides", []):
        if override.get("name") not in names:
            raise Refusal(
                "InvalidParameterException",
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition.",
            )
    if len(json.dumps(overrides)) > _OVERRIDES_LIMIT:
        raise Refusal("InvalidParameterException", f"Container Overrides length must be at most {_OVERRIDES_LIMIT}")


def check_network(stack: LocalStack, request: Mapping[str, Any]) -> None:
    """Refuse a launch type or a network that does not exist or is not consistent.

    Raises:
        Refusal: as RunTask would.
    """
    if "launchType" in request and "capacityProviderStrategy" in request:
        raise Refusal(
            "InvalidParameterException",
            "The launch type and a capacity provider strategy can't be specified together.",
        )
    if request.get("launchType", "FARGATE") != "FARGATE":
        raise Refusal("InvalidParameterException", "No Container Instances were found in your cluster.")
    if len(str(request.get("startedBy", ""))) > 128:
        raise Refusal("InvalidParameterException", "startedBy length should not be greater than 128.")
    if len(str(request.get("clientToken", ""))) > 64:
        raise Refusal("InvalidParameterException", "clientToken length should not be greater than 64.")
    network = request.get("networkConfiguration", {}).get("awsvpcConfiguration")
    if network is None:
        raise Refusal(
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        )
    if network.get("assignPublicIp", "DISABLED") not in ("ENABLED", "DISABLED"):
        raise Refusal("InvalidParameterException", "assignPublicIp should be one of [ENABLED,DISABLED]")
    if not 1 <= len(network.get("subnets", [])) <= 16:
        raise Refusal("InvalidParameterException", "subnets can not be empty.")
    if len(network.get("securityGroups", [])) > 5:
        raise Refusal("InvalidParameterException", "securityGroups can have at most 5 items.")
    networks: set[str | None] = set()
    known = {name: subnet for zone in stack.ec2.subnets.values() for name, subnet in zone.items()}
    for name in network["subnets"]:
        if name not in known:
            raise Refusal("InvalidParameterException", f"The subnet ID '{name}' does not exist")
        networks.add(known[name].vpc_id)
    groups = {name: group for vpc in stack.ec2.groups.values() for name, group in vpc.items()}
    for name in network.get("securityGroups", []):
        if name not in groups:
            raise Refusal("InvalidParameterException", f"The security group '{name}' does not exist")
        networks.add(groups[name].vpc_id)
    if len(networks) > 1:
        raise Refusal("InvalidParameterException", "Security group and subnet belong to different networks.")
