"""Run a revision that can't be in a transaction: repair first, log the progress while it takes long."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain, repeat
from typing import NoReturn, cast

from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from neuraknot_db.database import other_sessions, raw_sql, session
from neuraknot_db.database.raw_sql import PendingStatement
from neuraknot_db.database.sql_text import Statement
from neuraknot_db.errors import LockUnavailableError, RefusedError
from neuraknot_db.revisions import concurrently
from neuraknot_db.revisions.containment import contained, demand_run
from neuraknot_db.settings import TIMEOUTS, Limits

log = logging.getLogger(__name__)

_INTERVALS = (2.0, 3.0, 5.0)
"""Seconds before the first progress lines of a long index build; the last one repeats."""

_JOIN_TIMEOUT = 2.0

# An index is in its table's schema. One that a session is building now is invalid as well.
_INVALID = """
SELECT format('%%I.%%I', n.nspname, i.relname), p.pid
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_namespace n ON n.oid = i.relnamespace
  LEFT JOIN pg_stat_progress_create_index p ON p.index_relid = x.indexrelid
 WHERE i.relname = %(name)s AND NOT x.indisvalid AND x.indrelid = to_regclass(%(table)s)
"""

_HALF_DETACHED = """
SELECT inhdetachpending
  FROM pg_inherits
 WHERE inhparent = to_regclass(%(table)s) AND inhrelid = to_regclass(%(partition)s)
"""

_PROGRESS = """
SELECT phase, blocks_done, blocks_total, tuples_done, tuples_total, lockers_total - lockers_done AS lockers,
       current_locker_pid
  FROM pg_stat_progress_create_index
 WHERE pid = %(pid)s
"""

_LEFTOVERS = """
SELECT format('%%I.%%I', n.nspname, i.relname), p.pid
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_namespace n ON n.oid = i.relnamespace
  JOIN pg_class t ON t.oid = to_regclass(%(name)s)
  LEFT JOIN pg_index old ON old.indexrelid = t.oid
  LEFT JOIN pg_stat_progress_create_index p ON p.relid = x.indrelid
 WHERE NOT x.indisvalid AND x.indrelid = coalesce(old.indrelid, t.oid) AND i.relname ~ '_cc(new|old)[0-9]*$'
   AND (old.indexrelid IS NULL OR starts_with(t.relname, regexp_replace(i.relname, '_cc(new|old)[0-9]*$', '')))
"""
"""Find what REINDEX CONCURRENTLY leaves behind when it is ended; the name may be a table's or an index's.

