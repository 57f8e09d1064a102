"""Options that exclude each other, and those that mean nothing alone: one table for all commands."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from launcher.errors import UsageError

_DETACHED = "With --detach nobody waits for the task. Follow it later: launcher logs --follow"
_PLANNED = "A plan is told of an upgrade, by a task that is followed to its end."
_RESET = "A reset drops everything and upgrades to the newest revision."
_BACK = "A rollback finds its revision itself, by a task of its own, and is followed to its end."
_EXCLUSIVE = {
    ("image", "base"): "A given image is not built: give one.",
    **dict.fromkeys(itertools.product(["detach"], ["attach", "timeout"]), _DETACHED),
    **dict.fromkeys(
        itertools.product(["plan"], ["reset", "create_db", "force", "detach", "snapshot", "confirm_reset", "yes"]),
        _PLANNED,
    ),
    **dict.fromkeys(
        itertools.product(["rollback"], ["reset", "plan", "revision", "create_db", "force", "detach", "attach"]), _BACK
    ),
    **dict.fromkeys(itertools.product(["reset"], ["revision", "create_db", "force"]), _RESET),
}
"""By pairs of options, why they exclude each other."""
_CONFIRMING = {
    "confirm_reset": ("reset", "delete all data"),
    "yes": ("reset", "delete all data"),
    "confirm_rollback": ("rollback", "take the last run back"),
}
"""By the name of what confirms, what it confirms, and what that does."""


def settled(values: Mapping[str, Any], by_variable: Mapping[str, str], notice: Callable[[str], None]) -> dict[str, Any]:
    """Return the options without a variable's that a typed one excludes.

    Args:
        values: by option.
        by_variable: the variable that set an option, where none is typed.
        notice: called with a sentence about each variable that is left aside.

    Raises:
        UsageError: two options exclude each other, both typed or both by variables; or one means nothing alone.
    """
    left = dict(values)
    # What is typed first: it may leave nothing to contradict.
    for pair, why in sorted(_EXCLUSIVE.items(), key=lambda item: by_variable.keys() >= {*item[0]}):
        if not all(left.get(name) for name in pair):
            continue
        named = [by_variable.get(name) or f"--{name.replace('_', '-')}" for name in pair]
        aside = [name for name in pair if name in by_variable]
        if len(aside) != 1:
            raise UsageError(f"{named[0]} and {named[1]} exclude each other.", hint=why)
        notice(f"{by_variable[aside[0]]} is left aside, since {named[pair[0] == aside[0]]} is given.")
        left[aside[0]] = False if left[aside[0]] is True else None
    for name, (confirmed, does) in _CONFIRMING.items():
        if left.get(name) not in (None, False) and confirmed in left and not left[confirmed]:
            raise UsageError(
                f"--{name.replace('_', '-')} confirms nothing without --{confirmed}.",
                hint=f"Leave it out, or add --{confirmed} to {does}.",
            )
    return left
