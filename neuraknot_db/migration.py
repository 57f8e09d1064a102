"""A command that changes a database: the lock, guards and questions around its steps, and the check afterwards."""

from __future__ import annotations

import contextlib
import re
import shlex
from dataclasses import dataclass

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db import (
    afterwards,
    checksums,
    database,
    declared,
    diagnosis,
    guards,
    lock,
    rawsql,  # noqa: F401 - importing it is what makes Alembic use it
    retry,
    revisions,
    session,
    settings,
    xoptions,
)
from neuraknot_db.console import Outcome, log
from neuraknot_db.declared import Step
from neuraknot_db.errors import LockUnavailableError, MigrationFailedError
from neuraknot_db.guards import DatabaseState
from neuraknot_db.history import Entry, History
from neuraknot_db.record import Recorder
from neuraknot_db.settings import Settings
from neuraknot_db.steps import Walk, heads_after, joined
from neuraknot_db.xoptions import XOptions

VERSION_SCHEMA = "public"
"""Named, so that a revision that sets its search_path does not hide `alembic_version` from Alembic."""

_RELATIVE = re.compile(r"[+-]\d+")


@dataclass(frozen=True)
class Held:
    """A session that the caller has opened, with the lock and the guards being the caller's.

    Attributes:
        where: its database.
        connection: if it is in a transaction, everything runs in that one, and the caller commits.
        recorder: of the caller's run.
    """

    where: Settings
    connection: Connection
    recorder: Recorder


def greet(where: Settings, state: DatabaseState, environment: str) -> None:
    """Say which database this is."""
    log.info("%s as %s, PostgreSQL %s (%s)", where.place, where.user, state.server_version, environment)


def migrate(environment: EnvironmentContext, outcome: Outcome) -> None:
    """Run a command that changes the database, with the lock and the guards around it.

    Args:
        environment: Alembic's, with the command's function and target.
        outcome: filled in as the run goes.

    Raises:
        NeuraknotError: it was refused or interrupted, failed, or could not be confirmed afterwards.
    """
    asked = xoptions.read(environment.config)
    where = session.target()
    if asked.create_db:
        # A database that is made for a target that there is not would be left behind.
        database.create(where, before=lambda: list(map(declared.of, _steps(environment, ()))))
    with session.open_session(where, exclusive=False) as connection:
        going_back = environment.context_opts["fn"].__name__ in {"downgrade", "do_stamp"}
        relative = bool(_RELATIVE.fullmatch(_target(environment)))
        before = guards.inspect(connection) if going_back or relative else None
        asked_first = before is not None and going_back and _confirm(environment, where, connection, before, asked)
        state = _locked(connection, before, relative=relative)
        history = History(connection)
        connection.rollback()
        name = guards.environment(where, history.environment)
        if not asked_first:
            greet(where, state, name)
        guards.admit_changes(state, role=where.user)
        recorder = Recorder(where, connection)
        outcome.before = state.revision
        walk = _plan(environment, connection, recorder, outcome, state, force=asked.force)
        emptying = _is_emptying(environment, state, walk)
        if "destination_rev" in environment.context_opts:
            outcome.aim(None if emptying else joined(heads_after(walk.steps, walk.heads)))
        if edits := _edits(environment, history, state, asked):
            connection.rollback()
            history.create()
            for edit in edits:
                log.warning("the edit of revision %s is taken as it is", edit.revision)
                recorder.write(connection, edit)
            connection.commit()
        try:
            _execute(environment, connection, walk, recorder, outcome, history, name, emptying=emptying)
        except MigrationFailedError as error:
            if asked.force and state.tables and not state.versions:
                error.hint = "Where these tables are ours already, let them be recognised: neuraknot-db adopt"
            raise
        if emptying:
            log.info("at no revision: alembic_version was emptied")
        else:
            walk.conclude()
        if walk.done:
            compare, production = walk.steps[-1].is_upgrade, settings.is_production(name)
            afterwards.check(recorder, environment.script, walk.heads, outcome, compare=compare, production=production)


def migrate_held(environment: EnvironmentContext, held: Held, outcome: Outcome) -> None:
    """Run it within a session whose caller has asked the guards: in its transaction, if it has begun one.

    Args:
        environment: Alembic's, with the command's function and target.
        held: the session.
        outcome: filled in as the run goes.

    Raises:
        NeuraknotError: it was interrupted, or failed.
        DBAPIError: within the caller's transaction, a lock could not be had in time, or the connection was lost.
    """
    connection = held.connection
    in_one = connection.in_transaction()
    state = guards.inspect(connection)
    if not in_one:
        # Alembic would take the transaction of a mere look for the caller's own, and commit nothing.
        connection.rollback()
        # What the revisions of the first part may have set.
        session.restore(connection, settings.limits())
        connection.commit()
    walk = _plan(environment, connection, held.recorder, outcome, state)
    if not in_one:
        history = History(connection)
        connection.rollback()
        _execute(environment, connection, walk, held.recorder, outcome, history, held.where.environment)
        walk.conclude()
        return
    try:
        _run(environment, connection, walk)
    except Exception as error:
        # The caller rolls back: it tries again where it was a lock, and asks what landed where nobody answered.
        if retry.is_lock_timeout(error) or diagnosis.is_lost(error):
            raise
        raise walk.explain(error) or error from error


