"""After a lock timeout: roll back, try again, and report who held the lock."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import session
from neuraknot_db.database.diagnosis import is_lock_timeout
from neuraknot_db.migrate import blockers
from neuraknot_db.settings import Limits

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
"""Maximum seconds between two attempts."""

T = TypeVar("T")


class Failure(NamedTuple):
    """An attempt that ended in a lock timeout.

    Attributes:
        error: the server's error.
        number: 1 for the first attempt since the last progress.
        pause: seconds until the next attempt.
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
    lock_timeout: Callable[[], float | None] = lambda: None,
    may_retry: Callable[[], bool] = lambda: True,
    limits: Limits,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Call, and retry after a lock timeout; never a last attempt without a limit.

    Args:
        attempt: begins its own transaction, leaves none open on failure, and resumes where it stopped.
        connection: the connection it uses, rolled back after each failed attempt.
        what: names the current work; when the name changes, counting restarts.
        failed: called after each failed attempt but the last, on a connection without a transaction.
        lock_timeout: returns the failed statement's lock timeout in milliseconds; None for that of `limits`.
        may_retry: whether nothing of the failed attempt has stayed, which the next one would meet.
        limits: the maximum number of attempts and the first pause, which then doubles.
        sleep: waits for seconds.
        jitter: returns a number from 0 to 1, so that two runs that block each other don't meet again.

    Raises:
        DBAPIError: the last attempt's error, or any error with an SQLSTATE other than 55P03 and 40P01.
    """
    number, tried = 0, ""
    while True:
        watch = blockers.Watch(connection, limits.lock_timeout)
        try:
            with watch:
                return attempt()
        except DBAPIError as error:
            number, tried = (number + 1 if what() == tried else 1), what()
            if not is_lock_timeout(error):
                raise
            from neuraknot_db.database import other_sessions  # few runs meet another session

            # A rollback leaves prepared statements and the like, at which the next try would fail.
            connection.rollback()
            session.restore(connection, limits)
            connection.commit()
            tries = limits.tries
            pause = min(limits.pause * 2 ** (number - 1), LONGEST_PAUSE) * (0.75 + jitter() / 2)
            then = f"again in {pause:.1f} s" if number < tries and may_retry() else "given up"
            log.warning("%s: no lock in time, try %d of %d; %s", tried, number, tries, then)
            held_by = watch.seen or other_sessions.holding(connection, error.statement or "", lock_timeout())
            for line in other_sessions.told(held_by):
                log.warning("  %s", line)
            if number >= tries or not may_retry():
                # For the hint, where the error is explained.
                error.held_by = held_by  # type: ignore[attr-defined]
                raise
            failed(Failure(error, number, pause))
        sleep(pause)
