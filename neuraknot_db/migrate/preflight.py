"""Before anything is changed: what stands in the database, what would run, and whether that is admitted.

Every command that changes a database goes through here, and `plan`, which only tells what would be refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database.state import DatabaseState
from neuraknot_db.history.log import Entry, History
from neuraknot_db.migrate import edits, guards, x_options
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.x_options import XOptions
from neuraknot_db.revisions import files
from neuraknot_db.revisions.options import RevisionOptions, Step, read_options
from neuraknot_db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Found:
    """A database as it was found.

    Attributes:
        where: which.
        state: what stands in it.
        history: its log, and its marker.
    """

    where: Settings
    state: DatabaseState
    history: History

    @property
    def environment(self) -> str:
        """The environment's name.

        Raises:
            RefusedError: the marker and NEURAKNOT_ENV contradict each other.
        """
        return guards.environment(self.where, self.history.environment)


@dataclass(frozen=True)
class Ready:
    """What was admitted.

    Attributes:
        command: what was asked for.
        found: the database.
        environment: the environment's name.
        steps: what is to be done, in order.
        options: what the revision of each says of itself.
        heads: what `alembic_version` holds, as far as it counts.
        edits: the rows to write for edits of applied revisions that are taken.
        others: tables of somebody else's, which are not in the way of a first upgrade.
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
    """See what stands in a database; the transaction that this begins is left to the caller."""
    return Found(where, DatabaseState.of(connection), History(connection))


def resolve(command: Command, script: ScriptDirectory, found: Found) -> list[Step]:
    """The steps of a command from where the database is.

    Raises:
        UsageError: there is no such target, or no way to it.
        RefusedError: the database is at a revision that is not here.
    """
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
    """Refuse whatever can be refused before anything is changed.

    Args:
        command: what was asked for.
        script: where the revisions are.
        found: the database.
        steps: those of the command from there.
        asked: what `-x` asks for.

    Raises:
        RefusedError, UsageError, MigrationFailedError: as the guards have it.
    """
    # To mark it anew is how a marker that contradicts is mended.
    environment = found.where.environment if command.kind == "mark" else found.environment
    guards.refuse_read_only(found.state)
    if command.kind not in ("reset", "adopt", "mark"):
        guards.admit_changes(found.state, role=found.where.user)
    upgrades = any(isinstance(step, RevisionStep) and step.is_upgrade for step in steps)
    others: Sequence[str] = ()
    if upgrades and not found.state.versions and command.kind != "reset":
        others = _admit_tables(script, found.state, force=asked.force)
    read = [read_options(step) for step in steps]
    taken: list[Entry] = []
    if command.kind in ("upgrade", "downgrade"):  # a stamp runs nothing, and minds no edit
        taken = edits.demand_unedited(script, found.history, found.state.versions, accepted=asked.accept_edit)
    if steps or command.purge or command.kind in ("reset", "adopt", "mark"):
        found.history.demand_allowed()
    heads = () if command.purge else found.state.versions
    return Ready(command, found, environment, steps, read, heads, taken, others)


def run(
    connection: Connection,
    where: Settings,
    script: ScriptDirectory,
    command: Command,
    asked: XOptions = x_options.NOTHING,
) -> Ready:
    """All three, on a connection without a transaction, which is left so."""
    found = look(connection, where)
    steps = resolve(command, script, found)
    ready = admit(command, script, found, steps, asked)
    connection.rollback()
    return ready


def _admit_tables(script: ScriptDirectory, state: DatabaseState, *, force: bool) -> Sequence[str]:
    if not state.tables or force:
        return ()
    # Only a database without a revision and with tables needs the snapshots, which take a while to import.
    from neuraknot_db.schema import snapshots

    return guards.admit_upgrade(state, own_tables=snapshots.table_names(script))
