"""The session that a migration runs in: its parameters, timeouts and signals."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

from sqlalchemy.engine import Connection, Engine

from neuraknot_db import settings
from neuraknot_db.database import engine, interrupt
from neuraknot_db.errors import RefusedError
from neuraknot_db.settings import Limits, Settings

log = logging.getLogger(__name__)

# Always set: a role's or database's own timeouts kill migrations, and its search_path hides tables.
_PARAMETERS = {
    "search_path": "public",
    "idle_in_transaction_session_timeout": "5min",
    # The session is idle, and must survive, between attempts.
    "idle_session_timeout": "0",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "client_min_messages": "notice",
    # The backend of a killed client ends its statement within a second.
    "client_connection_check_interval": "1s",
    # A client whose machine vanished loses its session, and with it the lock, after a minute.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "45s",
    "DateStyle": "ISO",
    # If on, definitions would be spelled differently from the snapshots.
    "quote_all_identifiers": "off",
}
_SINCE_17 = {"transaction_timeout": "0"}


@contextlib.contextmanager
def open_session(where: Settings, known: Engine | None = None) -> Iterator[Connection]:
    """Open a connection with this project's timeouts, whose statement SIGINT and SIGTERM cancel.

    Args:
        where: the database.
        known: the engine of another session there, which already knows the server.

    Raises:
        UsageError: a limit in the environment is not a valid duration.
        UnreachableError: no connection could be opened.
        RefusedError: the address is a pooler's, not PostgreSQL's.
        InterruptedRunError: SIGINT or SIGTERM was received.
    """
    limits = settings.limits()
    connection = engine.connect(where, known=known)
    driver_connection = driver(connection)
    driver_connection.notices = _Notices()
    # The connection is closed inside: that sends a last ROLLBACK.
    with interrupt.cancelling(functools.partial(engine.cancel, where, driver_connection)), connection:
        _prepare(connection, limits)
        yield connection


def driver(connection: Connection) -> Any:
    """Return psycopg2's connection."""
    return connection.connection.driver_connection


def restore(connection: Connection, limits: Limits) -> None:
    """Restore everything that a revision may have set, in its transaction."""
    # The role is not part of ALL.
    reset = "RESET ALL; RESET SESSION AUTHORIZATION; RESET ROLE"
    connection.exec_driver_sql(f"{reset}; {_parameters(connection)}; {_timeouts(limits)}")


def set_timeouts(connection: Connection, limits: Limits, *, local: bool) -> None:
    """Set the timeouts of the transaction, or of the session."""
    connection.exec_driver_sql(_timeouts(limits, scope="LOCAL " if local else ""))


def _timeouts(limits: Limits, *, scope: str = "") -> str:
    return f"SET {scope}lock_timeout = {limits.lock_timeout}; SET {scope}statement_timeout = {limits.statement_timeout}"


class _Notices(list[str]):
    """Logs the server's notices (RAISE NOTICE in a revision) at once instead of collecting them."""

    def append(self, notice: str) -> None:
        log.info("  %s", notice.strip().split("\n", 1)[0])


def _parameters(connection: Connection) -> str:
    parameters = {**_PARAMETERS, **(_SINCE_17 if driver(connection).server_version >= 17_00_00 else {})}
    return "; ".join(f"SET {name} = '{value}'" for name, value in parameters.items())


def _prepare(connection: Connection, limits: Limits) -> None:
    driver_connection = driver(connection)
    # Saves waiting for BEGIN and COMMIT.
    driver_connection.autocommit = True
    # A pooler reports its own pid at login. Whatever is set there would reach the application.
    if connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != driver_connection.info.backend_pid:
        raise RefusedError(
            "The address leads to a pooler (PgBouncer, RDS Proxy), where the migration's lock would belong to no one.",
            hint="Let DATABASE_URL or DB_HOST name PostgreSQL itself, on RDS the instance's endpoint.",
        )
    connection.exec_driver_sql(f"{_parameters(connection)}; {_timeouts(limits)}")
    connection.rollback()
    driver_connection.autocommit = False
