"""How long the statements of a revision may still wait for their locks."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from neuraknot_db.database import session
from neuraknot_db.settings import Limits

_WORTH_COUNTING = 0.1
"""Seconds; a statement that took less has not waited for anybody."""

_LEAST_SHARE = 0.25
"""Of `lock_timeout`: what the next statement has in any case, since the last one may have worked, not waited."""


class LockBudget:
    """One `lock_timeout` for all statements of a step, though the server counts it for each lock anew.

    The application waits behind the locks that the step holds already, for as long as it waits for the next.
    """

    def __init__(self, limits: Limits) -> None:
        """Of a run whose session has these limits."""
        self._of_session = limits
        self._of_step = limits
        self._left = 0.0
        self._set = False

    def begin(self, connection: Connection, limits: Limits) -> None:
        """Begin a step with limits of its own, in its transaction."""
        self._of_step, self._left = limits, limits.lock_timeout
        # The session has the run's own; in the one transaction of a reset, what was set last stays.
        if limits != self._of_session or self._set:
            session.set_timeouts(connection, limits, local=True)
        self._set = limits != self._of_session

    def spend(self, connection: Connection, seconds: float) -> None:
        """Take off what a statement took, all of which may have been waiting."""
        if seconds < _WORTH_COUNTING:
            return
        self._left = max(self._left - 1000 * seconds, self._of_step.lock_timeout * _LEAST_SHARE, 1)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self._left:.0f}")
        self._set = True
