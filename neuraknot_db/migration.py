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
from neuraknot_db.errors import LockUnavailableError, MigrationFailedError
from neuraknot_db.guards import DatabaseState
from neuraknot_db.history import Entry, History
from neuraknot_db.settings import Settings
from neuraknot_db.steps import Walk
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
    """

    where: Settings
    connection: Connection


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
        database.create(where)
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
        walk = _plan(environment, Held(where, connection), outcome, state, history, force=asked.force)
        if environment.context_opts["fn"].__name__ != "do_stamp":
            edits = checksums.demand_unedited(environment.script, history, state.versions, accepted=asked.accept_edit)
            connection.rollback()
            for edit in edits:
                log.warning("the edit of revision %s is taken as it is", edit.revision)
                history.record(edit)
            connection.commit()
        try:
            emptying = _is_emptying(environment, state, walk)
            _execute(environment, connection, walk, history, name, in_one=False, emptying=emptying)
        except MigrationFailedError as error:
            if asked.force and state.tables and not state.versions:
                error.hint = "Where these tables are ours already, let them be recognised: neuraknot-db adopt"
            raise
        if emptying:
            outcome.after = guards.inspect(connection).revision
            log.info("at %s: alembic_version was emptied", outcome.after or "no revision")
        else:
            walk.conclude()
        if walk.done:
            beside = session.another(where, connection.engine)
            afterwards.check(beside, environment.script, walk, production=settings.is_production(name))


def migrate_held(environment: EnvironmentContext, held: Held, outcome: Outcome) -> None:
    """Run it within a session whose caller has asked the guards: in its transaction, if it has begun one.

    Args:
        environment: Alembic's, with the command's function and target.
        held: the session.
        outcome: filled in as the run goes.

    Raises:
        NeuraknotError: it was interrupted, or failed.
        DBAPIError: a lock could not be had in time, within the caller's transaction.
    """
    in_one = held.connection.in_transaction()
    state = guards.inspect(held.connection)
    history = History(held.connection)
    if not in_one:
        # Alembic would take the transaction of a mere look for the caller's own, and commit nothing.
        held.connection.rollback()
        # What the revisions of the first part may have set.
        session.restore(held.connection, settings.limits())
        held.connection.commit()
    walk = _plan(environment, held, outcome, state, history)
    _execute(environment, held.connection, walk, history, held.where.environment, in_one=in_one)
    walk.conclude()


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
    walk = _plan(environment, Held(where, connection), Outcome("downgrade"), state, history)
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


def _plan(
    environment: EnvironmentContext,
    held: Held,
    outcome: Outcome,
    state: DatabaseState,
    history: History,
    *,
    force: bool = False,
) -> Walk:
    """The steps, resolved once, before anything runs: a bad target changes nothing, and a relative one can't move."""
    options = environment.context_opts
    purge = options.get("purge", False)
    outcome.before = outcome.after = state.revision
    if not purge:
        revisions.demand_known(environment.script, state)
    heads = () if purge else state.versions
    steps = list(options["fn"](heads, None)) if "destination_rev" in options else []
    if not state.versions and any(isinstance(step, RevisionStep) and step.is_upgrade for step in steps):
        _admit_upgrade(environment.script, state, force=force)
    return Walk(
        steps,
        heads,
        outcome,
        history,
        settings.limits(),
        reconnect=lambda: session.another(held.where, held.connection.engine),
    )


def _execute(
    environment: EnvironmentContext,
    connection: Connection,
    walk: Walk,
    history: History,
    name: str,
    *,
    in_one: bool,
    emptying: bool = False,
) -> None:
    options = environment.context_opts
    nothing = not walk.steps and "destination_rev" in options and not options.get("purge")
    # The marker also where nothing is to be run: a log that was set aside has taken it along.
    unmarked = nothing and walk.heads and history.environment is None and history.allowed
    if walk.steps or emptying or unmarked:
        history.create()
        if history.environment is None:
            history.mark(name)
        if not in_one:
            connection.commit()
    if nothing:
        return

    def attempt() -> None:
        # Alembic empties the table in a transaction of its own, unless it finds itself in one: it is recorded in it.
        with connection.begin() if emptying else contextlib.nullcontext():
            walk_through()
            if emptying:
                history.record(Entry("base", "stamp"))

    def walk_through() -> None:
        environment.configure(
            connection=connection,
            transaction_per_migration=True,
            on_version_apply=walk.applied,
            version_table_schema=VERSION_SCHEMA,
            fn=walk if "destination_rev" in options else options["fn"],
        )
        with environment.begin_transaction():
            environment.run_migrations()

    if in_one:
        try:
            attempt()
        except Exception as error:
            # The caller rolls back, and tries again where it was a lock.
            if retry.is_lock_timeout(error):
                raise
            raise walk.explain(error) or error from error
        return
    try:
        retry.on_lock_timeout(
            attempt,
            connection,
            what=lambda: walk.doing,
            failed=lambda failure: walk.retry(failure, connection),
            limits=settings.limits(),
        )
    except Exception as error:
        raise walk.fail(error, connection) or error from error


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
