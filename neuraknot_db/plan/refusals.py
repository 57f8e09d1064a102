"""Would a run be refused? The same preflight, before anything is run."""

from __future__ import annotations

from collections.abc import Sequence

from alembic.runtime.migration import MigrationStep
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db import settings
from neuraknot_db.database.display import to_type
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import MigrationFailedError, NeuraknotError, RefusedError, UsageError
from neuraknot_db.history.log import History
from neuraknot_db.migrate import guards, preflight
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.preflight import Found
from neuraknot_db.plan.values import Refusal
from neuraknot_db.revisions.options import RevisionOptions, Step, read_options
from neuraknot_db.settings import Settings


def refusal(
    connection: Connection,
    script: ScriptDirectory,
    where: Settings,
    state: DatabaseState,
    command: Command,
    steps: Sequence[Step],
    *,
    as_reader: bool = False,
    raises: bool = False,
) -> Refusal | None:
    """Return the first refusal that a run would meet; None for none.

    Args:
        connection: its transaction may be read-only.
        script: where the revisions are.
        where: the database.
        state: what it holds.
        command: the command to run.
        steps: its steps from there.
        as_reader: whether another user would run it, so that this one's rights refuse nothing.
        raises: raise it instead, and take a confirmation that is still to be given for none.
    """
    history = History(connection)
    if as_reader:
        state, history.allowed = state._replace(read_only="", may_create=True, lacking=""), True
        history.may_batch = True
    try:
        ready = preflight.admit(command, script, Found(where, state, history), steps)
    except (RefusedError, UsageError, MigrationFailedError) as refused:
        if raises:
            raise
        return _told(refused)
    if not raises and command.kind == "downgrade" and steps and settings.is_production(ready.environment):
        return _told(
            # Same as `guards.confirm_downgrade`, but without asking on the terminal.
            RefusedError(
                "In production a way back asks for the database's name.",
                hint=f"Give it: {guards.confirming(where.database, command.words)}",
            )
        )
    return None


def _told(refused: NeuraknotError) -> Refusal:
    return Refusal(refused.exit_code, f"{refused.message} {to_type(refused.hint or '')}".strip())


def revision_options(
    script: ScriptDirectory, revision: Script, *, downgrade: bool, sent: Sequence[str] | None
) -> RevisionOptions:
    """Return the options of a revision that sends this; empty if a run would refuse them."""
    step = MigrationStep.downgrade_from_script if downgrade else MigrationStep.upgrade_from_script
    try:
        return read_options(step(script.revision_map, revision), sent)
    except (RefusedError, UsageError, MigrationFailedError):
        return RevisionOptions()
