"""How many rows a pending backfill has before it, and about how long they take; no table is read for it."""

from __future__ import annotations

from math import ceil

from sqlalchemy.engine import Connection

from neuraknot_db.history.log import History, Position
from neuraknot_db.migrate.backfill import look
from neuraknot_db.plan.values import PlannedBackfill
from neuraknot_db.revisions.backfill import Backfill

ASSUMED_SPEED = 20_000
"""Rows a second, before a run has shown it: of a narrow table on two busy cores (`benchmarks/backfill.py`)."""


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
    table = look(connection, declared.table)
    rows = table.rows if table and table.rows >= 0 else None
    position, changed = History(connection).progress().get(revision, (Position(""), None))
    gone, seconds = max(position.gone, changed or 0), position.seconds
    left = matching if matching is not None or rows is None else max(rows - gone, 0)
    speed = round((gone if matching is None else changed or 0) / seconds) or None if seconds else None
    duration = None if left is None else round(left / (speed or ASSUMED_SPEED) * 1000)
    batches = None if duration is None else ceil(duration / batch)
    told = matching is not None, unknown or None, changed, speed, batch, batches, duration
    return PlannedBackfill(declared.table, table and table.wrong, rows, left, *told)
