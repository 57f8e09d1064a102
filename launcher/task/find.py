"""The tasks of a family: those alive, and those that have ended, as ECS describes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.models import FamilyTasks, Task

if TYPE_CHECKING:
    from launcher.aws.client import Aws


def read_task(described: Mapping[str, Any], container: str) -> Task:
    """A task as DescribeTasks gives it; the verdict is `container`'s, whatever was injected beside it.

    What can be no exit code is none.
    """
    containers = {entry.get("name", ""): entry for entry in _objects(described.get("containers"))}
    own = containers.pop(container, {})
    overrides = _objects(described.get("overrides", {}).get("containerOverrides"))
    command: list[str] = next((entry.get("command", []) for entry in overrides if entry.get("name") == container), [])
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
        command=tuple(command),
    )


def find_tasks(aws: Aws, cluster: str, family: str, container: str) -> FamilyTasks:
    """The family's tasks. Alive is what is not STOPPED, and nothing else is; one that is not described is MISSING.

    ListTasks goes by what a task is to be: its RUNNING names some that have stopped, its STOPPED some that were told
    to and run on. So both are described.
    """
    running = aws.task_arns(cluster, family, stopped=False)  # first, since tasks move from here to there only
    arns = list(dict.fromkeys((*running, *aws.task_arns(cluster, family, stopped=True))))
    described, _ = aws.tasks(cluster, arns)
    found = [read_task(entry, container) for entry in described]
    known = {task.arn for task in found}
    # What was started this very moment is listed before it can be described; and no answer says that one is over.
    found += [Task(arn, "MISSING") for arn in arns if arn not in known]
    found.sort(key=lambda task: task.created or math.inf, reverse=True)
    return FamilyTasks(tuple(task for task in found if task.alive), tuple(task for task in found if not task.alive))


def attach_hint(task: Task) -> str:
    """How to follow a task that the launcher lets go."""
    return f"Attach again: launcher logs --follow {task.id}"


def _objects(values: Any) -> list[Mapping[str, Any]]:
    """Those of a list that are objects."""
    return [value for value in values or () if isinstance(value, dict)]


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value.timestamp())
