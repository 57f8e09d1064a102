"""A session in which a migration does its work: its parameters, its timeouts, its signals."""

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

# Set outright: a role's or a database's own timeouts kill migrations, and a search_path of theirs hides tables.
_PARAMETERS = {
    "search_path": "public",
    "idle_in_transaction_session_timeout": "5min",
    # The session is idle, and must live, while it waits for the next try.
    "idle_session_timeout": "0",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "client_min_messages": "notice",
    # The backend of a killed client ends its statement within a second.
    "client_connection_check_interval": "1s",
    # One whose machine has vanished loses its session, and with it the lock, after a minute.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "45s",
    "DateStyle": "ISO",
    # With it, definitions are spelled otherwise than in the snapshots.
    "quote_all_identifiers": "off",
}
_SINCE_17 = {"transaction_timeout": "0"}


@contextlib.contextmanager
def open_session(where: Settings, known: Engine | None = None) -> Iterator[Connection]:
    """A connection with this project's timeouts, whose statement SIGINT and SIGTERM cancel.

    Args:
        where: the database.
        known: the engine of another session there, which need not ask the server again what it is.

    Raises:
        UsageError: a limit in the environment is no duration.
        UnreachableError: no connection could be had.
        RefusedError: it leads to a pooler, not to PostgreSQL itself.
        InterruptedRunError: SIGINT or SIGTERM came.
    """
    limits = settings.limits()
    connection = engine.connect(where, known=known)
    driver_connection = driver(connection)
    driver_connection.notices = _Notices()
    # The connection is closed within it: that asks the server for a last ROLLBACK.
    with interrupt.cancelling(functools.partial(engine.cancel, where, driver_connection)), connection:
        _prepare(connection, limits)
        yield connection


def driver(connection: Connection) -> Any:
    """psycopg2's own connection."""
    return connection.connection.driver_connection


def restore(connection: Connection, limits: Limits) -> None:
    """Set everything anew that a revision may have set, in its transaction."""
    # Who one is is not among ALL.
    reset = "RESET ALL; RESET SESSION AUTHORIZATION; RESET ROLE"
    connection.exec_driver_sql(f"{reset}; {_parameters(connection)}; {_timeouts(limits)}")


def set_timeouts(connection: Connection, limits: Limits, *, local: bool) -> None:
    """Set the timeouts of the transaction, or of the session."""
    connection.exec_driver_sql(_timeouts(limits, scope="LOCAL " if local else ""))


def _timeouts(limits: Limits, *, scope: str = "") -> str:
    return f"SET {scope}lock_timeout = {limits.lock_timeout}; SET {scope}statement_timeout = {limits.statement_timeout}"


class _Notices(list[str]):
    """What the server says in passing (RAISE NOTICE in a revision) is told at once, not collected."""

    def append(self, notice: str) -> None:
        log.info("  %s", notice.strip().split("\n", 1)[0])


def _parameters(connection: Connection) -> str:
    parameters = {**_PARAMETERS, **(_SINCE_17 if driver(connection).server_version >= 17_00_00 else {})}
    return "; ".join(f"SET {name} = '{value}'" for name, value in parameters.items())


def _prepare(connection: Connection, limits: Limits) -> None:
    driver_connection = driver(connection)
    # Neither BEGIN nor COMMIT to wait for.
    driver_connection.autocommit = True
    # A pooler hands out a process number of its own when one logs in. What is set there the application would get.
    if connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != driver_connection.info.backend_pid:
        raise RefusedError(
            "The address leads to a pooler (PgBouncer, RDS Proxy), where the migration's lock would belong to no one.",
            hint="Let DATABASE_URL or DB_HOST name PostgreSQL itself, on RDS the instance's endpoint.",
        )
    connection.exec_driver_sql(f"{_parameters(connection)}; {_timeouts(limits)}")
    connection.rollback()
    driver_connection.autocommit = False
