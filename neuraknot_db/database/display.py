"""How values look on a terminal."""

from __future__ import annotations

from unicodedata import east_asian_width

_UNITS = (("h", 3_600_000), ("min", 60_000), ("s", 1_000))


def width(text: str) -> int:
    """Return the cells that a text takes: Chinese and Japanese characters take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def duration(milliseconds: float) -> str:
    """Format a duration in the largest unit that fits, to three digits: `250 ms`, `2 s`, `1.33 h`."""
    for unit, length in _UNITS:
        if round(milliseconds) >= length:
            return f"{milliseconds / length:.3g} {unit}"
    return f"{milliseconds:.0f} ms"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 revision`, `2 revisions`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
