"""Drop and recreate the schema `public` and upgrade to head: all or nothing."""

from __future__ import annotations

import logging
import shlex
import time
from dataclasses import replace
from itertools import takewhile

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import settings
from neuraknot_db.database import diagnosis, display, lock, raw_sql, session, sqlstate
from neuraknot_db.database.state import joined
from neuraknot_db.errors import MigrationFailedError, RefusedError
from neuraknot_db.history.log import Entry, History
from neuraknot_db.migrate import cascade, failures, postflight, preflight, privileges, retry, run
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.confirmation import Confirmation
from neuraknot_db.migrate.heads import heads_after
from neuraknot_db.migrate.outcome import OUTCOME, Outcome
from neuraknot_db.migrate.preflight import Ready
from neuraknot_db.migrate.record import Attempts, Recorder
from neuraknot_db.migrate.retry import Failure
from neuraknot_db.revisions.options import is_transactional
from neuraknot_db.schema import snapshots
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

COUNTING_TIMEOUT = "10s"
"""How long to count the rows of one table before using PostgreSQL's estimate."""

_KEPT = "The reset was rolled back: the old schema and every row are still there."

_NEEDING_COMMIT = frozenset({sqlstate.UNSAFE_NEW_ENUM_VALUE, sqlstate.OBJECT_IN_USE})
"""A new enum value is used, or a table is changed that has pending trigger events."""

# The schema's owner may drop another role's table in it, but not lock it.
_LOCKABLE = """
SELECT oid::regclass::text
  FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
   AND has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE')
 ORDER BY oid
"""


def reset(
    config: Config,
    script: ScriptDirectory,
    where: Settings,
    *,
    confirm: str | None,
    environment: str | None,
    upgrade: bool,
) -> None:
    """Replace everything in `public` with the schema of the newest revision, or with nothing.

    Args:
        config: Alembic's configuration.
        script: where the revisions are.
        where: the database.
        confirm: the database's name; None to ask on a terminal.
        environment: in production, the environment's name; None to ask on a terminal.
        upgrade: whether to run the revisions afterwards.

    Raises:
        RefusedError: a confirmation is missing or wrong, CASCADE would reach outside of `public`, or the schema's owner
            and privileges could not be restored. Nothing was changed.
        MigrationFailedError: a revision failed; the old schema and every row are still there.
    """
    asked_for = Command("reset", steps=lambda *_: script._upgrade_revs(script.get_current_head() or "base", "base"))
    if not upgrade:
        asked_for = Command("reset")
    outcome: Outcome = config.attributes[OUTCOME]
    outcome.aim(joined(heads_after(asked_for.resolve(()), ())))
    with session.open_session(where) as connection:
        # Every refusal comes before rows are counted or a name is asked for, and before any drop.
        ready = preflight.check(connection, where, script, asked_for)
        state, name, history = ready.found.state, ready.environment, ready.found.history
        outcome.before = outcome.after = state.revision
        run.greet(where, state, name)
        confirmations = _confirmations(ready, confirm, environment)
        for each in confirmations:
            each.demand_right()
        properties = _survey(connection, script)
        together = _together(script) if upgrade else None
        _tell_rows(connection, state.tables)
        if upgrade:
            _tell_owners(connection, where.user)
        connection.rollback()
        for each in confirmations:
            each.demand()
        lock.acquire(connection, settings.limits().patience)
        recorder = Recorder(where, connection)
        config.attributes[run.HELD] = run.HeldSession(replace(where, environment=name), connection, recorder)
        tries = Attempts(Entry(None, "reset", before=state.revision, after=together))
        started = tries.began
        recorder.begin(connection, history, name, Entry(None, "reset", before=state.revision, after=outcome.target))

        def failed(failure: Failure) -> None:
            point = failures.FailurePoint("The reset", landed=False, revision=state.revision, kept=_KEPT)
            recorder.write_failure(connection, tries.row("failed", str(failures.explained(failure.error, point))))
            tries.again(failure, time.monotonic() - tries.began)

        try:
            retry.on_lock_timeout(
                lambda: _replace(config, connection, script, recorder, tries, target=together),
                connection,
                what=lambda: "The reset",
                failed=failed,
                limits=settings.limits(),
            )
        except Exception as error:
            explained = recorder.explain(connection, error, tries.row(), outcome, doing="The reset", kept=_KEPT)
            if explained is None and together != outcome.target:
                point = failures.FailurePoint("The rest of the reset", landed=False, revision=outcome.after)
                explained = failures.unanswered(error, point, "The first part of the reset")
            failed_statement = error.__cause__ or error
            if isinstance(explained, MigrationFailedError | RefusedError):
                from neuraknot_db.migrate import causes  # few runs fail

                needs_commit = sqlstate.of(failed_statement) in _NEEDING_COMMIT
                advice = _apart() if needs_commit else causes.hint(connection, failed_statement)
                explained.hint = f"{_KEPT} {advice}" if advice else explained.hint
            if explained is not None:
                outcome.ran = outcome.ran if outcome.after == together else []
                raise explained from error
        outcome.after = together
        if together != outcome.target:
            command.upgrade(config, "head")
        at = outcome.after or "no revision"
        log.info("the schema public was reset in %.1f s, and is at %s", time.monotonic() - started, at)
        _tell_lost(properties, "privileges on single objects are gone; this gives them again, where the objects are:")
        heads, production = tuple(filter(None, [outcome.target])), settings.is_production(name)
        postflight.check(recorder, script, heads, outcome, compare=upgrade, production=production)