def _confirm(
    environment: EnvironmentContext, where: Settings, connection: Connection, state: DatabaseState, asked: XOptions
) -> bool:
    """Ask before a downgrade in production, without the lock, which nobody may hold while a person thinks."""
    history = History(connection)
    connection.rollback()
    name = guards.environment(where, history.environment)
    if not settings.is_production(name):
        return False
    greet(where, state, name)
    guards.admit_changes(state, role=where.user)
    walk = _plan(environment, connection, Recorder(where, connection), Outcome("downgrade"), state)
    # Nobody is asked about what will be refused.
    history.demand_allowed()
    _edits(environment, history, state, asked)
    connection.rollback()
    # A purge forgets where the database is, whatever it says instead.
    purged = environment.context_opts.get("purge") and state.versions
    if purged or any(not step.is_upgrade for step in walk.steps):
        guards.confirm_downgrade(
            connection, where, walk.losses(), command=_command_line(environment), confirm=asked.confirm
        )
    return True


def _locked(connection: Connection, before: DatabaseState | None, *, relative: bool) -> DatabaseState:
    """The state of the database once the lock is held: what it was before, where that matters."""
    connection.rollback()
    lock.acquire(connection, patience=settings.limits().patience)
    state = guards.inspect(connection)
    if before is not None and before.versions != state.versions:
        raise LockUnavailableError(
            f"Another migration moved the database from {before.revision or 'no revision'} to"
            f" {state.revision or 'no revision'} while this one waited{': its target was relative' * relative}.",
            hint="Name the revision that you want.",
        )
    return state


def _steps(environment: EnvironmentContext, heads: tuple[str, ...]) -> list[Step]:
    options = environment.context_opts
    return list(options["fn"](heads, None)) if "destination_rev" in options else []


def _plan(
    environment: EnvironmentContext,
    connection: Connection,
    recorder: Recorder,
    outcome: Outcome,
    state: DatabaseState,
    *,
    force: bool = False,
) -> Walk:
    """The steps, resolved once, before anything runs: a bad target changes nothing, and a relative one can't move."""
    purge = environment.context_opts.get("purge", False)
    outcome.after = state.revision
    if not purge:
        revisions.demand_known(environment.script, state)
    heads = () if purge else state.versions
    steps = _steps(environment, heads)
    if not state.versions and any(isinstance(step, RevisionStep) and step.is_upgrade for step in steps):
        _admit_upgrade(environment.script, state, force=force)
    return Walk(steps, heads, outcome, recorder, settings.limits())


def _edits(environment: EnvironmentContext, history: History, state: DatabaseState, asked: XOptions) -> list[Entry]:
    """The edits of applied revisions that are taken; any other is refused. A stamp runs nothing, and minds none."""
    if environment.context_opts["fn"].__name__ == "do_stamp":
        return []
    return checksums.demand_unedited(environment.script, history, state.versions, accepted=asked.accept_edit)


def _execute(
    environment: EnvironmentContext,
    connection: Connection,
    walk: Walk,
    recorder: Recorder,
    outcome: Outcome,
    history: History,
    name: str,
    *,
    emptying: bool = False,
) -> None:
    """Make the log, and run the steps with the retries around them, each in a transaction of its own."""
    options = environment.context_opts
    nothing = not walk.steps and "destination_rev" in options and not options.get("purge")
    # The marker also where nothing is to be run: a log that was set aside has taken it along.
    unmarked = nothing and walk.heads and history.environment is None and history.allowed
    if walk.steps or emptying or unmarked:
        history.create()
        if history.environment is None:
            history.mark(name)
        connection.commit()
    if nothing:
        return
    purged = Entry("base", "stamp", before=outcome.before)

    def attempt() -> None:
        # Alembic empties the table in a transaction of its own, unless it finds itself in one: it is recorded in it.
        with connection.begin() if emptying else contextlib.nullcontext():
            _run(environment, connection, walk)
            if emptying:
                recorder.write(connection, purged)

    try:
        retry.on_lock_timeout(
            attempt,
            connection,
            what=lambda: walk.doing,
            failed=lambda failure: None if emptying else walk.retry(failure, connection),
            lock_timeout=lambda: walk.lock_timeout,
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


def _run(environment: EnvironmentContext, connection: Connection, walk: Walk) -> None:
    """Let Alembic iterate over the steps."""
    options = environment.context_opts
    environment.configure(
        connection=connection,
        transaction_per_migration=True,
        on_version_apply=walk.applied,
        version_table_schema=VERSION_SCHEMA,
        fn=walk if "destination_rev" in options else options["fn"],
    )
    with environment.begin_transaction():
        environment.run_migrations()


def _is_emptying(environment: EnvironmentContext, state: DatabaseState, walk: Walk) -> bool:
    """Whether this is `stamp --purge base`, which changes the database without a step."""
    return bool(environment.context_opts.get("purge") and state.versions and not walk.steps)


def _admit_upgrade(script: ScriptDirectory, state: DatabaseState, *, force: bool) -> None:
    if not state.tables or force:
        return
    # Only a database without a revision and with tables needs the snapshots, which take a while to import.
    from neuraknot_db import snapshots

    others = guards.admit_upgrade(state, own_tables=snapshots.table_names(script))
    if others:
        log.info("other tables stand here, and stay as they are: %s", ", ".join(others))


def _command_line(environment: EnvironmentContext) -> str:
    """The downgrade or stamp that runs, as a person would type it."""
    options = environment.context_opts
    target = options["destination_rev"]
    words = [target] if isinstance(target, str) else list(target)
    if options["fn"].__name__ == "do_stamp":
        words = ["stamp", *["--purge"] * bool(options.get("purge")), *words]
    else:
        words = ["downgrade", *words]
    return shlex.join(words)


def _target(environment: EnvironmentContext) -> str:
    target = environment.context_opts.get("destination_rev", "")
    return target if isinstance(target, str) else ""
