"""How long the statements of a revision may still wait for locks."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from neuraknot_db.database import session
from neuraknot_db.settings import Limits

_WORTH_COUNTING = 0.1
"""Seconds; a statement that took less did not wait."""

_LEAST_SHARE = 0.25
"""Fraction of `lock_timeout` that the next statement always has: the last one may have worked instead of waited."""


class LockBudget:
    """One `lock_timeout` for all statements of a step, although the server counts it per lock.

    The application waits for the locks that the step already holds, for as long as the step waits for the next.
    """

    def __init__(self, limits: Limits) -> None:
        """Take the limits of the run's session."""
        self._of_session = limits
        self._of_step = limits
        self._left = 0.0

    def begin(self, connection: Connection, limits: Limits) -> None:
        """Begin a step with its own limits, in its transaction."""
        self._of_step, self._left = limits, limits.lock_timeout
        if limits != self._of_session:
            # Not LOCAL: an autocommit_block ends the transaction. It is set back with the step's row.
            session.set_timeouts(connection, limits, local=False)

    def spend(self, connection: Connection, seconds: float) -> None:
        """Subtract a statement's duration, all of which may have been waiting."""
        if seconds < _WORTH_COUNTING:
            return
        self._left = max(self._left - 1000 * seconds, self._of_step.lock_timeout * _LEAST_SHARE, 1)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self._left:.0f}")