def _replace(
    config: Config,
    connection: Connection,
    script: ScriptDirectory,
    recorder: Recorder,
    tries: Attempts,
    *,
    target: str | None,
) -> None:
    tries.began = time.monotonic()
    limits = settings.limits()
    with connection.begin():
        # Again, now that we hold the lock: what was listed must be what is dropped.
        properties = _survey(connection, script, quiet=True)
        if properties is not None:
            left = _lock_tables(connection, limits.lock_timeout)
            # The objects were listed already; the server's own list ends after a hundred.
            drop = "SET LOCAL client_min_messages = warning; DROP SCHEMA public CASCADE"
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {left}; {drop}")
            connection.exec_driver_sql("SET LOCAL client_min_messages = notice")
            session.set_timeouts(connection, limits, local=True)
        privileges.create_schema(connection, properties)
        History(connection).create()
        recorder.write(connection, tries.row())
        if target is not None:
            command.upgrade(config, target)


def _lock_tables(connection: Connection, budget: int) -> int:
    """Lock every table that this role may lock, within one `lock_timeout` in all; DROP would wait that long for each.

    Args:
        connection: in the reset's transaction.
        budget: milliseconds.

    Returns:
        The remaining milliseconds, at least 1.
    """
    deadline = time.monotonic() + budget / 1000
    for table in connection.exec_driver_sql(_LOCKABLE).scalars().all():
        raw_sql.execute(connection, f"SET LOCAL lock_timeout = {_left(deadline)}; LOCK TABLE ONLY {table}")
    return _left(deadline)


def _left(deadline: float) -> int:
    return max(round(1000 * (deadline - time.monotonic())), 1)


def _apart() -> str:
    """Return how to run revisions one by one that can't share the reset's transaction."""
    if settings.origin().task_metadata_uri:
        way = "but not all or nothing: alembic downgrade base && alembic upgrade head"
    else:
        # `snapshot` in front: where a revision fails in a transaction of its own as well, nothing is dropped.
        way = (
            "tried on scratch databases first, but not all or nothing:"
            " neuraknot-db snapshot && neuraknot-db reset --no-upgrade && alembic upgrade head"
        )
    needs = "A reset runs the revisions in one transaction, and this one needs a COMMIT before it."
    return f"{needs} To run each in its own, {way}"


def sharing_transaction(script: ScriptDirectory) -> list[Script]:
    """Return the revisions that a reset runs in one transaction, oldest first: those before the first that can't be."""
    return list(takewhile(lambda each: is_transactional(each.module), reversed(list(script.walk_revisions()))))


def _together(script: ScriptDirectory) -> str | None:
    """Return the last revision up to which all share a transaction, None for none; warn if not all do."""
    revisions, sharing = list(script.walk_revisions())[::-1], sharing_transaction(script)
    last = sharing[-1].revision if sharing else None
    if len(sharing) < len(revisions):
        log.warning(
            "revision %s can't be in a transaction: the reset is all or nothing up to %s only",
            revisions[len(sharing)].revision,
            last or "the empty schema",
        )
    return last


