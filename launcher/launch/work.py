"""What a container is asked to do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from launcher.errors import RefusedError, UsageError
from launcher.models import Stack
from launcher.task import command_line


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
        _demand_target(self.revision, "upgrade")

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

    def __post_init__(self) -> None:
        _demand_target(self.revision, "plan")

    def command(self, stack: Stack) -> tuple[str, ...]:
        """Return `neuraknot-db plan` with its arguments."""
        return ("neuraknot-db", "plan", *((self.revision,) if self.revision else ()))


def _demand_target(revision: str | None, command: str) -> None:
    if revision is not None and not command_line.is_target(revision, command):
        raise UsageError(
            f"{revision!r} is not a valid revision name for {command}.",
            hint="Name one, as in: launcher ecs-migrate --revision 003",
        )


@dataclass(frozen=True)
class Run:
    """Any command of `neuraknot-db` except a reset, which has its own guards.

    Attributes:
        arguments: the arguments after `neuraknot-db`, refused here if the container would refuse them.
    """

    arguments: tuple[str, ...]
    resets: bool = False

    def __post_init__(self) -> None:
        if not self.arguments:
            raise UsageError("There is nothing to run.", hint="For example: launcher ecs-run -- plan")
        if command_line.check(self.arguments) == "reset":
            raise UsageError(
                "ecs-run does not reset a database, since it asks for no confirmation.",
                hint="Use: launcher ecs-migrate --reset",
            )

    def command(self, stack: Stack) -> tuple[str, ...]:
        """Return `neuraknot-db` and the arguments."""
        return ("neuraknot-db", *self.arguments)


LOOK_BACK = Run(("plan", "--rollback", "--count"))
"""Finds the run to take back, and counts what that would lose."""


def going_back(stack: Stack, found: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the downgrade to where the report of `LOOK_BACK` says, from there only where it says.

    Raises:
        RefusedError: there is no such report, or it names no revision.
    """
    if found is None or not all(map(command_line.is_absolute, (found["from"], found["to"] or "base"))):
        raise RefusedError(
            "The task did not report where to go back to: nothing was changed.",
            hint="Its log has to be readable, and the image new enough: launcher ecs-run -- plan --rollback",
        )
    confirmed = ("-x", f"confirm={stack.db_name.value}") if stack.production else ()
    return ("alembic", *confirmed, "-x", f"from={found['from']}", "downgrade", found["to"] or "base")
