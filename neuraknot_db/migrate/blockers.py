"""Find the sessions that block a migration: while it waits, because the server can't say afterwards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from neuraknot_db.database.other_sessions import Session

_INTERVAL = 0.2
"""Fraction of `lock_timeout`: less than any statement waits before it fails, so that each such wait is seen."""

_JOIN_TIMEOUT = 1.0

# pg_blocking_pids briefly stops the server's lock manager: call it only while there is a wait.
_SEEN = """
SELECT DISTINCT b.pid
  FROM pg_stat_activity w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) b(pid)
 WHERE w.pid = %(pid)s AND w.wait_event_type = 'Lock'
"""

# A statement on a partitioned table locks its partitions, and one on a table locks the tables it refers to. A session
# whose transaction began only now did not block.
_HOLDING = """
SELECT l.pid, array_agg(c.relname::text)
       || array(SELECT r.relname::text
                  FROM unnest(array_agg(c.oid)) o CROSS JOIN pg_partition_ancestors(o) p JOIN pg_class r ON r.oid = p)
       || array(SELECT r.relname::text
                  FROM pg_constraint f JOIN pg_class r ON r.oid = f.conrelid
                 WHERE f.contype = 'f' AND f.confrelid = ANY (array_agg(c.oid))) AS names
  FROM pg_locks l
  JOIN pg_stat_activity a USING (pid)
  JOIN pg_class c ON c.oid = l.relation
 WHERE l.granted AND l.locktype = 'relation' AND l.pid <> pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND coalesce(a.xact_start < clock_timestamp() - coalesce(%(lock_timeout)s::float8 * interval '1 ms',
                                                            current_setting('lock_timeout')::interval) / 4, true)
 GROUP BY l.pid
"""


class Watch:
    """While open, records on another connection which sessions block this one; connects only if it takes long."""

    def __init__(self, connection: Connection, lock_timeout: float) -> None:
        """Prepare it.

        Args:
            connection: the session's connection.
            lock_timeout: its lock timeout in milliseconds.
        """
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
        self._engine = connection.engine
        self._pid: int = driver_connection.info.backend_pid
        self._lock_timeout = lock_timeout / 1000
        self._ended = threading.Event()
        self._seen: tuple[float, Sequence[Session]] = (0.0, ())
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_JOIN_TIMEOUT)

    @property
    def seen(self) -> Sequence[Session]:
        """The sessions that blocked last, if that was just now."""
        when, found = self._seen
        return found if time.monotonic() - when < self._lock_timeout else ()

    def _look(self) -> None:
        interval = self._lock_timeout * _INTERVAL
        if self._ended.wait(2 * interval):
            return
        # A blocker that can't be seen is guessed afterwards; the migration does not depend on it.
        with contextlib.suppress(Exception), self._engine.connect() as opened:
            # A transaction would keep showing its first view.
            connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("SET application_name = 'neuraknot-db watch'; SET idle_session_timeout = 0")
            while not self._ended.is_set():
                from neuraknot_db.database import other_sessions  # few runs wait for another session

                if pids := connection.exec_driver_sql(_SEEN, {"pid": self._pid}).scalars().all():
                    self._seen = time.monotonic(), other_sessions.find(connection, pids)
                self._ended.wait(interval)


def guessed(connection: Connection, statement: str, lock_timeout: float | None = None) -> Sequence[Session]:
    """Return the sessions that lock what a statement names, if no blocker was seen.

    Args:
        connection: not in a transaction.
        statement: the statement that failed.
        lock_timeout: its lock timeout in milliseconds; None for the session's own.
    """
    from neuraknot_db.database import other_sessions, sql_text  # few runs need it

    words = {
        token.text[1:-1].replace('""', '"') if token.kind == "quoted name" else token.text.lower()
        for token in sql_text.tokens(statement)
    }
    # The error to report is the lock timeout, not a failure of this query.
    with contextlib.suppress(SQLAlchemyError):
        rows = connection.exec_driver_sql(_HOLDING, {"lock_timeout": lock_timeout}).all()
        found = other_sessions.find(connection, [row.pid for row in rows if words.intersection(row.names)])
        connection.rollback()
        return found
    return ()
