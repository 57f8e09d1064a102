"""Revisions as a person names them: what names none is refused, before Alembic asserts it or takes it for base."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from neuraknot_db.database import diagnosis
from neuraknot_db.errors import NeuraknotError, UsageError

_NAME = r"[^@:+-]+"
_TARGET = re.compile(rf"(?:{_NAME}@)?(?:{_NAME}(?:[+-]\d{{1,9}})?|[+-]\d{{1,9}})")
_OUTSIDE = re.compile(r"base-\d+|heads?\+\d+")
"""Before the first revision, or after the last: Alembic walks there without a word."""

_RANGES = {
    "upgrade": "alembic upgrade base:head --sql",
    "downgrade": "alembic downgrade head:base --sql",
    "stamp": "alembic stamp base:head --sql",
    "history": "alembic history -r base:head",
    "lint": "neuraknot-db lint base:head",
    "test": "neuraknot-db test base:head",
    "compat": "neuraknot-db compat check base:head",
}
"""The commands that take a range, each with an example."""

_OPEN_ENDED = ("history", "lint", "test", "compat")
"""Those for which an end may be left out."""


def demand_target(text: str) -> None:
    """Raise if no revision can have this name, whatever the files hold.

    Raises:
        UsageError: it is not `NAME`, `BRANCH@NAME`, either with a distance such as `head-1`, or only a distance.
    """
    if not _TARGET.fullmatch(text.strip()) or _OUTSIDE.fullmatch(text):
        raise diagnosis.no_revision(text)


def demand_range(text: str, command: str) -> None:
    """Raise if this is no range of revisions for a command, whatever the files hold.

    Raises:
        UsageError: it is not `A:B`, or one of the two can't be a revision.
    """
    lower, colon, upper = text.partition(":")
    may_lack = command in _OPEN_ENDED
    if not colon or ":" in upper or not (may_lack or (lower.strip() and upper.strip())):
        raise _no_range(text, command)
    for end in filter(str.strip, (lower, upper)):
        demand_target(end)


def demand_found(script: ScriptDirectory, text: str, *, base: bool = True) -> None:
    """Raise if a target names no revision, wherever a database is.

    Args:
        script: where the revisions are.
        text: the target.
        base: whether `base` will do, which is before the first revision.

    Raises:
        UsageError: it names none, or leads to before the first one.
        CommandError: it names several where one is needed.
    """
    demand_target(text)
    with _resolving(diagnosis.no_revision(text)):
        found = script.get_revisions(text)
    # Alembic finds a None for -9, which it takes for base, and nothing for nope@-1.
    if None in found or not (found or (base and text.endswith("base"))):
        raise diagnosis.no_revision(text)


def select(script: ScriptDirectory, text: str | None, command: str) -> list[Script]:
    """Return the revisions of a range, oldest first.

    Args:
        script: where the revisions are.
        text: `A:B` for those after A up to B, `B` for that one, None for all.
        command: one that takes a range, for the message.

    Raises:
        UsageError: there is no such range, or no such revision.
        CommandError: a name means several revisions.
    """
    if text is None:
        return list(script.walk_revisions())[::-1]
    lower, colon, upper = text.partition(":")
    if not colon:
        demand_found(script, text, base=False)
        return [script.get_revision(text)]
    with ranging(text, command):
        return list(script.iterate_revisions(upper or "heads", lower or "base"))[::-1]


@contextlib.contextmanager
def ranging(text: str | None, command: str) -> Iterator[None]:
    """Wrap what Alembic makes of a range of revisions; of None, it makes no mistake.

    Raises:
        UsageError: there is no such range.
        CommandError: an end names several revisions.
    """
    if text is None:
        yield
        return
    demand_range(text, command)
    with _resolving(_no_range(text, command)):
        yield


@contextlib.contextmanager
def _resolving(otherwise: NeuraknotError) -> Iterator[None]:
    try:
        yield
    except (AssertionError, RevisionError, CommandError) as error:
        if isinstance(error, CommandError) and "multiple head" in str(error).lower():
            raise
        raise otherwise from error


def _no_range(text: str, command: str) -> UsageError:
    return UsageError(f"There is no range of revisions {text}.", hint=f"Write it as FROM:TO: {_RANGES[command]}")
