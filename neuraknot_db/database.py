"""Create a database, and scratch ones that go again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import engine, rawsql
from neuraknot_db.console import log
from neuraknot_db.errors import RefusedError
from neuraknot_db.settings import Settings

_MAINTENANCE = "postgres"
_ALREADY_THERE = {"42P04", "23505"}
"""SQLSTATEs that both mean: somebody else has just created it."""
_NOT_ALLOWED = "42501"


def create(where: Settings, *, quiet: bool = False) -> bool:
    """Create the settings' database unless it exists.

    Returns:
        Whether it was created now.

    Raises:
        RefusedError: the role may not create databases.
        UnreachableError: there is no server, or no login.
    """
    exists = "SELECT 1 FROM pg_database WHERE datname = %(name)s"
    created = False
    with _maintenance(where) as connection:
        if connection.exec_driver_sql(exists, {"name": where.database}).scalar() is None:
            try:
                rawsql.execute(connection, f"CREATE DATABASE {rawsql.quoted(where.database)}")
                created = True
            except DBAPIError as error:
                state = getattr(error.orig, "pgcode", None)
                if state == _NOT_ALLOWED:
                    raise RefusedError(
                        f"User {where.user} may not create a database.",
                        hint=f'As an administrator: ALTER ROLE "{where.user}" CREATEDB',
                    ) from error
                if state not in _ALREADY_THERE:
                    raise
    if not quiet:
        log.info("created the database %s" if created else "the database %s exists", where.database)
    return created


@contextlib.contextmanager
def scratch(where: Settings) -> Iterator[Settings]:
    """A new, empty database on the same server, dropped in the end.

    Raises:
        RefusedError: the role may not create databases.
        UnreachableError: there is no server, or no login.
    """
    temporary = replace(where, database=f"neuraknot_scratch_{os.getpid()}")
    create(temporary, quiet=True)
    try:
        yield temporary
    finally:
        with _maintenance(where) as connection:
            rawsql.execute(connection, f"DROP DATABASE {rawsql.quoted(temporary.database)} WITH (FORCE)")


@contextlib.contextmanager
def _maintenance(where: Settings) -> Iterator[Connection]:
    """A connection to another database of the server, outside of transactions."""
    with engine.connect(where, database=_MAINTENANCE) as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")
