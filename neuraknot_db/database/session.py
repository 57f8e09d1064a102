"""The session that a migration runs in: its parameters, timeouts and signals."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError

from neuraknot_db import settings
from neuraknot_db.database import diagnosis, engine, interrupt, login, sqlstate
from neuraknot_db.database.parameters import AFTER_STARTUP, PARAMETERS, SINCE
from neuraknot_db.database.state import resetting
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.settings import Limits, Settings

log = logging.getLogger(__name__)

# Only some roles may set it, even to what it is. If it is `replica`, no trigger fires and no foreign key is checked.
_REPLICATION_ROLE = """
SELECT set_config('session_replication_role', 'origin', false)
 WHERE current_setting('session_replication_role') <> 'origin'
"""

# ALL returns to what the connection began with; it leaves out the role, and what is not a parameter. DISCARD ALL would
# give up the lock.
_RESET = (
    "CLOSE ALL; DEALLOCATE ALL; UNLISTEN *; DISCARD SEQUENCES; DISCARD TEMP;"
    " RESET ALL; RESET SESSION AUTHORIZATION; RESET ROLE"
)


_CLOCKS_DIFFER = 120.0
"""Seconds that a run with a deadline may see between this machine's clock and the server's."""


@contextlib.contextmanager
def open_session(where: Settings, known: Engine | None = None) -> Iterator[Connection]:
    """Open a connection with this project's timeouts, whose statement SIGINT and SIGTERM cancel.

    Args:
        where: the database.
        known: the engine of another session there, which already knows the server.

    Raises:
        UsageError: a limit in the environment is not a valid duration, or the clocks are too far apart for a deadline.
        UnreachableError: no connection could be opened.
        RefusedError: the address is a pooler's, not PostgreSQL's, or the session checks no foreign keys.
        InterruptedRunError: a signal was received, or the deadline came.
    """
    limits = settings.limits()
    connection = engine.connect(where, known=known)
    driver_connection = driver(connection)
    driver_connection.notices = _Notices()
    # The connection is closed inside: that sends a last ROLLBACK.
    with interrupt.cancelling(functools.partial(engine.cancel, where, driver_connection)), _closing(connection):
        _prepare(connection, limits, first=known is None)
        try:
            yield connection
        except DBAPIError as error:
            name_holders(connection, error)
            raise


@contextlib.contextmanager
def _closing(connection: Connection) -> Iterator[None]:
    try:
        yield
    finally:
        # What is to stay was committed before: a lost connection would hide the error that ended the session.
        with contextlib.suppress(DBAPIError):
            connection.close()


def name_holders(connection: Connection, error: DBAPIError) -> None:
    """Note who holds the lock that a statement could not have, for the error's lines, unless that was told already."""
    if diagnosis.is_lock_timeout(error) and not hasattr(error, "held_by"):
        from neuraknot_db.database import other_sessions  # few runs meet another session

        connection.rollback()
        error.held_by = other_sessions.holding(connection, error.statement or "")  # type: ignore[attr-defined]
        error.untold = True  # type: ignore[attr-defined]


def demand_clocks_agree(there: float) -> None:
    """Refuse a run with a deadline if the server's clock is far off: of two that differ, one has set the deadline.

    Args:
        there: the server's time, in seconds since 1970.

    Raises:
        UsageError: it is.
    """
    here = time.time()
    if interrupt.deadline is not None and abs(here - there) > _CLOCKS_DIFFER:
        raise UsageError(
            f"It is {settings.utc(here)} on this machine and {settings.utc(there)} on the server, so nobody can say"
            f" when the deadline of {settings.utc(interrupt.deadline)} is. Nothing was changed.",
            hint="Set the clock that is off, or do without: unset NEURAKNOT_DEADLINE (launcher: --detach)",
        )


def driver(connection: Connection) -> Any:
    """Return psycopg2's connection."""
    return connection.connection.driver_connection


def restore(connection: Connection, limits: Limits) -> None:
    """Restore everything that a revision may have set, and drop what it left in the session."""
    connection.exec_driver_sql(restoring(connection, limits))


def restoring(connection: Connection, limits: Limits) -> str:
    """Return the SQL of `restore`, to send with other statements; it may stand in a transaction."""
    return f"{_RESET}; {_settings(driver(connection).server_version, limits)}"


def script(limits: Limits) -> str:
    """Return the SQL that sets up a session of any version like ours, after whatever ran in it."""
    newer = " UNION ALL ".join(
        f"SELECT set_config(name, '{value}', false) FROM pg_settings WHERE name = '{name}'"
        for named in SINCE.values()
        for name, value in named.items()
    )
    looked = f"DO $$BEGIN PERFORM * FROM ({newer} UNION ALL {_REPLICATION_ROLE.strip()}) s; END$$"
    return f"{_RESET}; {_assigned({**PARAMETERS, **limits.timeouts})}; {looked};"


def set_timeouts(connection: Connection, limits: Limits, *, local: bool) -> None:
    """Set the timeouts of the transaction, or of the session."""
    connection.exec_driver_sql(_assigned(limits.timeouts, scope="LOCAL " if local else ""))


def _settings(server_version: int, limits: Limits) -> str:
    newer = {name: value for since, named in SINCE.items() if server_version >= since for name, value in named.items()}
    again = {name: PARAMETERS[name] for name in AFTER_STARTUP}
    return f"{_assigned({**again, **newer, **limits.timeouts})}; {_REPLICATION_ROLE}"


def _assigned(parameters: Mapping[str, object], scope: str = "") -> str:
    return "; ".join(f"SET {scope}{name} = '{value}'" for name, value in parameters.items())


class _Notices(list[str]):
    """Logs the server's notices (RAISE NOTICE in a revision) at once instead of collecting them."""

    def append(self, notice: str) -> None:
        log.info("  %s", notice.strip().split("\n", 1)[0])


def _prepare(connection: Connection, limits: Limits, *, first: bool) -> None:
    driver_connection = driver(connection)
    # Saves waiting for BEGIN and COMMIT.
    driver_connection.autocommit = True
    # A pooler reports its own pid at login. Whatever is set there would reach the application.
    asked = "SELECT pg_backend_pid(), extract(epoch FROM clock_timestamp())::float8"
    pid, there = connection.exec_driver_sql(asked).one()
    if pid != driver_connection.info.backend_pid:
        raise RefusedError(login.POOLER, hint=login.POOLER_HINT)
    if first:  # later on, something may be committed
        demand_clocks_agree(there)
    try:
        connection.exec_driver_sql(_settings(driver_connection.server_version, limits))
    except ProgrammingError as error:
        if sqlstate.of(error) != sqlstate.INSUFFICIENT_PRIVILEGE:
            raise
        raise RefusedError(
            "In this session session_replication_role is not origin: no foreign key would be checked, and this user"
            " may not change that.",
            hint=resetting(connection, "session_replication_role"),
        ) from error
    connection.rollback()
    driver_connection.autocommit = False
