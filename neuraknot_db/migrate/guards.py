"""What must not be done to a database in its present state."""

from __future__ import annotations

import logging
import shlex

from sqlalchemy.engine import Connection

from neuraknot_db import settings
from neuraknot_db.database import display, raw_sql
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import RefusedError
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)


def refuse_read_only(state: DatabaseState) -> None:
    """Refuse a replica or a read-only session.

    Raises:
        RefusedError: the server is read-only.
    """
    if state.read_only:
        raise RefusedError("This session is read-only: nothing can be changed in it.", hint=state.read_only)


def admit_changes(state: DatabaseState) -> None:
    """Refuse what would fail half-way.

    Raises:
        RefusedError: the server is read-only, schema `public` does not exist, or the role may not create in it.
    """
    refuse_read_only(state)
    if not state.has_schema:
        raise RefusedError("The database has no schema public.", hint="Create it: neuraknot-db reset")
    if not (state.may_create or state.versions):  # what needs no CREATE may be all that is left to run
        raise RefusedError(
            f"User {state.role} may not create anything in the schema public.",
            hint=f"As the owner of the database: GRANT CREATE ON SCHEMA public TO {raw_sql.quoted(state.role)}",
        )
    if state.lacking:
        raise RefusedError(
            f"User {state.role} may not write the table public.alembic_version.", hint=f"As its owner: {state.lacking}"
        )


def admit_upgrade(state: DatabaseState, *, own_tables: frozenset[str]) -> tuple[str, ...]:
    """Refuse to run the first revision over tables that it did not create.

    Args:
        state: the database, without a recorded revision.
        own_tables: the names of the revisions' tables.

    Returns:
        The tables that are not ours, which do not conflict.

    Raises:
        RefusedError: some of our tables already exist.
    """
    ours = [name for name in state.tables if name in own_tables]
    if ours:
        raise RefusedError(
            f"No migration has run here, but there are tables already: {', '.join(ours)}. Nothing was changed.",
            hint="Find out which revision they are at, and record it: neuraknot-db adopt",
        )
    return tuple(name for name in state.tables if name not in own_tables)


def environment(where: Settings, marker: str | None) -> str:
    """Return the environment's name: NEURAKNOT_ENV, the database's marker, or the default.

    Raises:
        RefusedError: the two differ, and one of them is production.
    """
    if marker is None:
        return where.environment
    if not where.environment_named or marker.casefold() == where.environment.casefold():
        return marker
    if settings.is_production(marker) or settings.is_production(where.environment):
        raise RefusedError(
            f"The database is marked as {marker}, and NEURAKNOT_ENV says {where.environment}: nothing was changed.",
            hint=f"Is it the right database? Then NEURAKNOT_ENV={shlex.quote(marker)}"
            # Nothing proposes to take the guards of production away.
            + f", or: neuraknot-db mark {shlex.quote(where.environment)}" * settings.is_production(where.environment),
        )
    return where.environment


def confirming(database: str, command: str) -> str:
    """Return the command line that confirms a downgrade or a stamp."""
    return f"alembic -x {shlex.quote(f'confirm={database}')} {command}"


def confirm_downgrade(
    connection: Connection,
    where: Settings,
    losses: list[tuple[str, str, str]],
    *,
    command: str,
    confirm: str | None,
) -> None:
    """In production, log what the downgrade will lose, and have the database's name typed again.

    Args:
        connection: not in a transaction.
        where: the database.
        losses: the revision, the noun phrase and the query of each loss.
        command: the command line, such as `downgrade -1` or `stamp --purge 001`.
        confirm: the name; None to ask on a terminal.

    Raises:
        RefusedError: the name is missing or wrong.
    """
    from neuraknot_db.migrate import conditions  # few runs go back in production
    from neuraknot_db.migrate.confirmation import Confirmation

    for revision, what, query in losses:
        # Not known: it was written for the schema right after its revision, and a later one may have changed that.
        count, _ = conditions.answer(connection, conditions.read, query)
        connection.rollback()
        if count != 0:
            log.warning("going back from %s will lose: %s %s", revision, display.number(count), what)
    verb = command.split(" ", 1)[0]
    Confirmation(
        where.database,
        confirm,
        f"This is production. Type the name of the database ({where.database}) to"
        f" {'go back' if verb == 'downgrade' else verb}: ",
        missing=f"The confirmation of the {verb} was not given: nothing was changed.",
        wrong=lambda typed: (
            f"The confirmation of the {verb} is {typed!r}, and the database is {where.database!r}: nothing was changed."
        ),
        hint=confirming(where.database, command),
    ).demand()
