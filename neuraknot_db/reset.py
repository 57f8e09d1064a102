"""Drop and recreate the schema `public` and upgrade to head, all or nothing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import (
    cascade,
    console,
    diagnosis,
    guards,
    lock,
    privileges,
    rawsql,
    retry,
    runner,
    session,
    settings,
    snapshots,
)
from neuraknot_db.console import Outcome, log
from neuraknot_db.errors import InterruptedRunError, NeuraknotError, RefusedError, TransactionEndedError
from neuraknot_db.history import Entry, History
from neuraknot_db.retry import Failure
from neuraknot_db.settings import Settings

COUNTING_TIMEOUT = "10s"
"""How long the rows of one table are counted before PostgreSQL's own estimate serves."""


def reset(config: Config, *, confirm: str | None, environment: str | None, upgrade: bool) -> None:
    """Replace everything in `public` by the schema of the newest revision, or by nothing.

    Args:
        config: Alembic's.
        confirm: the database's name; asked for on a terminal if it is None.
        environment: in production the environment's name, likewise.
        upgrade: whether to run the revisions afterwards.

    Raises:
        RefusedError: a confirmation is missing or wrong, CASCADE would reach out of `public`, or the schema's owner
            and privileges could not be restored. Nothing was changed.
        MigrationFailedError: a revision failed; the old schema and every row are still there.
    """
    script = ScriptDirectory.from_config(config)
    runner.load(script)
    outcome: Outcome = config.attributes[runner.OUTCOME]
    where = session.target()
    with session.open_session(where, exclusive=False) as connection:
        state = guards.inspect(connection)
        outcome.before = outcome.after = state.revision
        history = History(connection)
        name = guards.environment(where, history.environment)
        runner.greet(where, state, name)
        guards.refuse_read_only(state)
        _survey(connection, script)
        _tell_rows(connection, state.tables)
        together = _together(script) if upgrade else None
        connection.rollback()
        _confirm(where, name, confirm, environment)
        lock.acquire(connection, patience=settings.limits().patience)
        config.attributes[runner.HELD] = runner.Held(replace(where, environment=name), connection)
        started = time.monotonic()
        failures: list[Failure] = []

        def failed(failure: Failure) -> None:
            _record(connection, _explained(failure.error), attempt=failure.number)
            failures.append(failure)

        try:
            retry.on_lock_timeout(
                lambda: _replace(config, connection, script, target=together),
                connection,
                what=lambda: "The reset",
                failed=failed,
                limits=settings.limits(),
            )
        except Exception as error:
            outcome.after, outcome.ran = state.revision, []
            explained = _explained(error)
            _record(connection, explained, attempt=len(failures) + 1)
            raise explained from error
        if upgrade and together != script.get_current_head():
            command.upgrade(config, "head")
        outcome.before = state.revision
    log.info("the schema public was reset in %.1f s", time.monotonic() - started)


