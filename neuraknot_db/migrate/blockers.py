"""Watch which sessions block a migration while it waits: the server can't say afterwards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

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
