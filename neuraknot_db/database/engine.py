"""Connections: URL, TLS, keepalives, waiting for a starting server, and what a failed login means."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import psycopg2
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from neuraknot_db.database import interrupt, login, parameters, redaction
from neuraknot_db.database.driver import GuardedConnection
from neuraknot_db.settings import Settings

MAINTENANCE = ("postgres", "template1")
"""Databases that nearly every server has."""

_BESIDE_TIMEOUT = 2
"""Seconds to wait for an address that does not answer, for what nobody can wait for."""

CONNECT_TIMEOUT = 10
"""Seconds to wait for an address that does not answer."""

STARTING_TIMEOUT = 60.0
"""Seconds to wait for a server that reports that it is starting, or recovering after a failover."""

_COMING_BACK = ("is starting up", "is in recovery mode", "is shutting down", "not yet accepting connections")

_PARAMETERS = {
    "connect_timeout": CONNECT_TIMEOUT,
    # Set, though empty: otherwise one from a PGSERVICE leads to a server that no message names.
    "hostaddr": "",
    # A vanished peer is noticed after a minute instead of the kernel's two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # Keepalives don't count while sent data is unacknowledged. In milliseconds.
    "tcp_user_timeout": 45_000,
}


# The revisions' encoding, set whatever the shell, the role or the database says; RESET ALL returns to it.
_ENCODING = {"client_encoding": "utf8"}


def create(settings: Settings, *, database: str | None = None) -> Engine:
    """Create an engine without a pool for the settings' database, or another one on the same server."""
    url = URL.create(
        # SQLAlchemy 2.1 maps a bare postgresql:// to another driver.
        "postgresql+psycopg2",
        username=settings.user,
        password=settings.password,
        host=settings.host,
        port=settings.port,
        database=database or settings.database,
    )
    arguments = {**_PARAMETERS, "application_name": "neuraknot-db", **settings.options, **_ENCODING}
    arguments["options"] = parameters.startup(settings.options.get("options", ""))
    arguments["connection_factory"] = GuardedConnection
    # Detecting hstore costs a query per connection; none of Alembic's statements repeats, or joins tables.
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
    """Open a connection; wait up to STARTING_TIMEOUT seconds for a server that is starting or recovering.

    Args:
        settings: the database.
        database: another database on the same server.
        known: an engine of these settings that has already connected, and so knows the server.
        clock: monotonic seconds.
        sleep: waits for seconds.

    Raises:
        UnreachableError: no server, no such database, no TLS where it is required, or the login failed.
        UsageError: a parameter is unknown to libpq.
    """
    engine = known or create(settings, database=database)
    deadline = clock() + STARTING_TIMEOUT
    while True:
        try:
            # Never reconnect silently after a lost connection: the new one would not hold the migration lock.
            connection = interrupt.waiting_for(lambda: Connection(engine, _allow_revalidate=False))
        except DBAPIError as error:
            words = str(error.orig)
            if not any(sign in words for sign in _COMING_BACK) or clock() > deadline:
                named = functools.partial(_databases, settings)
                raise login.explained(words, settings, database=database, databases=named) from error
        else:
            driver_connection: Any = connection.connection.driver_connection
            redaction.hide(driver_connection.info.password)  # libpq may have read it from a file
            return connection
        sleep(0.25)


def _databases(settings: Settings) -> list[str]:
    """Return the server's databases; none if that can't be asked."""
    try:
        beside = _beside(settings, database=MAINTENANCE[0])
    except psycopg2.Error:
        return []
    with contextlib.closing(beside), beside.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate")
        return [name for (name,) in cursor]


def cancel(settings: Settings, driver_connection: Any) -> None:
    """Ask the server, over a separate connection, to cancel what a session runs.

    psycopg2's own cancel request blocks every other thread while it waits for its peer.

    Args:
        settings: the session's database.
        driver_connection: the session, as a psycopg2 connection.
    """
    try:
        beside = _beside(settings, application_name="neuraknot-db cancel")
    except psycopg2.OperationalError as error:
        # A server that answers, even if only that it is out of connections, also takes a cancel request without one.
        if login.is_answer(str(error)):
            driver_connection.cancel()
        return
    with contextlib.closing(beside), beside.cursor() as cursor:
        cursor.execute("SELECT pg_cancel_backend(%s)", (driver_connection.info.backend_pid,))


def _beside(settings: Settings, *, database: str | None = None, application_name: str = "neuraknot-db") -> Any:
    """Open a connection that a person waits for, or a run that ends."""
    where: dict[str, Any] = {
        **_PARAMETERS,
        **settings.options,
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.password,
        "dbname": database or settings.database,
        "connect_timeout": _BESIDE_TIMEOUT,
        "application_name": application_name,
    }
    return psycopg2.connect(**where)
