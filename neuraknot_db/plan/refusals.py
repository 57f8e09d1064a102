"""Would a run be refused? The guards of `runner`, asked before anything is run."""

from __future__ import annotations

from collections.abc import Sequence

from alembic.runtime.migration import MigrationStep
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db import checksums, declared, guards, settings, snapshots
from neuraknot_db.declared import Declared
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.history import History
from neuraknot_db.settings import Settings


def refusal(
    connection: Connection,
    script: ScriptDirectory,
    where: Settings,
    state: guards.DatabaseState,
    pending: Sequence[Script],
    *,
    downgrade: bool,
) -> str:
    """The first refusal that a run would meet, with its hint; empty for none.

    Args:
        connection: its transaction may be read-only.
        script: where the revisions are.
        where: the database.
        state: what stands in it.
        pending: the revisions ahead.
        downgrade: whether they are taken back.
    """
    try:
        history = History(connection)
        name = guards.environment(where, history.environment)
        guards.admit_changes(state, role=where.user)
        if not downgrade and not state.versions and state.tables:
            guards.admit_upgrade(state, own_tables=snapshots.table_names(script))
        for revision in pending:
            _declared(script, revision, downgrade=downgrade)
        checksums.demand_unedited(script, history, state.versions, accepted=())
        if downgrade and settings.is_production(name):
            _demand_confirmation(where)
        history.demand_allowed()
    except (RefusedError, UsageError) as refused:
        return f"{refused.message} {refused.hint or ''}".strip()
    return ""


def _demand_confirmation(where: Settings) -> None:
    """What `guards.confirm_downgrade` would say, without asking on the terminal."""
    raise RefusedError(
        "In production a way back asks for the database's name.",
        hint=f"Give it: alembic -x confirm={where.database} downgrade ...",
    )


def declarations(script: ScriptDirectory, revision: Script, *, downgrade: bool, sent: Sequence[str] | None) -> Declared:
    """What a revision that sends this declares; nothing where a run would refuse it for that."""
    try:
        return _declared(script, revision, downgrade=downgrade, sent=sent)
    except (RefusedError, UsageError):
        return Declared()


def _declared(
    script: ScriptDirectory, revision: Script, *, downgrade: bool, sent: Sequence[str] | None = None
) -> Declared:
    step = MigrationStep.downgrade_from_script if downgrade else MigrationStep.upgrade_from_script
    return declared.of(step(script.revision_map, revision), sent)
