"""What will be done, as a value: pure functions from a stack, a request and the state in AWS to a `Plan`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from launcher.errors import UsageError
from launcher.image.tag import Image
from launcher.models import FamilyTasks, Place, Request, Stack, Task

STREAM_PREFIX = "migrate"

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
class Survey:
    """The current state in AWS of what a run would change.

    Attributes:
        image: the image, with a digest if the registry has it.
        repository_exists: whether ECR has the repository.
        log_group_exists: whether CloudWatch has the log group.
        definition: the family's latest active task definition; None if there is none.
        tasks: the family's tasks.
    """

    image: Image
    repository_exists: bool
    log_group_exists: bool
    definition: Mapping[str, Any] | None
    tasks: FamilyTasks

    @property
    def running(self) -> tuple[Task, ...]:
        """The tasks whose container has not ended."""
        return tuple(task for task in self.tasks.alive if not task.container_ended)

    @property
    def ended(self) -> tuple[Task, ...]:
        """The tasks whose container has ended, newest first; for some the network is still being removed."""
        return (*(task for task in self.tasks.alive if task.container_ended), *self.tasks.over)


@dataclass(frozen=True)
class Difference:
    """One value of the task definition that would change; None if it is absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        stack: where it is done.
        request: what is done.
        survey: what already exists.
        definition: the required task definition; its image has no digest yet if it must be built.
        differences: from the registered definition to the required one; empty if it is used unchanged.
    """

    stack: Stack
    request: Request
    survey: Survey
    definition: Mapping[str, Any]
    differences: tuple[Difference, ...]

    @property
    def builds(self) -> bool:
        """Whether the image must be built and pushed."""
        return self.survey.image.digest is None

    @property
    def registered(self) -> str | None:
        """The ARN of the family's latest task definition; None if there is none."""
        definition = self.survey.definition
        return str(definition["taskDefinitionArn"]) if definition else None

    @property
    def registers(self) -> bool:
        """Whether a new revision of the task definition is needed."""
        return self.survey.definition is None or bool(self.differences)


def make_plan(stack: Stack, request: Request, survey: Survey) -> Plan:
    """Make the plan, without calling AWS or changing anything."""
    definition = task_definition(stack, survey.image)
    differences = tuple(compare(survey.definition or {}, definition))
    return Plan(stack, request, survey, definition, differences)


def with_image(plan: Plan, image: Image) -> Plan:
    """Return the same plan with an image that exists."""
    return make_plan(plan.stack, plan.request, replace(plan.survey, image=image, repository_exists=True))


class Work(Protocol):
    """What a container does."""

    @property
    def resets(self) -> bool:
        """Whether it deletes all data."""
        ...

    def command(self, stack: Stack) -> tuple[str, ...]:
        """Return the command that the container runs."""
        ...


@dataclass(frozen=True)
class Migration:
    """An upgrade, or a reset.

    Attributes:
        resets: delete everything first.
        create_db: create the database if it is missing.
        force: continue even if there are unversioned tables.
        revision: upgrade to this revision instead of the newest.
    """

    resets: bool = False
    create_db: bool = False
    force: bool = False
    revision: str | None = None

    def __post_init__(self) -> None:
        others = ((self.revision is not None, "--revision"), (self.create_db, "--create-db"), (self.force, "--force"))
        for given, option in others:
            if self.resets and given:
                raise UsageError(
                    f"--reset and {option} exclude each other.",
                    hint="A reset drops everything and upgrades to the newest revision.",
                )

    def command(self, stack: Stack) -> tuple[str, ...]:
        """Return `alembic upgrade`, or `neuraknot-db reset`, which in production also needs the environment's name."""
        if self.resets:
            guard = ("--environment", stack.environment) if stack.production else ()
            return ("neuraknot-db", "reset", "--confirm", stack.db_name.value, *guard)
        flags = [
            ("-x", f"{name}=true") for given, name in ((self.create_db, "create_db"), (self.force, "force")) if given
        ]
        return ("alembic", *itertools.chain.from_iterable(flags), "upgrade", self.revision or "head")


@dataclass(frozen=True)
class Preview:
    """A plan of what an upgrade would run and lock, made by the container at the database; nothing is changed.

    Attributes:
        revision: plan up to this revision instead of the newest.
    """

    revision: str | None = None
    resets: bool = False

    def command(self, stack: Stack) -> tuple[str, ...]:
        """Return `neuraknot-db plan` with its arguments."""
        return ("neuraknot-db", "plan", *((self.revision,) if self.revision else ()))


@dataclass(frozen=True)
class Run:
    """Any command of `neuraknot-db` except a reset, which has its own guards.

    Attributes:
        arguments: the arguments after `neuraknot-db`.
    """

    arguments: tuple[str, ...]
    resets: bool = False

    def __post_init__(self) -> None:
        if not self.arguments:
            raise UsageError("There is nothing to run.", hint="For example: launcher ecs-run -- plan")
        if "reset" in self.arguments:
            raise UsageError(
                "ecs-run does not reset a database, since it asks for no confirmation.",
                hint="Use: launcher ecs-migrate --reset",
            )

    def command(self, stack: Stack) -> tuple[str, ...]:
        """Return `neuraknot-db` and the arguments."""
        return ("neuraknot-db", *self.arguments)


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


def run_request(plan: Plan, definition_arn: str) -> dict[str, Any]:
    """Return RunTask's parameters. A password that has no reference is passed here, for this run only."""
    stack, request = plan.stack, plan.request
    environment = {"NEURAKNOT_STARTED_BY": request.started_by}
    if request.git_commit is not None:
        environment["NEURAKNOT_GIT_COMMIT"] = request.git_commit
    if stack.password.value.value is not None:
        environment["DB_PASSWORD"] = stack.password.value.value.reveal()
    network = {
        "subnets": list(stack.subnets.value),
        "securityGroups": list(stack.security_groups.value),
        "assignPublicIp": "ENABLED" if stack.assign_public_ip.value else "DISABLED",
    }
    return {
        "cluster": stack.cluster.value,
        "taskDefinition": definition_arn,
        "launchType": "FARGATE",
        "count": 1,
        "clientToken": client_token(plan),
        "startedBy": request.started_by_tag,
        "networkConfiguration": {"awsvpcConfiguration": network},
        "overrides": {
            "containerOverrides": [
                {
                    "name": stack.container,
                    "command": list(request.command),
                    "environment": [{"name": name, "value": value} for name, value in sorted(environment.items())],
                }
            ]
        },
    }


def client_token(plan: Plan) -> str:
    """Return RunTask's idempotency token: the same for the same request of the same run, until its task is over."""
    request, stack = plan.request, plan.stack
    ended = next((task.arn for task in plan.survey.ended if is_own(request, task)), "")
    parts = (request.client_token, stack.cluster.value, stack.family, *request.command, ended)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_own(request: Request, task: Task) -> bool:
    """Whether an earlier try of this run, as in CI, started the task with the same command."""
    return request.repeatable and task.started_by == request.started_by_tag


def log_stream(place: Place, task_id: str) -> str:
    """Return the log stream that the awslogs driver writes to."""
    return f"{STREAM_PREFIX}/{place.container}/{task_id}"


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
    """Yield each leaf with its path, without None, 0 and empty lists: AWS fills those in."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif value not in (None, [], 0):
        yield path, value