Any build on the table counts as its builder: dropping an index during a build would deadlock.
"""

Connect = Callable[[], AbstractContextManager[Connection]]


def hold(apply: Callable[..., object], migration: MigrationContext, revision: str) -> list[PendingStatement]:
    """Run a revision's `upgrade` or `downgrade` and return its statements; nothing is sent or printed yet.

    Raises:
        RefusedError: it asks for the connection, through which it could send more.
        EscapedError: see `contained`.
    """
    impl = migration.impl
    assert isinstance(impl, raw_sql.VerbatimPostgresqlImpl)
    connections = migration.connection, impl.connection
    migration.connection = impl.connection = cast("Connection", _NoConnection(revision))
    held: list[PendingStatement] = []
    impl.held = held
    try:
        with contained():
            demand_run(apply())
    finally:
        migration.connection, impl.connection = connections
        impl.held = None
    return held


class _NoConnection:
    def __init__(self, revision: str) -> None:
        self._revision = revision

    def __getattr__(self, name: str) -> NoReturn:
        raise RefusedError(
            f"Revision {self._revision} is not transactional, and asks for the connection, through which it could send"
            " more than its one statement.",
            hint="Write its one statement as op.execute(...), and what looks at the database as a revision of its own.",
        )


def run_alone(
    send: Callable[[], None],
    migration: MigrationContext,
    statement: Statement,
    limits: Limits,
    watch: Connect | None,
) -> None:
    """Send a statement in autocommit mode.

    Args:
        send: sends the statement.
        migration: the context whose connection it uses.
        statement: the statement.
        limits: its timeouts; some statements should have none, see `concurrently.waits_for_others`.
        watch: opens a second connection; None to log no progress.
    """
    with _lost_connection_told(), migration.autocommit_block():
        connection = migration.connection
        assert connection is not None
        with _timeouts(connection, limits):
            if _finish(connection, statement):
                return
            _repair(connection, statement)
            with _progress(connection, watch):
                send()


@contextlib.contextmanager
def _lost_connection_told() -> Iterator[None]:
    """Raise the error that ended the statement, not the one Alembic met when it left its block on a lost connection."""
    try:
        yield
    except InvalidRequestError as error:
        first: BaseException | None = error
        while first is not None and not isinstance(first, DBAPIError):
            first = first.__context__
        raise first or error from None


@contextlib.contextmanager
def _timeouts(connection: Connection, limits: Limits) -> Iterator[None]:
    before = {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in TIMEOUTS}
    session.set_timeouts(connection, limits, local=False)
    try:
        yield
    finally:
        # A lost connection has no timeouts to restore.
        with contextlib.suppress(DBAPIError, InvalidRequestError):
            connection.exec_driver_sql("; ".join(f"SET {name} = '{value}'" for name, value in before.items()))


def _finish(connection: Connection, statement: Statement) -> bool:
    """Finish what an earlier run has half done, instead of doing it again; return whether there was such a thing."""
    names = concurrently.detached(statement)
    if names is None:
        return False
    table, partition = names
    if not connection.exec_driver_sql(_HALF_DETACHED, {"table": table, "partition": partition}).scalar():
        return False
    log.info("  the partition %s was left half detached by a run that ended: that is finished", partition)
    raw_sql.execute(connection, f"ALTER TABLE {table} DETACH PARTITION {partition} FINALIZE")
    return True


def _repair(connection: Connection, statement: Statement) -> None:
    """Drop the leftovers of an earlier run: IF NOT EXISTS would accept an invalid index as built."""
    if found := concurrently.built(statement):
        query, names = _INVALID, {"name": found[0], "table": found[1]}
    elif reindexed := concurrently.reindexed(statement):
        query, names = _LEFTOVERS, {"name": reindexed}
    else:
        return
    for index, builder in connection.exec_driver_sql(query, names).all():
        if builder is not None:
            building = other_sessions.find(connection, [builder])
            raise LockUnavailableError(
                f"The index {index} is invalid, and another session builds an index of that table.",
                hint=f"Wait for it to end, or end it: {other_sessions.ending(building)}; then run the command again.",
                details=tuple(other_sessions.told(building, holding="built by")),
            )
        log.info("  the index %s was left invalid by a run that failed: it is built anew", index)
        raw_sql.execute(connection, f"DROP INDEX CONCURRENTLY {index}")


@contextlib.contextmanager
def _progress(connection: Connection, watch: Connect | None) -> Iterator[None]:
    driver_connection = connection.connection.driver_connection
    if watch is None or driver_connection is None:
        yield
        return
    ended = threading.Event()
    arguments = (watch, driver_connection.info.backend_pid, ended)
    teller = threading.Thread(target=_tell, args=arguments, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join(_JOIN_TIMEOUT)


def _tell(watch: Connect, pid: int, ended: threading.Event) -> None:
    for seconds in chain(_INTERVALS, repeat(_INTERVALS[-1])):
        if ended.wait(seconds):
            return
        # What can't be read now may be readable next time; the build does not depend on it.
        with contextlib.suppress(Exception), watch() as connection:
            row = connection.exec_driver_sql(_PROGRESS, {"pid": pid}).first()
            if row is not None and not ended.is_set():
                done, total = max(
                    (row.blocks_done, row.blocks_total), (row.tuples_done, row.tuples_total), key=lambda pair: pair[1]
                )
                share = f", {100 * done // total} %" if total else ""
                lockers = other_sessions.find(connection, [row.current_locker_pid] if row.lockers else [])
                waiting = f", for {row.lockers}, now {lockers[0]}" if lockers else ""
                log.info("  %s%s%s", row.phase, share, waiting)
