"""Before anything is changed: what the database holds, what would run, and whether that is allowed.

Every command that changes a database calls this, and so does `plan`, which only reports what would be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import LockUnavailableError
from neuraknot_db.history.log import Entry, History
from neuraknot_db.migrate import edits, guards, x_options
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.x_options import XOptions
from neuraknot_db.revisions import files
from neuraknot_db.revisions.options import RevisionOptions, Step, read_options, revision_of
from neuraknot_db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


class Found(NamedTuple):
    """A database in its present state.

    Attributes:
        where: its settings.
        state: what it holds.
        history: its log and its marker.
    """

    where: Settings
    state: DatabaseState
    history: History

    @property
    def environment(self) -> str:
        """The environment's name.

        Raises:
            RefusedError: the marker and NEURAKNOT_ENV differ.
        """
        return guards.environment(self.where, self.history.environment)


class Ready(NamedTuple):
    """A command that may run.

    Attributes:
        command: the command.
        found: the database.
        environment: the environment's name.
        steps: the steps to run, in order.
        options: the options of each step's revision.
        heads: what `alembic_version` holds, unless it is purged.
        edits: the rows to write for accepted edits of applied revisions.
        others: tables that are not ours, which do not conflict with a first upgrade.
    """

    command: Command
    found: Found
    environment: str
    steps: Sequence[Step] = ()
    options: Sequence[RevisionOptions] = ()
    heads: Sequence[str] = ()
    edits: Sequence[Entry] = ()
    others: Sequence[str] = ()


def look(connection: Connection, where: Settings) -> Found:
    """Read the state of a database; the caller ends the transaction that this begins."""
    return Found(where, DatabaseState.of(connection), History(connection))


def resolve(command: Command, script: ScriptDirectory, found: Found, asked: XOptions = x_options.NOTHING) -> list[Step]:
    """Return the steps of a command from where the database is.

    Raises:
        UsageError: the target does not exist or can't be reached.
        RefusedError: the database is at a revision that has no file here.
        LockUnavailableError: it is not where `-x from` says.
    """
    at = found.state.revision
    if asked.begin not in (None, at or "base"):
        raise LockUnavailableError(
            f"The database is at {at or 'no revision'}, and not at {asked.begin}, as -x from says: it was moved"
            " meanwhile. Nothing was changed.",
            hint=f"Look again at what would run: neuraknot-db plan{' --rollback' * (command.kind == 'downgrade')}",
        )
    if not (command.purge or command.kind in ("reset", "mark")):
        files.demand_known(script, found.state)
    return command.resolve(found.state.versions)


def admit(
    command: Command,
    script: ScriptDirectory,
    found: Found,
    steps: Sequence[Step],
    asked: XOptions = x_options.NOTHING,
) -> Ready:
    """Run every check that can refuse before anything is changed.

    Args:
        command: the command.
        script: where the revisions are.
        found: the database.
        steps: the command's steps from there.
        asked: the `-x` options.

    Raises:
        RefusedError, UsageError, MigrationFailedError: see the guards.
    """
    # A contradicting marker is corrected by marking again.
    environment = found.where.environment if command.kind == "mark" else found.environment
    guards.refuse_read_only(found.state)
    if command.kind not in ("reset", "adopt", "mark"):
        guards.admit_changes(found.state)
    upgrades = any(isinstance(step, RevisionStep) and step.is_upgrade for step in steps)
    others: Sequence[str] = ()
    if upgrades and not found.state.versions and command.kind != "reset":
        others = _admit_tables(script, found.state, force=asked.force)
    read = [read_options(step) for step in steps]
    taken: list[Entry] = []
    pending: dict[str, RevisionOptions] = {}
    if command.kind in ("upgrade", "downgrade"):  # a stamp runs nothing, so edits don't matter
        pending = {revision_of(step): each for step, each in zip(steps, read, strict=True) if each.backfill}
        taken = edits.demand_unedited(
            script,
            found.history,
            found.state.versions,
            command=command.words,
            accepted=asked.accept_edit,
            pending=pending,
        )
    if steps or command.purge or command.kind in ("reset", "adopt", "mark"):
        found.history.demand_allowed(batches=bool(pending))
    heads = () if command.purge else found.state.versions
    return Ready(command, found, environment, steps, read, heads, taken, others)


def check(
    connection: Connection,
    where: Settings,
    script: ScriptDirectory,
    command: Command,
    asked: XOptions = x_options.NOTHING,
) -> Ready:
    """Look, resolve and admit, on a connection without a transaction; leave none open."""
    found = look(connection, where)
    steps = resolve(command, script, found, asked)
    ready = admit(command, script, found, steps, asked)
    connection.rollback()
    return ready


def _admit_tables(script: ScriptDirectory, state: DatabaseState, *, force: bool) -> Sequence[str]:
    if not state.tables or force:
        return ()
    # Only needed for an unversioned database with tables; importing the snapshots takes a while.
    from neuraknot_db.schema import snapshots

    return guards.admit_upgrade(state, own_tables=snapshots.table_names(script))