def _replace(config: Config, connection: Connection, script: ScriptDirectory, *, target: str | None) -> None:
    started = time.monotonic()
    with connection.begin():
        # Once more, now that nobody else migrates: what was told is what goes.
        properties = _survey(connection, script, quiet=True)
        if properties is not None:
            # What goes was listed already; the server's own list ends after a hundred.
            connection.exec_driver_sql("SET LOCAL client_min_messages = warning; DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("SET LOCAL client_min_messages = notice")
        privileges.create_schema(connection, properties)
        history = History(connection)
        history.create()
        history.record(Entry(None, "reset", duration_ms=round((time.monotonic() - started) * 1000)))
        if target is not None:
            command.upgrade(config, target)


def _together(script: ScriptDirectory) -> str | None:
    """The newest revision up to which all can be in one transaction; None if the very first can't be."""
    before: str | None = None
    for revision in reversed(list(script.walk_revisions())):
        if not getattr(revision.module, "transactional", True):
            log.warning(
                "revision %s can't be in a transaction: the reset is all or nothing up to %s only",
                revision.revision,
                before or "the empty schema",
            )
            return before
        before = revision.revision
    return before


def _explained(error: Exception) -> Exception:
    if isinstance(error, DBAPIError):
        explained: Exception = diagnosis.database_error(error, doing="The reset")
    else:
        explained = diagnosis.explain(error) or error
    if isinstance(explained, NeuraknotError) and not isinstance(explained, RefusedError | TransactionEndedError):
        explained.hint = "The reset was rolled back: the old schema and every row are still there."
    return explained


def _record(connection: Connection, error: Exception, *, attempt: int) -> None:
    """Record a reset that failed, as far as the connection lets one."""
    outcome = "interrupted" if isinstance(error, InterruptedRunError) else "failed"
    with contextlib.suppress(DBAPIError, RefusedError):
        connection.rollback()
        history = History(connection)
        history.create()
        history.record(Entry(None, "reset", outcome, attempt=attempt, error=str(error)))
        connection.commit()


def _survey(
    connection: Connection, script: ScriptDirectory, *, quiet: bool = False
) -> privileges.SchemaProperties | None:
    """Refuse what can't be undone or restored, and say what is not restored."""
    properties = privileges.read(connection)
    if properties is None:
        return None
    brought_back = frozenset(name for schema in snapshots.load_all(script).values() for name in schema.extensions)
    lost = cascade.casualties(connection, brought_back=brought_back)
    if lost:
        raise RefusedError(
            f"Dropping the schema public would take {len(lost)} thing{'s' * (len(lost) > 1)} outside of it.",
            hint="Move or drop them first; what depends on an extension needs it in another schema.",
            details=tuple(map(str, lost)),
        )
    if properties.granted_tables and not quiet:
        log.warning("privileges on single tables are not restored: %s", ", ".join(properties.granted_tables))
    return properties


def _tell_rows(connection: Connection, tables: tuple[str, ...]) -> None:
    counted = [(table, *_count(connection, table)) for table in tables]
    full = [(table, rows, exact) for table, rows, exact in counted if rows]
    if not full:
        log.info("no rows would go: %d tables, all empty", len(tables))
        return
    log.info("these rows would go:")
    width = max(len(table) for table, *_ in full)
    for table, rows, exact in full:
        log.info("  %-*s  %s%s", width, table, "" if exact else "about ", f"{rows:,}")


def _count(connection: Connection, table: str) -> tuple[int, bool]:
    """The rows of a table, and whether they were counted rather than estimated."""
    name = f"public.{rawsql.quoted(table)}"
    connection.rollback()
    try:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{COUNTING_TIMEOUT}'")
        return rawsql.execute(connection, f"SELECT count(*) FROM {name}").scalar_one(), True
    except DBAPIError:
        connection.rollback()
        estimate = "SELECT greatest(reltuples, 1)::bigint FROM pg_class WHERE oid = to_regclass(%(name)s)"
        return connection.exec_driver_sql(estimate, {"name": name}).scalar_one(), False
    finally:
        connection.rollback()


def _confirm(where: Settings, name: str, confirm: str | None, environment: str | None) -> None:
    if confirm is None:
        confirm = console.ask(f"Type the name of the database ({where.database}) to drop all of this: ")
    if confirm != where.database:
        given = "was not given" if confirm is None else f"is {confirm!r}, and the database is {where.database!r}"
        raise RefusedError(
            f"The confirmation {given}: nothing was dropped.",
            hint=f"neuraknot-db reset --confirm {where.database}",
        )
    if not settings.is_production(name):
        return
    if environment is None:
        environment = console.ask(f"This is production. Type the name of the environment ({name}): ")
    if environment != name:
        given = "not named" if environment is None else f"{name!r}, not {environment!r}"
        raise RefusedError(
            f"This counts as production, and the environment is {given}: nothing was dropped.",
            hint=f"neuraknot-db reset --confirm {where.database} --environment {name}"
            " (NEURAKNOT_ENV=dev where it is no production)",
        )
