"""Which run is to be taken back, by the log: the newest one of which something is still applied."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database import lock
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import LockUnavailableError, RefusedError
from neuraknot_db.history.log import History, Record
from neuraknot_db.history.runs import MOVES, Run, runs
from neuraknot_db.revisions import files
from neuraknot_db.revisions.syntax import Source

_HINT = "Name the revision to go back to, and look first: neuraknot-db plan REVISION, then alembic downgrade REVISION"


def find(connection: Connection, script: ScriptDirectory, state: DatabaseState) -> Run:
    """Return the run that brought the database to its revision; its `before` is where to go back to.

    Args:
        connection: in a transaction, which is only read in.
        script: where the revisions are.
        state: what the database holds.

    Raises:
        LockUnavailableError: a migration runs now.
        RefusedError: there is no such run, the log does not tell, or a revision has no way back.
    """
    if running := lock.holder(connection):
        raise LockUnavailableError(
            f"A migration runs now, and what it will have done is not known: {running}.",
            hint="Wait for it to end, and look again: neuraknot-db plan --rollback",
        )
    if len(state.versions) > 1:
        raise RefusedError(
            f"The database is at several revisions at once ({state.revision}): which run to take back is not known.",
            hint=_HINT,
        )
    records = list(History(connection).records(every=True))
    last = _brought(records, state.revision)
    found = next(each for each in runs(records) if each.run == last.run)
    _demand_way_back(script, found, state.revision)
    return found


def _brought(records: Iterable[Record], at: str | None) -> Record:
    """Replay the log; return the row that applied the newest revision of those that are still applied.

    Raises:
        RefusedError: none is, or the log does not lead to where the database is.
    """
    if at is None:
        raise RefusedError(
            "The database is at no revision: there is nothing to roll back.",
            hint="What was run: neuraknot-db log --runs",
        )
    standing = list[Record]()  # what is applied, and was not taken back since
    last: Record | None = None
    end, ending = "No run of this tool has brought the database to where it is, by its log.", ""
    for row in records:
        if row.outcome != "succeeded" or row.direction not in MOVES:
            continue
        if row.run is None:
            end, standing = "The log leads back to rows of an older version, which name no run.", []
        elif row.direction not in ("upgrade", "downgrade"):
            what = f"a{'n' * (row.direction == 'adopt')} {row.direction}"
            when = f"{row.started_at:%Y-%m-%d %H:%M} UTC by {row.started_by or row.database_user}"
            end, ending = f"The log leads back to {what} of {when}, and {what} can't be rolled back.", row.run
            standing = []
        elif row.run != ending:  # a reset applies revisions as well
            if last and last.run and last.after != row.before:
                end = f"The log does not tell how the database came {_way(last.after, row.before)}."
                standing = []
            if row.direction == "upgrade":
                standing.append(row)
            elif standing and standing.pop().revision != row.revision:
                end, standing = "The log takes revisions back that were not the newest: several lines met.", []
        last = row
    if last and last.run and last.after != at:
        end = f"By its log the database came to {last.after or 'no revision'}, and it is at {at}: it was restored, or"
        raise RefusedError(f"{end} changed by hand.", hint=_HINT)
    if not standing:
        raise RefusedError(end, hint=_HINT)
    return standing[-1]


def _way(before: str | None, after: str | None) -> str:
    return f"from {before or 'no revision'} to {after or 'no revision'}"


def _demand_way_back(script: ScriptDirectory, run: Run, at: str | None) -> None:
    """Raise if a revision that would be taken back can't be.

    Raises:
        RefusedError: its downgrade() is missing or only raises, or the run's beginning is not below.
    """
    taken = []
    for each in script.iterate_revisions(at, "base"):
        if each.revision == run.before:
            break
        taken.append(each)
    else:
        if run.before is not None:
            raise RefusedError(
                f"The run began at {run.before}, which is not below {at} in alembic/versions.",
                hint="Use the checkout or the image that has it.",
            )
    for each in taken:
        missing = not hasattr(each.module, "downgrade")
        if missing or Source(Path(each.path).read_bytes()).only_raises("downgrade"):
            why = "is missing" if missing else "only raises"
            raise RefusedError(
                f"Revision {each.revision} has no way back: its downgrade() {why}.",
                hint=f"Go forward with a new revision, or restore a snapshot. It is {files.here(each.path)}",
            )
