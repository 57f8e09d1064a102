"""The server's words about a failed statement and the lines around the failed position, without secrets and data."""

from __future__ import annotations

import re
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import display
from neuraknot_db.database.redaction import redacted

_REFUSED_ROWS = ("23", "44")
"""SQLSTATE classes whose details quote rows."""

_SHOWN_AROUND = 6
"""Lines of a long statement that are shown before and after the failed one."""
_LONGEST = 200
"""Characters of a line that are shown: a data statement may be one line of a megabyte."""

# SQL that a function executes.
_INNER_SQL = re.compile(r'((?:SQL (?:statement|expression)|PL/pgSQL (?:assignment|expression)) ")(.*?)("?)')
_IN_BLOCK = re.compile(r"\binline_code_block\D+(\d+)")
_QUOTED = re.compile(r'["«„“].*["»“”]')


def words(error: DBAPIError, line: int | None, *, ours: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return the server's message without its period, and the statement with the failed position.

    Args:
        error: psycopg2's error, as SQLAlchemy wraps it.
        line: the number of the statement's first line; None to show its lines without numbers.
        ours: whether to leave the statement out.
    """
    diag = getattr(error.orig, "diag", None)
    primary = getattr(diag, "message_primary", None) or str(error.orig).strip().split("\n", 1)[0]
    details: list[str] = []
    if detail := _without_data(getattr(diag, "message_detail", None) or "", getattr(error.orig, "pgcode", None) or ""):
        details.append(detail)
    if server_hint := getattr(diag, "message_hint", None):
        details.append(server_hint)
    if context := getattr(diag, "context", None):
        details.append(_excerpt(_without_literals(redacted(context.split("\n", 1)[0])))[0])
    if error.statement and not ours:
        shown = _redacted(error.statement, position_of(error))
        if shown.hides_position:
            primary = _QUOTED.sub('"***"', primary)
        details += _statement(shown.statement, shown.position, line)
    return primary.rstrip("."), tuple(details)


def position_of(error: DBAPIError) -> str | None:
    """Return where in the statement the server objects to something, from 1; None if it does not say it.

    Of what is in a DO block, the server tells the line.
    """
    diag = getattr(error.orig, "diag", None)
    if said := getattr(diag, "statement_position", None):
        # What is shown may have been sent within something of ours, which the server may object to as well.
        place = int(said) - getattr(error, "sent_before", 0)
        return str(place) if 0 < place <= len(error.statement or "") + 1 else None
    *_, outermost = (getattr(diag, "context", None) or "").split("\n")
    found = _IN_BLOCK.search(outermost)
    if found is None:
        return None
    from neuraknot_db.database import sql_text  # few runs need it

    sql = error.statement or ""
    blocks = [each for each in sql_text.statements(sql) if each.tokens[0].text.lower() == "do"]
    literals = [token for token in blocks[0].tokens if token.kind == "string"] if len(blocks) == 1 else []
    if not literals:
        return None
    # The first line is that of the quote.
    begin = literals[0].start
    for _ in range(int(found[1]) - 1):
        begin = sql.find("\n", begin) + 1
    return str(begin + 1)


def _without_literals(context: str) -> str:
    """Remove the literals if the context is SQL of a function, which may have been built from rows."""
    found = _INNER_SQL.fullmatch(context)
    if found is None:
        return context
    from neuraknot_db.database import sql_text  # few runs need it

    return f"{found[1]}{sql_text.without_literals(found[2])}{found[3]}"


def _without_data(detail: str, state: str) -> str:
    """Return a detail without the values of a refused row, which don't belong in a log.

    The message may be in any language: only the column names are taken from it.
    """
    if not state.startswith(_REFUSED_ROWS):
        return detail
    columns = re.match(r"[^(]*\((.*?)\)=\(", detail, re.DOTALL)
    return f"Key ({columns[1]}); its values are not shown." if columns else ""


class _Redacted(NamedTuple):
    statement: str
    position: str | None
    hides_position: bool


def _redacted(statement: str, position: str | None) -> _Redacted:
    """Redact the statement before it is cut, since part of a password would go unnoticed; adjust the position.

    A position within a password is dropped, and what the server quotes from there is hidden.
    """
    shown = redacted(statement)
    if position is None or shown == statement:
        return _Redacted(shown, position, hides_position=False)
    before = redacted(statement[: int(position) - 1])
    if not shown.startswith(before):
        return _Redacted(shown, None, hides_position=True)
    return _Redacted(shown, str(len(before) + 1), hides_position=shown.startswith("***", len(before)))


def _statement(statement: str, position: str | None, line: int | None = 1) -> list[str]:
    """Return the statement, cut and numbered from `line`, with a caret under the server's position (1-based)."""
    lines = statement.split("\n")
    if position is None:
        first, last, row, column = 0, min(len(lines), 2 * _SHOWN_AROUND), -1, 0
    else:
        before = statement[: int(position) - 1]
        row, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
        first, last = max(0, row - _SHOWN_AROUND), min(len(lines), row + _SHOWN_AROUND + 1)
    shown: list[str] = []
    for index in range(first, last):
        text, at = _excerpt(lines[index], column if index == row else 0)
        if text.strip() or index == row:
            shown.append(f"{'' if line is None else index + line:>4} | {text}")
        if index == row:
            below = "".join("\t" if each == "\t" else " " * display.width(each) for each in text[:at])
            shown.append(f"     | {below}^")
    return [*shown, "     | ..."] if last < len(lines) and any(map(str.strip, lines[last:])) else shown


def _excerpt(line: str, column: int = 0) -> tuple[str, int]:
    """Return a readable part of a line around a column, and the column within it."""
    start = max(0, min(column - _LONGEST // 2, len(line) - _LONGEST))
    before, after = "…" * (start > 0), "…" * (start + _LONGEST < len(line))
    return f"{before}{line[start : start + _LONGEST]}{after}", column - start + len(before)
