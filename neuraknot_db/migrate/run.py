"""A command that changes a database: lock, guards and confirmations, its steps, and the check afterwards."""

from __future__ import annotations

import contextlib
import logging
from typing import NamedTuple

from alembic.runtime.environment import EnvironmentContext
from sqlalchemy.engine import Connection

from neuraknot_db import settings
from neuraknot_db.database import diagnosis, lock, session
from neuraknot_db.database.create import create_database
from neuraknot_db.database.state import DatabaseState, joined
from neuraknot_db.errors import LockUnavailableError, MigrationFailedError
from neuraknot_db.history.log import Entry
from neuraknot_db.migrate import guards, postflight, preflight, record, retry, x_options
from neuraknot_db.migrate.apply import StepRun, Walk
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.heads import heads_after
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.preflight import Ready
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.migrate.x_options import XOptions
from neuraknot_db.revisions.options import RevisionOptions, Step, read_options, revision_of
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

VERSION_SCHEMA = "public"
"""Set explicitly: a revision that sets its search_path must not hide `alembic_version` from Alembic."""


HELD = "neuraknot_db.held"
"""The key in `Config.attributes` of the session that the caller of an Alembic command holds."""


class HeldSession(NamedTuple):
    """A session opened by the caller, who also takes the lock and checks the guards.

    Attributes:
        where: its database.
        connection: if it is in a transaction, everything runs in that one, and the caller commits.
        recorder: the recorder of the caller's run.
    """

    where: Settings
    connection: Connection
    recorder: Recorder


def greet(where: Settings, state: DatabaseState, environment: str) -> None:
    """Log which database this is."""
    log.info("%s as %s, PostgreSQL %s (%s)", where.place, where.user, state.server_version, environment)


def migrate(environment: EnvironmentContext, command: Command, where: Settings, outcome: Outcome) -> None:
    """Run a command that changes the database, with the lock and the guards.

    Args:
        environment: Alembic's environment.
        command: the command.
        where: the database.
        outcome: updated as the run goes.

    Raises:
        NeuraknotError: it was refused or interrupted, failed, or could not be verified afterwards.
    """
    asked = x_options.read(environment.config)
    if asked.create_db:
        # A database created for a target that does not exist would be left behind.
        create_database(where, before=lambda: list(map(read_options, command.resolve(()))))
    with session.open_session(where) as connection:
        greeted = False
        before: DatabaseState | None = None
        if command.may_go_back or command.is_relative:
            first = preflight.check(connection, where, environment.script, command, asked)
            before, greeted = first.found.state, _confirm(connection, first, asked)
        lock.acquire(connection, settings.limits().patience)
        found = preflight.look(connection, where)
        if before is not None:
            _demand_unmoved(before, found.state, command)
        steps = preflight.resolve(command, environment.script, found)
        ready = preflight.admit(command, environment.script, found, steps, asked)
        connection.rollback()
        if not greeted:
            greet(where, found.state, ready.environment)
        if ready.others:
            log.info("other tables stand here, and stay as they are: %s", ", ".join(ready.others))
        recorder = Recorder(where, connection)
        outcome.before = outcome.after = ready.found.state.revision
        runs = list(map(StepRun.of, ready.steps, ready.options))
        walk = Walk(runs, ready.heads, outcome, recorder, settings.limits())
        if command.steps is not None:
            outcome.aim(None if _is_emptying(ready) else joined(heads_after(ready.steps, walk.heads)))
        _take_edits(connection, ready, recorder)
        try:
            _execute(environment, connection, walk, recorder, outcome, ready)
        except MigrationFailedError as error:
            if asked.force and ready.found.state.tables and not ready.found.state.versions:
                error.hint = (
                    "If the tables are ours, find out which revision they are at, and record it: neuraknot-db adopt"
                )
            raise
        if _is_emptying(ready):
            log.info("at no revision: alembic_version was emptied")
        elif command.kind == "ensure_version":
            log.info("at %s: the table alembic_version is there", outcome.after or "no revision")
        else:
            walk.conclude()
        if walk.done:
            compare, production = runs[-1].step.is_upgrade, settings.is_production(ready.environment)
            postflight.check(recorder, environment.script, walk.heads, outcome, compare=compare, production=production)


def migrate_held(environment: EnvironmentContext, command: Command, held: HeldSession, outcome: Outcome) -> None:
    """Run it in a session whose caller has checked the guards, and in its transaction if there is one.

    Args:
        environment: Alembic's environment.
        command: the command.
        held: the session.
        outcome: updated as the run goes.

    Raises:
        NeuraknotError: it was interrupted, or failed.
        DBAPIError: within the caller's transaction, a lock timeout or a lost connection.
    """
    connection = held.connection
    in_one = connection.in_transaction()
    found = preflight.look(connection, held.where)
    outcome.after = found.state.revision
    steps = preflight.resolve(command, environment.script, found)
    runs = [StepRun.of(step, read_options(step)) for step in steps]
    walk = Walk(runs, found.state.versions, outcome, held.recorder, settings.limits())
    if not in_one:
        # Alembic would mistake the transaction of a mere query for the caller's, and commit nothing.
        connection.rollback()
        ready = Ready(command, found, held.where.environment, steps)
        _execute(environment, connection, walk, held.recorder, outcome, ready)
        walk.conclude()
        return
    try:
        _run(environment, connection, walk, command)
    except Exception as error:
        # The caller rolls back: it retries after a lock timeout, and asks what landed after a lost connection.
        explained = walk.explain(error)
        # Our own timeout would end it again: that is told, though the connection is lost.
        if diagnosis.is_lock_timeout(error) or (
            diagnosis.is_lost(error) and not isinstance(explained, MigrationFailedError)
        ):
            raise
        raise explained or error from error


