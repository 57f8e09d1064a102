"""What could not have a lock in time is rolled back and tried again, and says who held it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.console import log
from neuraknot_db.diagnosis import DEADLOCK, LOCK_NOT_AVAILABLE
from neuraknot_db.settings import Limits

LONGEST_PAUSE = 30.0
"""Seconds between two tries at the most."""

T = TypeVar("T")

# Whoever has held a lock on one of the statement's tables for longer than it was waited for.
_BLOCKERS = """
SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), 'unknown') AS application, a.usename,
       extract(epoch FROM now() - a.xact_start)::int AS age, a.state, left(a.query, 200) AS query
  FROM pg_locks l
  JOIN pg_stat_activity a USING (pid)
  JOIN pg_class c ON c.oid = l.relation
 WHERE l.granted AND l.locktype = 'relation' AND a.pid <> pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND c.relnamespace = 'public'::regnamespace
   AND (%(statement)s !~ ('\\m(' || (SELECT string_agg(relname, '|') FROM pg_class
                                     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')) || ')\\M')
        OR %(statement)s ~ ('\\m' || c.relname || '\\M'))
 ORDER BY age DESC NULLS LAST
 LIMIT 5
"""


@dataclass(frozen=True)
class Failure:
    """A try that found no lock in time.

    Attributes:
        error: what the server said.
        number: 1 for the first try since something was got done.
        pause: seconds until the next.
    """

    error: DBAPIError
    number: int
    pause: float


def on_lock_timeout(
    attempt: Callable[[], T],
    connection: Connection,
    *,
    what: Callable[[], str],
    failed: Callable[[Failure], None] = lambda _failure: None,
    limits: Limits,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Call until it does not fail for want of a lock; never a last try without a limit.

    Args:
        attempt: begins its own transaction, and leaves none behind when it fails. It goes on where it stopped.
        connection: the one that it uses, rolled back after each failed try.
        what: what is tried now; when that changes, the counting begins anew.
        failed: told of each failed try but the last, on a connection without a transaction.
        limits: how often at the most, and how long the first pause is, which then doubles.
        sleep: waits for seconds.
        jitter: a number from 0 to 1, so that two that block each other don't meet again.

    Raises:
        DBAPIError: as the last try raised it, or with any other SQLSTATE than 55P03 and 40P01.
    """
    number, tried = 0, ""
    while True:
        try:
            return attempt()
        except DBAPIError as error:
            number, tried = (number + 1 if what() == tried else 1), what()
            if not is_lock_timeout(error):
                raise
            connection.rollback()
            tries = limits.tries
            pause = min(limits.pause * 2 ** (number - 1), LONGEST_PAUSE) * (0.75 + jitter() / 2)
            then = f"again in {pause:.1f} s" if number < tries else "given up"
            log.warning("%s: no lock in time, try %d of %d; %s", tried, number, tries, then)
            for line in blockers(connection, error.statement or ""):
                log.warning("  held by %s", line)
            if number >= tries:
                raise
            failed(Failure(error, number, pause))
        sleep(pause)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether this is a lock that could not be had in time, or a deadlock."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) in {LOCK_NOT_AVAILABLE, DEADLOCK}


def blockers(connection: Connection, statement: str) -> tuple[str, ...]:
    """The sessions that hold locks on the tables that a statement names, a line each, the oldest first."""
    rows = connection.exec_driver_sql(_BLOCKERS, {"statement": statement}).all()
    connection.rollback()
    return tuple(
        f"pid {row.pid}, {row.application} ({row.usename}), in a transaction for {row.age} s, {row.state}: "
        f"{' '.join((row.query or '').split())}"
        for row in rows
    )
