"""Sessions that hold tables, to see what a statement outside of a transaction waits for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis, engine, session
from neuraknot_db.schema.effects import BY_NAME, LockMode
from neuraknot_db.settings import Settings

_NOT_HELD = "measured on the tables that it names"
_MOST_HELD = 40
"""Tables held, each by its own session."""
_POLL = 0.02
_PATIENCE = 200
"""Milliseconds that a holder waits at a time, less than `deadlock_timeout`.

Who waits for a table may have a snapshot, of the catalogs; a build that has the table waits for older snapshots.
"""
_WAITS_FOR = """
SELECT l.relation, l.mode, pg_blocking_pids(l.pid) FROM pg_locks l WHERE l.pid = %(pid)s AND NOT l.granted
"""


class Holders:
    """Sessions that hold every table, to see what a statement waits for.

    Each releases its table when it is waited for, and queues up again: the statement may ask for more in its next
    transaction, as VACUUM does.
    """

    def __init__(self, where: Settings, tables: Mapping[int, str], sql: str, pid: int) -> None:
        """Hold the tables, those in the statement first, against the session with this pid."""
        named = sorted(tables, key=lambda oid: tables[oid].rpartition(".")[2].strip('"') not in sql)
        self._note = _NOT_HELD if len(tables) > _MOST_HELD else ""
        self._pid = pid
        self._asked: dict[int, LockMode] = {}
        self._ended = threading.Event()
        with contextlib.ExitStack() as stack:
            held = {
                oid: stack.enter_context(_Holder(stack.enter_context(engine.connect(where)), tables[oid]))
                for oid in named[:_MOST_HELD]
            }
            self._looking = stack.enter_context(engine.connect(where))
            self._sessions = stack.pop_all()
        self._held = {holder.pid: (oid, holder) for oid, holder in held.items()}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def let_go(self) -> tuple[Mapping[int, LockMode], str]:
        """End it; return what was waited for, and a remark."""
        self._ended.set()
        self._thread.join()
        self._sessions.close()
        return self._asked, self._note

    def _watch(self) -> None:
        while not self._ended.wait(_POLL):
            for relation, mode, blocking in self._looking.exec_driver_sql(_WAITS_FOR, {"pid": self._pid}):
                for oid, holder in (self._held[pid] for pid in blocking if pid in self._held):
                    if oid == relation and mode in BY_NAME:
                        self._asked[oid] = max(BY_NAME[mode], self._asked.get(oid, BY_NAME[mode]))
                    holder.let_go()
            self._looking.rollback()


class _Holder:
    """A session that holds or waits for a table while it is entered."""

    def __init__(self, connection: Connection, table: str) -> None:
        self.pid: int = session.driver(connection).info.backend_pid
        self._connection = connection
        self._lock = f"SET LOCAL lock_timeout = {_PATIENCE}; LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"
        self._holds, self._wanted, self._ended = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def __enter__(self) -> _Holder:
        self._thread.start()
        self._holds.wait()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._ended.set()
        self.let_go()
        self._thread.join()

    def let_go(self) -> None:
        """Release the table to whoever waits for it."""
        self._wanted.set()

    def _hold(self) -> None:
        while not self._ended.is_set():
            try:
                self._connection.exec_driver_sql(self._lock)
            except DBAPIError as error:
                if not diagnosis.is_lock_timeout(error):
                    break  # the table is gone: there is nothing to hold
            else:
                self._holds.set()
                self._wanted.wait()
                self._wanted.clear()
            self._connection.rollback()
        self._holds.set()
