"""What `-x` asks for, before a command's name."""

from __future__ import annotations

from dataclasses import dataclass

from alembic.runtime.environment import EnvironmentContext

from neuraknot_db.errors import UsageError


@dataclass(frozen=True)
class XOptions:
    """What `-x` asks for.

    Attributes:
        create_db: create a missing database first.
        force: go on although unversioned tables stand in the way.
        confirm: the database's name, for a downgrade in production.
        accept_edit: revisions whose edit after the fact is taken.
    """

    create_db: bool = False
    force: bool = False
    confirm: str | None = None
    accept_edit: tuple[str, ...] = ()


def read(environment: EnvironmentContext) -> XOptions:
    """What the command line's `-x` options ask for.

    Raises:
        UsageError: one is not known, or neither true nor false.
    """
    wanted = environment.get_x_argument(as_dictionary=True)
    known = {"create_db", "force", "confirm", "accept_edit"}
    if unknown := sorted(set(wanted) - known):
        raise UsageError(f"-x {unknown[0]} is not known.", hint=f"These are: {', '.join(sorted(known))}.")
    return XOptions(
        _flag(wanted, "create_db"),
        _flag(wanted, "force"),
        wanted.get("confirm"),
        tuple(filter(None, wanted.get("accept_edit", "").split(","))),
    )


def _flag(wanted: dict[str, str], name: str) -> bool:
    value = wanted.get(name, "false").lower()
    if value not in {"true", "false"}:
        raise UsageError(f"-x {name}={value} is neither true nor false.", hint=f"Write -x {name}=true.")
    return value == "true"
