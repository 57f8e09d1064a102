"""Break sentences into the lines of a terminal, between words and never within a command."""

from __future__ import annotations

import re
import unicodedata

# From here on word for word the same in both packages, which never import each other.

_PROGRAMS = "alembic|aws|docker|eval|git|launcher|make|neuraknot-db|pip|psql|python|rm|terraform|tofu"
_PART = r"""(?:'[^']*'|"[^"]*"|[^\s'"])+"""
_WIDE = "\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60"
_UNIT = re.compile(
    r"(?P<blank>\s*)(?P<unit>`[^`]+`\S*"
    rf"|(?:^|(?P<alone>(?<=[:;] )))(?:\w+=\S+ )?(?:\S*/)?(?:{_PROGRAMS})(?: {_PART})+?(?:(?<=[,;.)])(?=\s)|$)"
    rf"|[{_WIDE}][\u3001\u3002\uff01\uff09\uff0c\uff0e]*|[^\s{_WIDE}]+)"
)
"""Matches what is never broken, with the blanks before it: a command, a word, or a Japanese character and its comma."""
_END = re.compile(r"(?<=\S)[,;.]$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def width(text: str) -> int:
    """Return the cells that a text takes on a terminal: a Chinese or Japanese character takes two, a color none."""
    shown = (each for each in _COLOUR.sub("", text) if unicodedata.category(each) not in ("Mn", "Me", "Cf"))
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in shown)


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """Break a line into lines.

    Args:
        text: one line. A command in it stands in backticks, or behind a colon up to a comma, a period or the end. One
            behind a colon gets a line to itself, without that comma or period, so that the line can be pasted.
        columns: the cells of a line; a command or a word that is longer has a longer one to itself.
        indent: what each line but the first begins with.
    """
    lines = [text[: len(text) - len(text.lstrip())]]
    alone = False
    for found in _UNIT.finditer(text.strip()):
        blank, unit = found["blank"], found["unit"]
        before, alone = alone, found["alone"] is not None
        if alone:
            lines.append(f"{indent}  {_END.sub('', unit)}")
        elif before or (lines[-1].strip() and width(lines[-1] + blank + unit) > columns):
            lines.append(indent + unit)
        else:
            lines[-1] += blank + unit
    return lines
