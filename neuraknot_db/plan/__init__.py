"""What is pending on a live database, and what it would do there: seen in one read-only transaction, without trace."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from neuraknot_db import checksums, guards, snapshots
from neuraknot_db.catalog import Schema, read_schema
from neuraknot_db.emission import Emission, emission
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.history import History
from neuraknot_db.impact import LockMode, Name, impact
from neuraknot_db.plan.render import render
from neuraknot_db.plan.survey import survey
from neuraknot_db.plan.values import Plan, PlannedRevision, PlannedStatement
from neuraknot_db.settings import Limits, Settings, milliseconds
from neuraknot_db.sqltext import statements

__all__ = ["Plan", "make", "render"]


def make(connection: Connection, script: ScriptDirectory, where: Settings, limits: Limits, target: str) -> Plan:
    """Plan the way from the database's revision to another.

    Args:
        connection: without a transaction; it is left so.
        script: where the revisions are.
        where: the database.
        limits: the timeouts of revisions that say nothing else.
        target: as `upgrade` and `downgrade` take it; an older revision, `base` or `-1` is a way back.

    Raises:
        UsageError: there is no such target from here, or a timeout is no duration.
        RefusedError: the database is at a revision that is not here.
    """
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        state = guards.inspect(connection)
        current = _known(script, state.versions)
        downgrade, pending = _pending(script, current, target)
        live = read_schema(connection)
        planned: list[PlannedRevision] = []
        made_by: dict[Name, str] = {}
        for revision in pending:
            schema = _schema_before(script, revision, downgrade, live, first=not planned)
            each = _plan_revision(revision, downgrade, limits, schema, made_by)
            planned.append(each)
            made_by.update({name: each.revision for one in each.statements for name in one.impact.creates})
        tables = survey(connection, _strongest(planned), made_by)
        refusal = _refusal(connection, script, state, downgrade=downgrade) if pending else ""
    finally:
        connection.rollback()
    return Plan(
        where.place,
        state.server_version,
        state.revision,
        _after(pending, downgrade, state.revision),
        downgrade,
        tuple(planned),
        tables,
        refusal,
    )


def _known(script: ScriptDirectory, versions: Sequence[str]) -> tuple[str, ...]:
    for version in versions:
        try:
            script.get_revision(version)
        except CommandError:
            raise RefusedError(
                f"The database is at revision {version}, which is not in alembic/versions.",
                hint="Use the checkout or the image that has it: the database is ahead of this one.",
            ) from None
    return tuple(versions)


def _pending(script: ScriptDirectory, current: Sequence[str], target: str) -> tuple[bool, list[Script]]:
    """Whether the way leads back, and the revisions on it, in the order in which they would run."""
    try:
        return _way(script, current, target)
    except RevisionError as error:
        raise UsageError(
            f"There is no way to {target} from {', '.join(current) or 'no revision'}: {str(error).rstrip('.')}.",
            hint="alembic history shows the revisions that exist.",
        ) from None


def _way(script: ScriptDirectory, current: Sequence[str], target: str) -> tuple[bool, list[Script]]:
    applied = {each.revision for each in script.iterate_revisions(tuple(current), "base")} if current else set()
    back = target == "base" or target.startswith("-")
    if not back and not target.startswith("+"):
        wanted = script.get_revision(target)
        back = wanted is not None and wanted.revision in applied and wanted.revision not in current
    if not back:
        ahead = script.iterate_revisions(target, tuple(current) or "base", implicit_base=True)
        return False, [each for each in ahead if each.revision not in applied][::-1]
    if not current:
        raise UsageError("The database is at no revision: there is no way back.")
    return True, list(script.iterate_revisions(tuple(current), target, select_for_downgrade=True))


def _refusal(connection: Connection, script: ScriptDirectory, state: guards.DatabaseState, *, downgrade: bool) -> str:
    """What a guard would say before anything is run; empty if none would."""
    try:
        if not downgrade and not state.versions and state.tables:
            guards.admit_upgrade(state, own_tables=snapshots.table_names(script))
        checksums.demand_unedited(script, History(connection), state.versions, accepted=())
    except RefusedError as refused:
        return f"{refused.message} {refused.hint or ''}".strip()
    return ""


def _schema_before(script: ScriptDirectory, revision: Script, downgrade: bool, live: Schema, *, first: bool) -> Schema:
    """The tables before a revision: the live ones before the first, then as the revisions before it leave them."""
    before = revision.revision if downgrade else revision.down_revision
    if first or not isinstance(before, str) or not snapshots.path_of(script, before).exists():
        return live
    return snapshots.load(script, before)


def _plan_revision(
    revision: Script, downgrade: bool, limits: Limits, schema: Schema, made: Collection[Name]
) -> PlannedRevision:
    module = revision.module
    sent = emission(revision, downgrade=downgrade)
    transactional = bool(getattr(module, "transactional", True))
    found = tuple(_statements(sent, schema, transactional))
    lock_timeout = _timeout(revision, "lock_timeout", limits.lock_timeout)
    return PlannedRevision(
        revision.revision,
        revision.doc or "",
        f"versions/{Path(revision.path).name}",
        found,
        transactional=transactional,
        # CREATE INDEX CONCURRENTLY waits for the application's transactions, and keeps nobody out meanwhile.
        lock_timeout=lock_timeout if transactional else 0,
        statement_timeout=_timeout(revision, "statement_timeout", limits.statement_timeout if transactional else 0),
        waits=_waits(found, made),
        losses=tuple(getattr(module, "losses", {})) if downgrade else (),
        failure=sent.failure,
    )


def _statements(sent: Emission, schema: Schema, transactional: bool) -> Iterator[PlannedStatement]:
    held: dict[Name, LockMode] = {}
    for text in sent.texts:
        for statement in statements(text.sql):
            found = impact(statement, schema)
            tables = {effect.table: held[effect.table] for effect in found.effects if effect.table in held}
            yield PlannedStatement(statement.text, text.line_at(statement.start), found, tables)
            for effect in found.effects if transactional else ():
                held[effect.table] = max(effect.mode, held.get(effect.table, effect.mode))


def _timeout(revision: Script, name: str, default: int) -> int:
    value = getattr(revision.module, name, None)
    return default if value is None else milliseconds(value, f"{name} of revision {revision.revision}")


def _waits(found: Iterable[PlannedStatement], made_before: Collection[Name]) -> int:
    """How many locks are taken on tables in use from the first that keeps the application out.

    A lock that is made stronger is waited for once more. What pending revisions make themselves is not in use yet.
    """
    made = set(made_before)
    waits = 0
    for statement in found:
        for effect in statement.impact.effects:
            is_new = effect.table not in made and statement.held.get(effect.table, 0) < effect.mode
            if is_new and (waits or effect.mode.blocks):
                waits += 1
        made.update(statement.impact.creates)
    return waits


def _strongest(planned: Iterable[PlannedRevision]) -> dict[Name, LockMode]:
    found: dict[Name, LockMode] = {}
    for revision in planned:
        for statement in revision.statements:
            for effect in statement.impact.effects:
                found[effect.table] = max(effect.mode, found.get(effect.table, effect.mode))
    return found


def _after(pending: Sequence[Script], downgrade: bool, current: str | None) -> str | None:
    if not pending:
        return current
    last = pending[-1]
    if not downgrade:
        return last.revision
    return last.down_revision if isinstance(last.down_revision, str) else None
