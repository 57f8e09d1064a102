"""The tasks of a family, alive and ended, as ECS describes them."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from launcher.aws.refusals import advice
from launcher.errors import AccessDeniedError
from launcher.models import DEADLINE, FamilyTasks, Task

if TYPE_CHECKING:
    from launcher.aws.client import Aws


def read_task(described: Mapping[str, Any], container: str) -> Task:
    """Parse a task from DescribeTasks; only `container` decides the verdict, not injected sidecars.

    A value that is not a valid exit code becomes None.
    """
    containers = {entry.get("name", ""): entry for entry in _objects(described.get("containers"))}
    own = containers.pop(container, {})
    overrides = _objects(described.get("overrides", {}).get("containerOverrides"))
    override = next((entry for entry in overrides if entry.get("name") == container), {})
    variables = {entry.get("name"): str(entry.get("value")) for entry in _objects(override.get("environment"))}
    deadline = variables.get(DEADLINE, "")
    status = described.get("lastStatus", "")
    code = own.get("exitCode")
    exit_code = code if type(code) is int and 0 <= code <= 255 else None
    return Task(
        arn=described.get("taskArn", ""),
        status=status,
        exit_code=exit_code,
        container_reason=own.get("reason"),
        other_reasons={name: entry["reason"] for name, entry in containers.items() if entry.get("reason")},
        stop_code=described.get("stopCode"),
        stopped_reason=described.get("stoppedReason"),
        container_ended=status == "STOPPED" or (own.get("lastStatus") == "STOPPED" and exit_code is not None),
        created=_seconds(described.get("createdAt")),
        started=_seconds(described.get("startedAt")),
        stopped=_seconds(described.get("stoppedAt")),
        started_by=described.get("startedBy"),
        definition=described.get("taskDefinitionArn"),
        command=tuple(override.get("command", ())),
        deadline=int(deadline) if re.fullmatch("[0-9]{1,10}", deadline) else None,
    )


def find_tasks(aws: Aws, cluster: str, family: str, container: str) -> FamilyTasks:
    """Return the family's tasks: alive is any that is not STOPPED; one that ECS does not describe is MISSING.

    ListTasks filters by desired status: RUNNING includes some that have stopped, STOPPED some that still run. So both
    lists are described. One that the caller may not look at counts as alive, as `NOT READABLE`: nobody knows.

    Raises:
        AccessDeniedError: the caller may look at none of them.
    """
    running = aws.task_arns(cluster, family, stopped=False)  # first: tasks only move from running to stopped
    arns = list(dict.fromkeys((*running, *aws.task_arns(cluster, family, stopped=True))))
    described, refused = _described(aws, cluster, arns)
    found = [read_task(entry, container) for entry in described]
    found += [Task(arn, "NOT READABLE") for arn in refused]
    known = {task.arn for task in found}
    # A task just started is listed before it can be described, and an empty answer does not mean that it is over.
    found += [Task(arn, "MISSING") for arn in arns if arn not in known]
    found.sort(key=lambda task: task.created or math.inf, reverse=True)
    return FamilyTasks(tuple(task for task in found if task.alive), tuple(task for task in found if not task.alive))


def _described(aws: Aws, cluster: str, arns: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Describe tasks, one by one if AWS refuses them together; the ARNs of those that it refuses are the second."""
    try:
        return list(aws.tasks(cluster, arns)), []
    except AccessDeniedError as error:
        refusal = untagged(error, cluster)
    found, refused = list[Any](), list[str]()
    for arn in arns if len(arns) > 1 else ():
        try:
            found += aws.tasks(cluster, [arn])
        except AccessDeniedError:
            refused.append(arn)
    if len(arns) in (1, len(refused)):
        raise refusal
    return found, refused


def untagged(error: AccessDeniedError, cluster: str) -> AccessDeniedError:
    """Return a refusal about a task, with a hint for the case that the task does not have the launcher's tags."""
    if advice(" ".join(error.details)):
        return error
    task = error.resource.rsplit("/", 1)[-1] or "TASK"
    look = shlex.join(("aws", "ecs", "describe-tasks", "--cluster", cluster, "--include", "TAGS", "--tasks", task))
    error.hint = (
        f"{error.hint or ''} It is bound to the launcher's tags. A task that was started by hand or by an older"
        " launcher has none, and until an hour after its end only somebody with more rights can look at it or stop it:"
        f" {look}"
    )
    return error


def attach_hint(task: Task) -> str:
    """Return the hint to follow a task that the launcher no longer watches."""
    return f"Attach again: launcher logs --follow {task.id}"


def _objects(values: Any) -> list[Mapping[str, Any]]:
    """Return the items that are objects."""
    return [value for value in values or () if isinstance(value, dict)]


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value.timestamp())
