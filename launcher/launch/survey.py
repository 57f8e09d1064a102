"""The current state in AWS of everything that a run would change. Read-only."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.aws import partitions
from launcher.image import revisions
from launcher.image.tag import Image, content_tag, given_image
from launcher.models import FamilyTasks, Request, Stack, Task
from launcher.task import command_line
from launcher.task.find import find_tasks

if TYPE_CHECKING:
    from launcher.aws.client import Aws


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


def survey(stack: Stack, request: Request, aws: Aws, root: Path) -> Survey:
    """Query everything in parallel.

    Args:
        stack: where to look.
        request: the request, for the image if it names one.
        aws: for the stack's region.
        root: the image's build context.

    Raises:
        LauncherError: a call was refused, or the named image or revision does not exist.
    """
    if request.image is None:
        revisions.demand(root, command_line.revisions(request.command))
    own = f"{partitions.registry(stack.region.value, stack.identity.account)}/{stack.repository}"
    tag = content_tag(root, stack.platform.value, request.base) if request.image is None else None
    with ThreadPoolExecutor(max_workers=6) as pool:
        digest = pool.submit(aws.image_digest, stack.repository, tag=tag) if tag else None
        named = pool.submit(given_image, request.image, own, aws) if request.image is not None else None
        group = pool.submit(aws.log_group, stack.log_group)
        definition = pool.submit(aws.task_definition, stack.family)
        tasks = pool.submit(find_tasks, aws, stack.cluster.value, stack.family, stack.container)
        repository = pool.submit(aws.repository, stack.repository) if tag else None
    found = repository.result() if repository else None
    uri = found["repositoryUri"] if found else own
    image = named.result() if named else Image(uri, tag, digest.result() if digest else None)
    return Survey(
        image=image,
        repository_exists=bool(found) or named is not None,
        log_group_exists=group.result() is not None,
        definition=definition.result(),
        tasks=tasks.result(),
    )
