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
from neuraknot_db.errors import RefusedError, UnreachableError
from neuraknot_db.settings import Settings

_MAINTENANCE = ("postgres", "template1")
"""Databases that nearly every server has, to create another one from."""
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
    created = not _exists(where) and _create(where)
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
    temporary = _drawn(where)
    # One that stands there already is somebody's, and not to be dropped.
    while not _create(temporary):
        temporary = _drawn(where)
    try:
        yield temporary
    finally:
        with _maintenance(where) as connection:
            rawsql.execute(connection, f"DROP DATABASE {rawsql.quoted(temporary.database)} WITH (FORCE)")


def _drawn(where: Settings) -> Settings:
    return replace(where, database=f"neuraknot_scratch_{os.urandom(4).hex()}")


def _exists(where: Settings) -> bool:
    """Whether the database takes a login: a role that owns it may perhaps connect to no other."""
    try:
        engine.connect(where).close()
    except UnreachableError as error:
        if not _says(error, f'database "{where.database}" does not exist'):
            raise
        return False
    return True


def _create(where: Settings) -> bool:
    """Create the database; False if somebody else was faster."""
    with _maintenance(where) as connection:
        try:
            rawsql.execute(connection, f"CREATE DATABASE {rawsql.quoted(where.database)}")
        except DBAPIError as error:
            state = getattr(error.orig, "pgcode", None)
            if state == _NOT_ALLOWED:
                raise RefusedError(
                    f"User {where.user} may not create a database.",
                    hint=f'As an administrator: ALTER ROLE "{where.user}" CREATEDB',
                ) from error
            if state not in _ALREADY_THERE:
                raise
            return False
    return True


@contextlib.contextmanager
def _maintenance(where: Settings) -> Iterator[Connection]:
    """A connection to another database of the server, outside of transactions."""
    with _connect_elsewhere(where) as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _connect_elsewhere(where: Settings) -> Connection:
    first, second = _MAINTENANCE
    try:
        return engine.connect(where, database=first)
    except UnreachableError as error:
        if not _says(error, f'database "{first}" does not exist', f'permission denied for database "{first}"'):
            raise
    return engine.connect(where, database=second)


def _says(error: UnreachableError, *words: str) -> bool:
    """Whether the server's answer to a login holds any of these words: it gives no code."""
    return any(each in line for each in words for line in error.details)
