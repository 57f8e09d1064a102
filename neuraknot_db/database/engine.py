"""Connections: URL, TLS, keepalives, waiting for a server that is starting, and what a failed login means."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import psycopg2
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from neuraknot_db.database import diagnosis, interrupt, redaction
from neuraknot_db.database.driver import GuardedConnection
from neuraknot_db.settings import Settings

_CANCEL_TIMEOUT = 2
"""Seconds until an address that does not answer is given up, for a request that nobody can wait for."""

CONNECT_TIMEOUT = 10
"""Seconds until an address that does not answer is given up."""

STARTING_TIMEOUT = 60.0
"""Seconds to wait for a server that answers that it is starting, or coming back after a failover."""

_COMING_BACK = ("is starting up", "is in recovery mode", "is shutting down", "not yet accepting connections")

_PARAMETERS = {
    "connect_timeout": CONNECT_TIMEOUT,
    # Given, though empty: otherwise a PGSERVICE's leads to a server that no message names.
    "hostaddr": "",
    # A peer that vanished is noticed after a minute, not after the kernel's two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # Keepalives don't count while sent data is unacknowledged. In milliseconds.
    "tcp_user_timeout": 45_000,
}


# The revisions are written in it, whatever the shell, the role or the database says; RESET ALL comes back to it.
_ENCODING = {"client_encoding": "utf8"}


def create(settings: Settings, *, database: str | None = None) -> Engine:
    """An engine without a pool for the settings' database, or for another one on the same server."""
    url = URL.create(
        # SQLAlchemy 2.1 takes a bare postgresql:// for another driver.
        "postgresql+psycopg2",
        username=settings.user,
        password=settings.password,
        host=settings.host,
        port=settings.port,
        database=database or settings.database,
    )
    arguments = {**_PARAMETERS, "application_name": "neuraknot-db", **settings.options, **_ENCODING}
    arguments["connection_factory"] = GuardedConnection
    # Looking for hstore would cost a query a connection; no statement of Alembic's comes twice, or joins tables.
    spared = {"use_native_hstore": False, "query_cache_size": 0, "enable_from_linting": False}
    return create_engine(url, poolclass=NullPool, connect_args=arguments, **spared)


def connect(
    settings: Settings,
    *,
    database: str | None = None,
    known: Engine | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Connection:
    """An open connection; a server that is starting or recovering is waited for, STARTING_TIMEOUT seconds at most.

    Args:
        settings: where to.
        database: another one than theirs.
        known: an engine of these settings that has asked the server what it asks with its first connection.
        clock: seconds that never go back.
        sleep: waits for seconds.

    Raises:
        UnreachableError: there is no server, no such database, no TLS where it is demanded, or no login.
        UsageError: libpq knows no such parameter.
    """
    engine = known or create(settings, database=database)
    deadline = clock() + STARTING_TIMEOUT
    while True:
        try:
            # One that is lost must not be made anew in passing: the new one would not hold the migration lock.
            connection = interrupt.waiting_for(lambda: Connection(engine, _allow_revalidate=False))
        except DBAPIError as error:
            words = str(error.orig)
            if not any(sign in words for sign in _COMING_BACK) or clock() > deadline:
                raise diagnosis.login_error(words, settings, database=database) from error
        else:
            driver_connection: Any = connection.connection.driver_connection
            redaction.hide(driver_connection.info.password)  # which libpq may have found in a file
            return connection
        sleep(0.25)


def cancel(settings: Settings, driver_connection: Any) -> None:
    """Ask the server to cancel what runs in a session, over a connection of its own.

    psycopg2's own request keeps every other thread from running while it waits for its peer.

    Args:
        settings: where it is.
        driver_connection: the session, as psycopg2's connection.
    """
    where: dict[str, Any] = {
        **_PARAMETERS,
        **settings.options,
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.password,
        "dbname": settings.database,
        "connect_timeout": _CANCEL_TIMEOUT,
        "application_name": "neuraknot-db cancel",
    }
    try:
        beside = psycopg2.connect(**where)
    except psycopg2.OperationalError as error:
        # A server that answers, if only that it has no connection to spare, takes a request without one too.
        if diagnosis.is_answer(str(error)):
            driver_connection.cancel()
        return
    with contextlib.closing(beside), beside.cursor() as cursor:
        cursor.execute("SELECT pg_cancel_backend(%s)", (driver_connection.info.backend_pid,))
