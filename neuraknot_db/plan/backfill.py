"""How many rows a pending backfill has before it, and about how long they take; no table is read for it."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.engine import Connection

from neuraknot_db.history.log import History
from neuraknot_db.migrate.backfill import Position, Table
from neuraknot_db.plan.values import PlannedBackfill
from neuraknot_db.revisions.backfill import Backfill


def planned(
    connection: Connection, revision: str, declared: Backfill, batch: int, matching: int | None, unknown: str
) -> PlannedBackfill:
    """Return what a run of it would have to do.

    Args:
        connection: its transaction may be read-only.
        revision: the revision that declares it.
        declared: the backfill.
        batch: milliseconds that a batch is to take.
        matching: how many rows match its `where` now; None if that was not asked, or is not known.
        unknown: why it is not known; empty if it is, or was not asked.
    """
    table, progress = Table.of(connection, declared.table), History(connection).progress().get(revision)
    rows = table.rows if table and table.rows >= 0 else None
    found = PlannedBackfill(declared.table, rows, matching, unknown, table and table.wrong, batch)
    if progress is None:
        return found
    at = Position.of(progress)
    return replace(found, changed=progress.rows_changed, gone=at.gone, seconds=at.seconds)
