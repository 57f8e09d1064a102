"""Create a database, and temporary scratch databases."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import engine, interrupt, login, raw_sql, session, sqlstate
from neuraknot_db.errors import RefusedError, UnreachableError
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

_ALREADY_THERE = {sqlstate.DUPLICATE_DATABASE, sqlstate.UNIQUE_VIOLATION}
"""SQLSTATEs that both mean: another session has just created it."""

_IN_UTF8 = """
SELECT pg_encoding_to_char(encoding) = 'UTF8', extract(epoch FROM clock_timestamp())::float8
  FROM pg_database WHERE datname = 'template1'
"""
_MADE_UTF8 = " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"


def create_database(where: Settings, *, quiet: bool = False, before: Callable[[], object] = lambda: None) -> bool:
    """Create the settings' database unless it exists.

    Args:
        where: the database.
        quiet: whether to log nothing.
        before: called before it is created; if it raises, nothing is created.

    Returns:
        Whether it was created now.

    Raises:
        RefusedError: the role may not create databases.
        UnreachableError: no connection, or the login was refused.
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
    """Yield a new, empty database on the same server; drop it at the end.

    Raises:
        RefusedError: the role may not create databases.
        UnreachableError: no connection, or the login was refused.
    """
    temporary = _drawn(where)
    # A database that already exists is not ours to drop.
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
    """Whether the database accepts a login: its owner may be allowed to connect to no other."""
    try:
        engine.connect(where).close()
    except UnreachableError as error:
        # The server's message may be in any language.
        if not login.is_answer("\n".join(error.details)):
            raise
        if not _is_listed(where):
            return False
        # It was created meanwhile, or it refuses our login, which raises here.
        engine.connect(where).close()
    return True


def _is_listed(where: Settings) -> bool:
    with _maintenance(where) as connection:
        listed = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(name)s)"
        return bool(connection.exec_driver_sql(listed, {"name": where.database}).scalar_one())


def _create(where: Settings) -> bool:
    """Create the database; return False if another session was faster."""
    with _maintenance(where) as connection:
        try:
            # UTF-8 works with the locale C on any server, but perhaps not with the server's own.
            in_utf8, there = raw_sql.execute(connection, _IN_UTF8).one()
            session.demand_clocks_agree(there)
            other = "" if in_utf8 else _MADE_UTF8
            raw_sql.execute(connection, f"CREATE DATABASE {raw_sql.quoted(where.database)}{other}")
        except DBAPIError as error:
            state = sqlstate.of(error)
            if state == sqlstate.INSUFFICIENT_PRIVILEGE:
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
    """Yield an autocommit connection to another database of the server."""
    with (
        _connect_elsewhere(where) as connection,
        interrupt.cancelling(functools.partial(engine.cancel, where, session.driver(connection))),
    ):
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _connect_elsewhere(where: Settings) -> Connection:
    first, second = engine.MAINTENANCE
    try:
        return engine.connect(where, database=first)
    except UnreachableError as error:
        if not login.is_answer("\n".join(error.details)):
            raise
    return engine.connect(where, database=second)
