"""How many rows a pending backfill has before it, and about how long they take; no table is read for it."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from neuraknot_db.plan.values import PlannedBackfill
from neuraknot_db.revisions.backfill import Backfill

_ROWS = "SELECT nullif(reltuples, -1)::bigint FROM pg_class WHERE oid = to_regclass(%(table)s)"


def planned(connection: Connection, declared: Backfill, matching: int | None, unknown: str) -> PlannedBackfill:
    """Return what a run of it would have to do.

    Args:
        connection: its transaction may be read-only.
        declared: the backfill.
        matching: how many rows match its `where` now; None if that was not asked, or is not known.
        unknown: why it is not known; empty if it is, or was not asked.
    """
    rows = connection.exec_driver_sql(_ROWS, {"table": declared.table}).scalar()
    return PlannedBackfill(declared.table, rows, matching, unknown)
