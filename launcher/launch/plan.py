"""What will be done, as a value: a `Plan`, from a stack, a request and the state in AWS; and RunTask's parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher.environment.names import tags
from launcher.errors import UsageError
from launcher.image.tag import Image
from launcher.launch.survey import Survey
from launcher.launch.task_definition import Difference, compare, task_definition
from launcher.models import DEADLINE, Request, Stack, Task

_OVERRIDES = 8192
"""ECS's limit for a task's overrides, in characters of JSON."""


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
    """Make the plan, without calling AWS or changing anything.

    Raises:
        UsageError: the task's overrides are longer than ECS takes.
    """
    # As boto3 sends them, with a deadline of as many digits as any until 2286.
    length = len(json.dumps(_overrides(stack, request, request.deadline(1e9))))
    if length > _OVERRIDES:
        raise UsageError(
            f"The command line and the variables of this run have {length:,} characters, and ECS takes {_OVERRIDES:,}.",
            hint="Shorten them. A long password belongs in a secret: --db-password-secret ARN",
        )
    definition = task_definition(stack, survey.image)
    differences = tuple(compare(survey.definition or {}, definition))
    return Plan(stack, request, survey, definition, differences)


def with_image(plan: Plan, image: Image) -> Plan:
    """Return the same plan with an image that exists."""
    return make_plan(plan.stack, plan.request, replace(plan.survey, image=image, repository_exists=True))


def run_request(plan: Plan, definition_arn: str, deadline: int | None) -> dict[str, Any]:
    """Return RunTask's parameters, with the container's deadline. A password that has no reference is passed here."""
    stack, request = plan.stack, plan.request
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
        "tags": [{"key": key, "value": value} for key, value in tags(stack.environment).items()],
        "networkConfiguration": {"awsvpcConfiguration": network},
        "overrides": _overrides(stack, request, deadline),
    }


def _overrides(stack: Stack, request: Request, deadline: int | None) -> dict[str, Any]:
    environment = {"NEURAKNOT_STARTED_BY": request.started_by}
    if deadline is not None:
        environment[DEADLINE] = str(deadline)
    if request.git_commit is not None:
        environment["NEURAKNOT_GIT_COMMIT"] = request.git_commit
    if stack.password.value.value is not None:
        environment["DB_PASSWORD"] = stack.password.value.value.reveal()
    container = {
        "name": stack.container,
        "command": list(request.command),
        "environment": [{"name": name, "value": value} for name, value in sorted(environment.items())],
    }
    return {"containerOverrides": [container]}


def client_token(plan: Plan) -> str:
    """Return RunTask's idempotency token: the same for the same request of the same run, until its task is over.

    The deadline is not in it: another try of the run whose first task is not listed is refused, not a second task.
    """
    request, stack = plan.request, plan.stack
    ended = next((task.arn for task in plan.survey.ended if is_own(request, task)), "")
    parts = (request.client_token, stack.cluster.value, stack.family, *request.command, ended)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_own(request: Request, task: Task) -> bool:
    """Whether an earlier try of this run, as in CI, started the task with the same command."""
    return request.repeatable and task.started_by == request.started_by_tag
