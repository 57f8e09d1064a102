"""One migration at a time per database, from any machine."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable

from sqlalchemy.engine import Connection

from neuraknot_db.errors import InterruptedRunError, LockUnavailableError

log = logging.getLogger(__name__)

KEY = int.from_bytes(hashlib.sha256(b"neuraknot_db").digest()[:8], signed=True)
"""The advisory lock's key. Advisory locks are per database, so the key need not name it."""

_SHORTEST, _LONGEST = 0.025, 2.0

_HOLDER = """
SELECT pid
  FROM pg_locks
 WHERE locktype = 'advisory' AND granted AND objsubid = 1
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (classid::bigint << 32 | objid::bigint) = %(key)s
"""

_ENDING = 5_000
"""Milliseconds that a session may take to end."""

# A session with that pid that does not hold the lock is not ours.
_END = """
SELECT pg_terminate_backend(pid, %(patience)s)
  FROM pg_locks
 WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid = %(pid)s
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (classid::bigint << 32 | objid::bigint) = %(key)s
"""


def acquire(
    connection: Connection,
    patience: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Take the lock in this session, which holds it until it ends.

    Polls, each time in its own transaction: a blocking wait would hold a snapshot that CREATE INDEX CONCURRENTLY
    waits for, and the two would deadlock.

    Args:
        connection: the migration's own connection, so that the lock ends with it.
        patience: seconds to wait.
        clock: monotonic seconds.
        sleep: waits for seconds.

    Raises:
        LockUnavailableError: another session still holds the lock after that time.
    """
    started = clock()
    pause = _SHORTEST
    told = False
    while True:
        taken = connection.exec_driver_sql("SELECT pg_try_advisory_lock(%(key)s)", {"key": KEY}).scalar_one()
        found = None if taken else holder(connection) or "one that has just ended"
        connection.commit()
        waited = clock() - started
        if taken:
            return
        if waited >= patience:
            raise LockUnavailableError(
                f"Another migration still runs after {waited:.0f} s, so this one changed nothing: {found}.",
                hint="Wait for it to end, and run the command again. What it has done so far: neuraknot-db log",
            )
        if not told:
            log.info("waiting for another migration: %s", found)
            told = True
        try:
            sleep(min(pause, patience - waited))
        except InterruptedRunError as error:
            error.message = f"{error.message.rstrip('.')} while it waited for another migration: nothing was changed."
            error.hint = "Run the command again."
            raise
        pause = min(2 * pause, _LONGEST)


def holder(connection: Connection) -> str | None:
    """Describe the session that holds the lock; None for none."""
    from neuraknot_db.database import other_sessions  # few runs meet another session

    pids = connection.exec_driver_sql(_HOLDER, {"key": KEY}).scalars().all()
    found = other_sessions.find(connection, pids)
    if not found:
        return None
    first = found[0]
    shown = f"connected since {first.since}"
    if first.since is None:
        shown = f"since when is not shown to this role ({other_sessions.grant(first.reader)})"
    return f"pid {first.pid}, {first.application}, {shown}"


def end(connection: Connection, pid: int) -> bool:
    """End another session of ours that holds the lock; return whether it is gone.

    Args:
        connection: a connection of the same role.
        pid: the session's process on the server.
    """
    rows = connection.exec_driver_sql(_END, {"key": KEY, "pid": pid, "patience": _ENDING}).scalars()
    return all(rows)
