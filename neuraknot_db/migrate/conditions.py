"""What a revision's `expects`, `ensures` and `losses` say of the data: asked in a transaction, and nothing stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alembic.runtime.migration import RevisionStep
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis, excerpt, interrupt, raw_sql, sql_text, sqlstate
from neuraknot_db.errors import MigrationFailedError, NeuraknotError, RefusedError
from neuraknot_db.migrate.failures import STAYS, FailurePoint
from neuraknot_db.revisions import files

_BEGIN = "SAVEPOINT neuraknot_db; SET LOCAL transaction_read_only = on"
_END = "ROLLBACK TO SAVEPOINT neuraknot_db; RELEASE SAVEPOINT neuraknot_db"

# As JSON, in which a value of every type has a text. Within FROM nothing but a query can stand.
_BEFORE = """\
SELECT count(*), array_agg(row_to_json(neuraknot_db)::text) FILTER (WHERE neuraknot_number <= 5)
  FROM (SELECT neuraknot_db, row_number() OVER () AS neuraknot_number FROM (
"""
_BEHIND = "\n) AS neuraknot_db) AS numbered"

_IN_SCRIPT = """\
DO $neuraknot_db$
#variable_conflict use_column
BEGIN
    IF EXISTS (
{query}
    ) THEN RAISE EXCEPTION USING MESSAGE = {message}; END IF;
END
$neuraknot_db$;"""


class Condition(NamedTuple):
    """One of a revision's `expects` or `ensures`.

    Attributes:
        step: the revision's step.
        name: which of the two.
        phrase: what must hold.
    """

    step: RevisionStep
    name: str
    phrase: str

    @property
    def doing(self) -> str:
        """The revision at this query, as the subject of a sentence."""
        return f"Revision {self.step.revision.revision}, at its query for {_quoted(self.phrase)} ({self.name}),"

    @property
    def line(self) -> int:
        """Where it is in the revision's file, from 1."""
        lines = Path(self.step.revision.path).read_text(encoding="utf-8", errors="replace").splitlines()
        begin = next((number for number, line in enumerate(lines, 1) if line.startswith(self.name)), 1)
        return next((number for number in range(begin, len(lines) + 1) if self.phrase in lines[number - 1]), begin)

    def broken(self, total: int, rows: tuple[str, ...], point: FailurePoint) -> NeuraknotError:
        """Return the error for rows that break it."""
        that = f"{total:,} row{' breaks' if total == 1 else 's break'} that"
        message = f"Revision {self.step.revision.revision} {self.name} {_quoted(self.phrase)}, and {that}:"
        place = f"{files.here(self.step.revision.path)}, line {self.line}"
        hint = f"Mend what the query in {place} finds, and run the command again."
        if self.name == "expects":
            undone = f"it stays at {point.batches} rows changed" if point.batches else "it was not begun"
            undone += ", and the reset is rolled back" * point.within
            return RefusedError(f"{message} {undone}.", hint=hint, rows=rows)
        undone = "it was not recorded" if point.alone or point.batches else f"it{point.undone.removeprefix(' and')}"
        stays = STAYS if point.alone else f"{point.batches} rows stay changed." if point.batches else ""
        hint = " ".join(filter(None, (point.at, stays, hint)))
        return MigrationFailedError(f"{message} {undone}.", hint=hint, rows=rows)


def ask(connection: Connection, query: str) -> tuple[int, tuple[str, ...]]:
    """Return how many rows a query gives, and the first of them as JSON; see `read`."""
    [statement] = sql_text.statements(query)
    try:
        total, rows = read(connection, f"{_BEFORE}{statement.text}{_BEHIND}")
    except DBAPIError as error:
        error.statement = query
        error.sent_before = len(_BEFORE) - statement.start  # type: ignore[attr-defined]
        raise
    return total, tuple(rows or ())


def read(connection: Connection, sql: str) -> Sequence[Any]:
    """Return the first row of a query that may only read, empty without one; no lock of it stays in the transaction.

    Raises:
        DBAPIError: it failed; the transaction goes on unless the connection is lost.
    """
    raw_sql.execute(connection, _BEGIN)
    try:
        row = raw_sql.execute(connection, sql).first()
    except DBAPIError as error:
        if not diagnosis.is_lost(error):
            raw_sql.execute(connection, _END)
        raise
    raw_sql.execute(connection, _END)
    return row or ()


def answer(
    connection: Connection, asked: Callable[[Connection, str], Sequence[Any]], query: str, *, strict: bool = False
) -> tuple[int | None, str]:
    """Return the number that a query gives, asked by `ask` or `read`; or None, and why that is not known.

    Raises:
        DBAPIError: the connection is lost; or, if it is `strict`, the query was cancelled, which ends what asks it.
    """
    try:
        return int(asked(connection, query)[0]), ""
    except DBAPIError as error:
        interrupt.check()
        if diagnosis.is_lost(error) or (strict and sqlstate.of(error) == sqlstate.QUERY_CANCELED):
            raise
        return None, excerpt.words(error, None)[0]
    except (LookupError, TypeError, ValueError):
        return None, "its query gives no number"


def in_script(revision: str, name: str, phrase: str, query: str) -> str:
    """Return the SQL that stops a `--sql` script at rows that break a condition."""
    [statement] = sql_text.statements(query)
    message = raw_sql.literal(f"Revision {revision} {name} {_quoted(phrase)}, and rows break that.")
    return _IN_SCRIPT.format(query=statement.text, message=message)


def _quoted(phrase: str) -> str:
    return f'"{" ".join(phrase.split())}"'
