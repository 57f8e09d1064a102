"""What could not have a lock in time is rolled back and tried again, and says who held it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database.diagnosis import DEADLOCK, LOCK_NOT_AVAILABLE
from neuraknot_db.migrate import blockers
from neuraknot_db.settings import Limits

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
"""Seconds between two tries at the most."""

T = TypeVar("T")


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
    lock_timeout: Callable[[], float | None] = lambda: None,
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
        lock_timeout: milliseconds that the statement had which failed; None for what `limits` say.
        limits: how often at the most, and how long the first pause is, which then doubles.
        sleep: waits for seconds.
        jitter: a number from 0 to 1, so that two that block each other don't meet again.

    Raises:
        DBAPIError: as the last try raised it, or with any other SQLSTATE than 55P03 and 40P01.
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
            connection.rollback()
            tries = limits.tries
            pause = min(limits.pause * 2 ** (number - 1), LONGEST_PAUSE) * (0.75 + jitter() / 2)
            then = f"again in {pause:.1f} s" if number < tries else "given up"
            log.warning("%s: no lock in time, try %d of %d; %s", tried, number, tries, then)
            for line in watch.seen or blockers.guessed(connection, error.statement or "", lock_timeout()):
                log.warning("  %s", line)
            if number >= tries:
                raise
            failed(Failure(error, number, pause))
        sleep(pause)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether this is a lock that could not be had in time, or a deadlock."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) in {LOCK_NOT_AVAILABLE, DEADLOCK}
