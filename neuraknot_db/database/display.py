"""How values and hints look to a person."""

from __future__ import annotations

import re
import shlex
from unicodedata import east_asian_width

from neuraknot_db import settings
from neuraknot_db.database.redaction import redacted

_UNITS = (("h", 3_600_000), ("min", 60_000), ("s", 1_000))
_COMMANDS = "adopt|create_db|current|downgrade|history|log|mark|plan|stamp|upgrade|verify"
_RESET = re.compile(r"\bneuraknot-db reset\b(?: --[\w-]+(?:[= ](?:'[^']*'|[^\s'-]\S*))?)*")
_FOR_THE_DATABASE = re.compile(rf"\b(?:neuraknot-db|alembic) (?=(?:-x \S+ )?(?:{_COMMANDS})\b)")


def width(text: str) -> int:
    """Return the cells that a text takes: Chinese and Japanese characters take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def cut(line: str, cells: int) -> str:
    """Cut a line to a width in cells; its secrets are hidden before that, since part of one would go unnoticed."""
    line = redacted(line)
    taken = 0
    for index, character in enumerate(line):
        taken += width(character)
        if taken >= cells and (taken > cells or index + 1 < len(line)):
            return line[:index] + "…"
    return line


def duration(milliseconds: float) -> str:
    """Format a duration in the largest unit that fits, to three digits: `250 ms`, `2 s`, `1.33 h`."""
    for unit, length in _UNITS:
        if round(milliseconds) >= length:
            return f"{milliseconds / length:.3g} {unit}"
    return f"{milliseconds:.0f} ms"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 revision`, `2 revisions`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def number(count: int | None) -> str:
    """Return a count before its noun: `1,200`, or `an unknown number of` for None."""
    return "an unknown number of" if count is None else f"{count:,}"


def to_type(hint: str) -> str:
    """Return a hint with the commands that a person types: the launcher's, in a task, where nobody types.

    They name the environment, as the launcher would go to dev otherwise; it confirms a reset itself.
    """
    origin = settings.origin()
    if not origin.task_metadata_uri:
        return hint
    where = f" --environment {shlex.quote(origin.environment)}" if origin.environment else ""
    hint = _RESET.sub(lambda _: f"launcher ecs-migrate{where} --reset", hint)
    return _FOR_THE_DATABASE.sub(lambda _: f"launcher ecs-run{where} -- ", hint)
