"""Reading the live schema for a command: a table that is locked meanwhile is reported with who locks it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis, other_sessions, raw_sql
from neuraknot_db.errors import LockUnavailableError
from neuraknot_db.schema import snapshots


@contextlib.contextmanager
def reading_schema(connection: Connection, script: ScriptDirectory) -> Iterator[None]:
    """Around what reads the schema.

    Raises:
        LockUnavailableError: a table was locked for too long; the details name the sessions.
    """
    try:
        yield
    except DBAPIError as error:
        reads = (error.statement or "").split(None, 1)[:1] in (["SELECT"], ["WITH"])
        if not (diagnosis.is_lock_timeout(error) and reads):
            raise
        connection.rollback()
        ours = " ".join(map(raw_sql.quoted, snapshots.table_names(script)))
        held_by = other_sessions.holding(connection, ours)
        end = f", or end it: {other_sessions.ending(held_by)}" if held_by else "."
        raise LockUnavailableError(
            "The schema can't be read now: another session locks a table.",
            hint=f"Run the command again when that has ended{end}",
            details=tuple(other_sessions.told(held_by)),
        ) from error
