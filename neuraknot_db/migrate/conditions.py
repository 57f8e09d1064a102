"""What a revision's `expects` and `ensures` say of the data: asked in its transaction, and nothing of it stays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from alembic.runtime.migration import RevisionStep
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from neuraknot_db.database import diagnosis, excerpt, raw_sql, sql_text, sqlstate
from neuraknot_db.errors import MigrationFailedError, NeuraknotError, RefusedError
from neuraknot_db.migrate.failures import FailurePoint
from neuraknot_db.revisions import files

_SHOWN = 5
"""Maximum rows that are read and shown; all are counted."""

_OPENED = "DECLARE neuraknot_db NO SCROLL CURSOR FOR"

# A cursor is planned for its first rows unless it is told that all are read.
_BEGIN = "SAVEPOINT neuraknot_db; SET LOCAL transaction_read_only = on; SET LOCAL cursor_tuple_fraction = 1"
_END = "ROLLBACK TO SAVEPOINT neuraknot_db; RELEASE SAVEPOINT neuraknot_db"

_IN_SCRIPT = """\
DO $neuraknot_db$
#variable_conflict use_column
BEGIN
    IF EXISTS (
{query}
    ) THEN RAISE EXCEPTION USING MESSAGE = {message}; END IF;
END
$neuraknot_db$;"""


class Answer(NamedTuple):
    """What a query gave.

    Attributes:
        total: how many rows.
        rows: the columns' names and the first rows; empty if Python has no values for them.
    """

    total: int
    rows: tuple[tuple[str, ...], ...]


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
    def quoted(self) -> str:
        """The phrase in one line, in quotes."""
        return f'"{" ".join(self.phrase.split())}"'

    @property
    def doing(self) -> str:
        """The revision at this query, as the subject of a sentence."""
        return f"Revision {self.step.revision.revision}, at its query for {self.quoted} ({self.name}),"

    @property
    def line(self) -> int:
        """Where it is in the revision's file, from 1."""
        lines = Path(self.step.revision.path).read_text(encoding="utf-8", errors="replace").splitlines()
        begin = next((number for number, line in enumerate(lines, 1) if line.startswith(self.name)), 1)
        return next((number for number in range(begin, len(lines) + 1) if self.phrase in lines[number - 1]), begin)

    @property
    def place(self) -> str:
        """The same for a person."""
        return f"{files.here(self.step.revision.path)}, line {self.line}"

    def broken(self, answer: Answer, point: FailurePoint) -> NeuraknotError:
        """Return the error for rows that break it."""
        rows = f"{answer.total:,} row{' breaks' if answer.total == 1 else 's break'}"
        message = f"Revision {self.step.revision.revision} {self.name} {self.quoted}, and {rows} that:"
        mend = f"Mend what the query in {self.place} finds, and run the command again."
        error: NeuraknotError
        if self.name == "expects":
            undone = "it was not begun" + ", and the reset is rolled back" * point.within
            error = RefusedError(f"{message} {undone}.", hint=mend)
        else:
            undone = "what its statement did stays" if point.alone else f"it{point.undone.removeprefix(' and')}"
            error = MigrationFailedError(f"{message} {undone}.", hint=_hint(point, mend))
        error.rows = answer.rows
        return error

    def unasked(self, error: DBAPIError, point: FailurePoint) -> NeuraknotError | None:
        """Return the error for a query that fails by itself; None for what may happen to any statement."""
        cancelled = sqlstate.of(error) == sqlstate.QUERY_CANCELED
        if cancelled or diagnosis.is_lost(error) or diagnosis.is_lock_timeout(error):
            return None
        primary, details = excerpt.words(error, None)
        only = ", which may only read," if sqlstate.of(error) == sqlstate.READ_ONLY else ""
        return MigrationFailedError(
            f"{self.doing} failed{point.undone}: {primary}.",
            hint=_hint(point, f"Correct it{only} in {self.place}, and run the command again."),
            details=tuple(line for line in details if not line.endswith(_OPENED)),
        )


def ask(connection: Connection, query: str) -> Answer:
    """Ask a query that may only read, in the open transaction, and leave no lock behind.

    Raises:
        DBAPIError: it failed; the transaction goes on unless the connection is lost.
    """
    with _unchanged(connection, query):
        raw_sql.execute(connection, f"{_OPENED}\n{query}")
        result = raw_sql.execute(connection, f"FETCH {_SHOWN} FROM neuraknot_db")
        total, rows = result.rowcount, list(_rows(result))
        if total == _SHOWN:
            total += raw_sql.execute(connection, "MOVE FORWARD ALL FROM neuraknot_db").rowcount
    return Answer(total, tuple(rows))


def _hint(point: FailurePoint, advice: str) -> str:
    again = "Its statement is sent again then: write IF NOT EXISTS or the like." if point.alone else ""
    return " ".join(filter(None, (point.at, advice, again)))


def in_script(revision: str, name: str, phrase: str, query: str) -> str:
    """Return the SQL that stops a `--sql` script at rows that break a condition."""
    message = f'Revision {revision} {name} "{" ".join(phrase.split())}", and rows break that.'
    [statement] = sql_text.statements(query)
    return _IN_SCRIPT.format(query=statement.text, message=raw_sql.literal(message))


@contextlib.contextmanager
def _unchanged(connection: Connection, query: str) -> Iterator[None]:
    raw_sql.execute(connection, _BEGIN)
    try:
        yield
    except DBAPIError as error:
        if not (error.statement or "").startswith(_OPENED):
            error.statement = query
        if not diagnosis.is_lost(error):
            raw_sql.execute(connection, _END)
        raise
    raw_sql.execute(connection, _END)


def _rows(result: raw_sql.Result) -> Iterator[tuple[str, ...]]:
    with contextlib.suppress(ValueError, OverflowError, SQLAlchemyError):  # such as a date before Christ
        found = result.all()
        yield tuple(result.keys())
        for row in found:
            yield tuple("NULL" if value is None else str(value) for value in row)
