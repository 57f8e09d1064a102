"""How values look in GitHub's Markdown: text of any origin stays text, and notifies nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from neuraknot_db.database.redaction import redacted

# An underscore within a word is none of Markdown's.
_MARKUP = re.compile(r"[&<>|`*\[\]~\\$#@]|(?<![^\W_])_|_(?![^\W_])")

_NO_WIDTH = "&#8203;"
"""Behind an @ or a #, so that GitHub takes it for no user and no issue."""


def text(value: str) -> str:
    """Return a value as text in one line."""
    return _escaped(value, _NO_WIDTH)


def code(value: str) -> str:
    """Return a value as code in one line, where GitHub looks for no users and issues."""
    return f"<code>{_escaped(value, '')}</code>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        columns: the headings.
        rows: the cells, as `text` and `code` give them.
    """
    for row in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(row)} |"


def _escaped(value: str, after: str) -> str:
    def entity(found: re.Match[str]) -> str:
        return f"&#{ord(found[0])};{after if found[0] in '@#' else ''}"

    line = " ".join(redacted(value).split())
    # What shows nothing, or turns the rest of the line around, is spelled: a review has to see it.
    shown = "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in line)
    return _MARKUP.sub(entity, shown)
