"""Create a database, and scratch ones that go again."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis, engine, raw_sql
from neuraknot_db.errors import RefusedError, UnreachableError
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

_MAINTENANCE = ("postgres", "template1")
"""Databases that nearly every server has, to create another one from."""
_ALREADY_THERE = {"42P04", "23505"}
"""SQLSTATEs that both mean: somebody else has just created it."""
_NOT_ALLOWED = "42501"

_IN_UTF8 = "SELECT pg_encoding_to_char(encoding) = 'UTF8' FROM pg_database WHERE datname = 'template1'"
_MADE_UTF8 = " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"


def create_database(where: Settings, *, quiet: bool = False, before: Callable[[], object] = lambda: None) -> bool:
    """Create the settings' database unless it exists.

    Args:
        where: the database.
        quiet: whether to say nothing of it.
        before: called before it is created; what it raises keeps it from being.

    Returns:
        Whether it was created now.

    Raises:
        RefusedError: the role may not create databases.
        UnreachableError: there is no server, or no login.
    """
    created = False
    if not _exists(where):
        before()
        created = _create(where)
    if not quiet:
        log.info("created the database %s" if created else "the database %s exists", where.database)
    return created


@contextlib.contextmanager
def scratch_database(where: Settings) -> Iterator[Settings]:
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
            raw_sql.execute(connection, f"DROP DATABASE {raw_sql.quoted(temporary.database)} WITH (FORCE)")


def _drawn(where: Settings) -> Settings:
    return replace(where, database=f"neuraknot_scratch_{os.urandom(4).hex()}")


def _exists(where: Settings) -> bool:
    """Whether the database takes a login: a role that owns it may perhaps connect to no other."""
    try:
        engine.connect(where).close()
    except UnreachableError as error:
        # The server may say so in any language.
        if not diagnosis.is_answer("\n".join(error.details)):
            raise
        if not _is_listed(where):
            return False
        # Somebody has created it in between, or it takes no login of ours, as is said then.
        engine.connect(where).close()
    return True


def _is_listed(where: Settings) -> bool:
    with _maintenance(where) as connection:
        listed = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(name)s)"
        return bool(connection.exec_driver_sql(listed, {"name": where.database}).scalar_one())


def _create(where: Settings) -> bool:
    """Create the database; False if somebody else was faster."""
    with _maintenance(where) as connection:
        try:
            # UTF-8 goes with the locale C on any server, and with its own perhaps not.
            other = "" if raw_sql.execute(connection, _IN_UTF8).scalar_one() else _MADE_UTF8
            raw_sql.execute(connection, f"CREATE DATABASE {raw_sql.quoted(where.database)}{other}")
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
        if not diagnosis.is_answer("\n".join(error.details)):
            raise
    return engine.connect(where, database=second)
