"""Which run is to be taken back, by the log: the newest one of which something is still applied."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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

log = logging.getLogger(__name__)

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
    found = _brought(records, state.revision)
    _demand_way_back(script, found, state.revision)
    newest = [each for each in runs(records) if each.kind == "upgrade"][-1]
    if newest.run != found.run and newest.before == newest.after:  # it is not the one that its caller may mean
        log.warning("passed over, since it brought no revision: the %s", newest)
    return found


def _brought(records: Sequence[Record], at: str | None) -> Run:
    """Go back through the log, from where the database is, to the row that applied that; return its run.

    Raises:
        RefusedError: there is none, or the log does not lead there.
    """
    if at is None:
        raise RefusedError(
            "The database is at no revision: there is nothing to roll back.",
            hint="What was run: neuraknot-db log --runs",
        )
    by_id = {each.run: each for each in runs(records)}
    why = "By its log, no run of this tool has brought the database to where it is"
    came: str | None = at
    for row in reversed(records):
        if row.outcome != "succeeded" or row.direction not in MOVES:
            continue
        run = by_id[row.run]
        if row.run is None:
            why = "The log leads back to rows of an older version, which name no run"
        elif row.after != came:
            is_at = f"{'is' if came == at else 'was'} at {came or 'no revision'}"
            why = f"By its log the database came to {row.after or 'no revision'}, and it {is_at}: it was restored, or"
            why += " changed by hand"
        elif run.kind not in ("upgrade", "downgrade"):  # a reset applies revisions as well
            article = "an" if run.kind == "adopt" else "a"
            why = f"The log leads back to {article} {run}, and {article} {run.kind} can't be rolled back"
        elif (row.direction, row.revision) == ("upgrade", at):
            return run
        else:
            came = row.before
            continue
        break
    raise RefusedError(f"{why}.", hint=_HINT)


def _demand_way_back(script: ScriptDirectory, run: Run, at: str | None) -> None:
    """Raise if a revision that would be taken back can't be.

    Raises:
        RefusedError: its downgrade() is missing or only raises, or the run's beginning is not below.
    """
    below = list(script.iterate_revisions(at, "base"))
    names = [*(each.revision for each in below), None]
    if run.before not in names:
        raise RefusedError(
            f"The run began at {run.before}, which is not below {at} in alembic/versions.",
            hint="Use the checkout or the image that has it.",
        )
    for each in below[: names.index(run.before)]:
        missing = not hasattr(each.module, "downgrade")
        if missing or Source(Path(each.path).read_bytes()).only_raises("downgrade"):
            why = "is missing" if missing else "only raises"
            raise RefusedError(
                f"Revision {each.revision} has no way back: its downgrade() {why}.",
                hint=f"Go forward with a new revision, or restore a snapshot. It is {files.here(each.path)}",
            )
