"""The task definition that a stack needs, and how it differs from the registered one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.environment.names import STREAM_PREFIX
from launcher.image.tag import Image
from launcher.models import Stack

# Fields that AWS adds to a registered definition.
_ADDED = {
    "compatibilities",
    "deregisteredAt",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "taskDefinitionArn",
}


@dataclass(frozen=True)
class Difference:
    """One value of the task definition that would change; None if it is absent."""

    path: str
    before: Any
    after: Any


def task_definition(stack: Stack, image: Image) -> dict[str, Any]:
    """Return the parameters of RegisterTaskDefinition, which never contain a password."""
    environment = {
        "DB_HOST": stack.db_host.value,
        "DB_NAME": stack.db_name.value,
        "DB_PORT": str(stack.db_port.value),
        "DB_SSLMODE": stack.db_sslmode.value,
        "DB_USER": stack.db_user.value,
        "NEURAKNOT_ENV": stack.environment,
        "NEURAKNOT_IMAGE": image.reference,
        "NEURAKNOT_RESULT": "json",
    }
    if stack.db_sslrootcert is not None:
        environment["DB_SSLROOTCERT"] = stack.db_sslrootcert.value
    container: dict[str, Any] = {
        "name": stack.container,
        "image": image.reference,
        "essential": True,
        "readonlyRootFilesystem": True,
        "linuxParameters": {"capabilities": {"drop": ["ALL"]}},
        "environment": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": stack.log_group,
                "awslogs-region": stack.region.value,
                "awslogs-stream-prefix": STREAM_PREFIX,
                "mode": "blocking",  # never drop a line
            },
        },
    }
    reference = stack.password.value.reference
    if reference is not None:
        container["secrets"] = [{"name": "DB_PASSWORD", "valueFrom": reference}]
    architecture = "ARM64" if stack.platform.value.endswith("arm64") else "X86_64"
    definition: dict[str, Any] = {
        "family": stack.family,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": str(stack.cpu),
        "memory": str(stack.memory),
        "executionRoleArn": stack.execution_role.value,
        "runtimePlatform": {"cpuArchitecture": architecture, "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [container],
    }
    if stack.task_role is not None:
        definition["taskRoleArn"] = stack.task_role.value
    return definition


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the differences between a registered and a required definition, without AWS's own additions."""
    old, new = dict(_flat(_meant(before))), dict(_flat(_meant(after)))
    for path in sorted({*old, *new}):
        if old.get(path) != new.get(path):
            yield Difference(path, old.get(path), new.get(path))


def _meant(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition without AWS's additions, with lists of named items as objects."""
    meant = {key: value for key, value in definition.items() if key not in _ADDED}
    containers = meant.pop("containerDefinitions", [])
    meant["container"] = {
        container["name"]: {
            **{key: value for key, value in container.items() if key not in ("name", "environment", "secrets")},
            "environment": {entry["name"]: entry.get("value", "") for entry in container.get("environment", [])},
            "secrets": {entry["name"]: entry["valueFrom"] for entry in container.get("secrets", [])},
        }
        for container in containers
    }
    return meant


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf with its path, without what means unset: AWS fills in None, 0, false, "" and empty lists.

    A variable without a value is one that is set.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif value not in (None, [], 0, "") or (value == "" and ".environment." in path):
        yield path, value
