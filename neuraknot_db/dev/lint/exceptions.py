"""`alembic/lint.toml`: where rules do not apply, and why."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuraknot_db.errors import UsageError

Reasons = Mapping[str, str]
"""Reasons by rule code."""


@dataclass(frozen=True)
class Exceptions:
    """The exceptions of a project.

    Attributes:
        path: the file.
        always: for every revision.
        downgrade: for every downgrade.
        revisions: for single revisions.
    """

    path: Path
    always: Reasons = field(default_factory=dict)
    downgrade: Reasons = field(default_factory=dict)
    revisions: Mapping[str, Reasons] = field(default_factory=dict)

    def general(self, direction: str) -> frozenset[str]:
        """Return the rules that are excepted for every upgrade or downgrade."""
        return frozenset(self.always) | (frozenset(self.downgrade) if direction == "downgrade" else frozenset())

    def line_of(self, revision: str, code: str) -> int:
        """Return the line of an exception."""
        inside = False
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.startswith("["):
                inside = line.strip() in (f"[revisions.{revision}]", f'[revisions."{revision}"]')
            elif inside and line.startswith(code):
                return number
        return 1


def load(path: Path) -> Exceptions:
    """Read the file; without one there are no exceptions.

    Raises:
        UsageError: it is not valid TOML, or a rule has no reason.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Exceptions(path)
    except ValueError as error:
        raise UsageError(f"{path.name} can't be read: {error}.") from None
    if unknown := sorted(set(document) - {"always", "downgrade", "revisions"}):
        raise UsageError(f"{path.name} has a table {unknown[0]}.", hint="It may have: always, downgrade, revisions.")
    revisions = document.get("revisions", {})
    return Exceptions(
        path,
        _reasons(path, document.get("always", {})),
        _reasons(path, document.get("downgrade", {})),
        {revision: _reasons(path, found) for revision, found in revisions.items()},
    )


def _reasons(path: Path, found: Any) -> Reasons:
    if not isinstance(found, dict):
        raise UsageError(f"{path.name}: {found!r} is not a table of rules.")
    for code, reason in found.items():
        if not (isinstance(reason, str) and reason.strip()):
            raise UsageError(f"{path.name} gives no reason for {code}.", hint=f'Write why: {code} = "..."')
    return found