def _confirm(connection: Connection, ready: Ready, asked: XOptions) -> bool:
    """In production, confirm what may go back; without the lock, which must not be held while a person thinks.

    Returns:
        Whether the database was logged.
    """
    command, found = ready.command, ready.found
    if not (command.may_go_back and settings.is_production(ready.environment)):
        return False
    greet(found.where, found.state, ready.environment)
    # A purge forgets where the database is, whatever its target.
    purged = command.purge and found.state.versions
    if purged or any(not step.is_upgrade for step in ready.steps):
        guards.confirm_downgrade(connection, found.where, _losses(ready), command=command.words, confirm=asked.confirm)
    return True


def _losses(ready: Ready) -> list[tuple[str, str, str]]:
    """Return what the downgrade will lose: the revision, the noun phrase, and the query that counts it."""
    pairs: list[tuple[Step, RevisionOptions]] = list(zip(ready.steps, ready.options, strict=True))
    return [(revision_of(step), *loss) for step, each in pairs for loss in each.losses.items()]


def _demand_unmoved(before: DatabaseState, state: DatabaseState, command: Command) -> None:
    """Raise if the database has moved since before the lock was taken."""
    if before.versions != state.versions:
        relative = command.is_relative
        raise LockUnavailableError(
            f"Another migration moved the database from {before.revision or 'no revision'} to"
            f" {state.revision or 'no revision'} while this one waited{': its target was relative' * relative}.",
            hint="Name the revision that you want.",
        )


def _take_edits(connection: Connection, ready: Ready, recorder: Recorder) -> None:
    if ready.edits:
        ready.found.history.create()
        for edit in ready.edits:
            log.warning("the edit of revision %s is taken as it is", edit.revision)
            recorder.write(connection, edit)
        connection.commit()


def _execute(
    environment: EnvironmentContext,
    connection: Connection,
    walk: Walk,
    recorder: Recorder,
    outcome: Outcome,
    ready: Ready,
) -> None:
    """Create the log and run the steps with retries, each in its own transaction."""
    command, history, emptying = ready.command, ready.found.history, _is_emptying(ready)
    nothing = command.steps is not None and not walk.steps and not emptying
    # Set the marker even if nothing runs: a log that was set aside took it along.
    unmarked = nothing and walk.heads and history.environment is None and history.allowed
    if walk.steps or emptying:
        entry = Entry(None, command.kind, before=outcome.before, after=outcome.target)
        recorder.begin(connection, history, ready.environment, entry)
    elif unmarked:
        history.mark(ready.environment)
        connection.commit()
    if nothing:
        record.tell_vanished(history, outcome.before)
        connection.rollback()
        return
    purged = Entry("base", "stamp", before=outcome.before)

    def attempt() -> None:
        # Alembic's transactions are around steps. Without any, what it does to the version table, and its row in the
        # log, need one of their own.
        with contextlib.nullcontext() if walk.steps else connection.begin():
            _run(environment, connection, walk, command)
            if emptying:
                recorder.write(connection, purged)

    try:
        retry.on_lock_timeout(
            attempt,
            connection,
            what=lambda: walk.progress,
            failed=lambda failure: None if emptying else walk.retry(failure, connection),
            lock_timeout=lambda: walk.lock_timeout,
            may_retry=lambda: walk.may_retry,
            limits=settings.limits(),
        )
    except Exception as error:
        if emptying:
            explained = recorder.explain(connection, error, purged, outcome, doing="The stamp")
        else:
            explained = walk.fail(error, connection)
        if explained is not None:
            raise explained from error
    if emptying:
        outcome.after = None


def _run(environment: EnvironmentContext, connection: Connection, walk: Walk, command: Command) -> None:
    """Let Alembic iterate over the steps."""
    environment.configure(
        connection=connection,
        transaction_per_migration=True,
        on_version_apply=walk.applied,
        version_table_schema=VERSION_SCHEMA,
        fn=environment.context_opts["fn"] if command.steps is None else walk,
    )
    with environment.begin_transaction():
        environment.run_migrations()


def _is_emptying(ready: Ready) -> bool:
    """Whether this is `stamp --purge base`, which changes the database without a step."""
    return bool(ready.command.purge and ready.found.state.versions and not ready.steps)