def _survey(
    connection: Connection, script: ScriptDirectory, *, quiet: bool = False
) -> privileges.SchemaProperties | None:
    """Refuse what can't be undone or restored, and warn about what is not restored."""
    properties = privileges.read(connection)
    if properties is None:
        return None
    brought_back = frozenset(name for schema in snapshots.load_all(script).values() for name in schema.extensions)
    lost = cascade.casualties(connection, brought_back=brought_back)
    if lost:
        raise RefusedError(
            f"Dropping the schema public would take {display.counted(len(lost), 'thing')} outside of it.",
            hint="Move or drop them first; what depends on an extension needs it in another schema.",
            details=tuple(map(str, lost)),
        )
    if not quiet:
        _tell_lost(properties, "privileges on single objects would go; this gives them again, where the objects are:")
    return properties


def _tell_lost(properties: privileges.SchemaProperties | None, heading: str) -> None:
    if properties is not None and properties.lost:
        log.warning(heading)
        for statement in properties.lost:
            log.warning("  %s", statement)


def _tell_rows(connection: Connection, tables: tuple[str, ...]) -> None:
    full = {table: rows for table in tables if (rows := _count(connection, table)) != "0"}
    if not full:
        log.info("no rows would go: %s", "every table is empty" if tables else "there are no tables")
        return
    log.info("these rows would go:")
    width = max(map(len, full))
    for table, rows in full.items():
        log.info("  %-*s  %s", width, table, rows)


def _tell_owners(connection: Connection, user: str) -> None:
    """Warn about new owners. SET ROLE is no way out: that role may not be allowed to create extensions."""
    for owner, names in privileges.other_owners(connection).items():
        log.warning("these belong to %s, and what replaces them will belong to %s: %s", owner, user, ", ".join(names))
        log.warning("  where the application connects as %s, reset as that role: it has no rights to them then", owner)


def _count(connection: Connection, table: str) -> str:
    """Return the number of rows of a table, or an estimate."""
    name = f"public.{raw_sql.quoted(table)}"
    connection.rollback()
    try:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{COUNTING_TIMEOUT}'")
        return f"{raw_sql.execute(connection, f'SELECT count(*) FROM {name}').scalar_one():,}"
    except DBAPIError as error:
        if diagnosis.is_lost(error):
            raise
        connection.rollback()
        estimate = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%(name)s)"
        rows = connection.exec_driver_sql(estimate, {"name": name}).scalar() or 0
        # -1 means never analyzed, and 0 may be outdated.
        return f"about {rows:,}" if rows > 0 else "an unknown number of rows"
    finally:
        connection.rollback()


def _confirmations(ready: Ready, confirm: str | None, environment: str | None) -> tuple[Confirmation, ...]:
    """Confirm the database's name, and in production the environment's as well."""
    database, name = ready.found.where.database, ready.environment
    production, marked = settings.is_production(name), ready.found.history.environment is not None
    hint = f"neuraknot-db reset {_option('--confirm', database)}"
    if production or environment is not None:
        hint += f" {_option('--environment', name)}"
    counts = "This counts as production, and the" if production else "The"
    of_database = Confirmation(
        database,
        confirm,
        f"Type the name of the database ({database}) to drop all of this: ",
        missing="The confirmation was not given: nothing was dropped.",
        wrong=lambda typed: f"The confirmation is {typed!r}, and the database is {database!r}: nothing was dropped.",
        hint=hint,
    )
    of_environment = Confirmation(
        name,
        environment,
        f"This is production. Type the name of the environment ({name}): ",
        missing="This counts as production, and the environment is not named: nothing was dropped.",
        wrong=lambda typed: f"{counts} environment is {name!r}, not {typed!r}: nothing was dropped.",
        # A marker would contradict NEURAKNOT_ENV.
        hint=hint + " (NEURAKNOT_ENV=dev where it is no production)" * (production and not marked),
        exactly=False,
    )
    return (of_database, of_environment) if production or environment is not None else (of_database,)


def _option(name: str, value: str) -> str:
    """Return an option quoted for a shell: a value that starts with a dash would be read as another option."""
    return f"{name}{'=' if value.startswith('-') else ' '}{shlex.quote(value)}"
