"""What is pending on a live database, and what it would do there: seen in one read-only transaction, without trace."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import guards, outside, retry, revisions, snapshots
from neuraknot_db.catalog import Schema, read_schema
from neuraknot_db.declared import Declared
from neuraknot_db.emission import Emission, emission
from neuraknot_db.errors import UsageError
from neuraknot_db.impact import Families, LockMode, Name, after, impact
from neuraknot_db.plan.refusals import declarations, refusal
from neuraknot_db.plan.render import render
from neuraknot_db.plan.survey import families, locked, survey
from neuraknot_db.plan.values import Plan, PlannedRevision, PlannedStatement
from neuraknot_db.settings import Limits, Settings
from neuraknot_db.sqltext import statements

__all__ = ["Plan", "make", "render"]


@dataclass(frozen=True)
class _Found:
    """The database as it was found.

    Attributes:
        schema: its tables.
        families: its partitions and heirs.
        unread: why that is not what its catalogs say; empty where it is.
        locked: the tables whose locks were in the way.
    """

    state: guards.DatabaseState
    schema: Schema
    families: Families
    unread: str = ""
    locked: tuple[Name, ...] = ()


def make(connection: Connection, script: ScriptDirectory, where: Settings, limits: Limits, target: str) -> Plan:
    """Plan the way from the database's revision to another.

    Args:
        connection: without a transaction; it is left so.
        script: where the revisions are.
        where: the database.
        limits: the timeouts of revisions that say nothing else.
        target: as `upgrade` and `downgrade` take it; an older revision, `base` or `-1` is a way back.

    Raises:
        UsageError: there is no such target from here.
        RefusedError: the database is at a revision that is not here.
    """
    try:
        found = _look(connection, script)
        state = found.state
        downgrade, pending = _pending(script, state.versions, target)
        planned: list[PlannedRevision] = []
        made_by: dict[Name, str] = {}
        for revision in pending:
            schema = _schema_before(script, revision, downgrade, found.schema, first=not planned)
            each = _plan_revision(script, revision, downgrade, limits, schema, found.families, made_by)
            planned.append(each)
            made_by.update({name: each.revision for one in each.statements for name in one.impact.creates})
        wanted = dict.fromkeys(found.locked, LockMode.ACCESS_SHARE) | _strongest(planned)
        tables = survey(connection, wanted, made_by)
        why = refusal(connection, script, where, state, pending, downgrade=downgrade) if pending else ""
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
        why,
        found.unread,
    )


def _look(connection: Connection, script: ScriptDirectory) -> _Found:
    """What stands in the database, in a read-only transaction that stays open."""
    state = _begin(connection)
    revisions.demand_known(script, state)
    try:
        return _Found(state, read_schema(connection), families(connection))
    except DBAPIError as error:
        if not retry.is_lock_timeout(error):
            raise
    connection.rollback()
    # Who holds the tables is what a plan is there to tell: it goes on with what the revision should hold.
    state = _begin(connection)
    revisions.demand_known(script, state)
    known = state.revision is not None and snapshots.path_of(script, state.revision).exists()
    return _Found(
        state,
        snapshots.load(script, str(state.revision)) if known else Schema(),
        families(connection),
        "Another session locks a table against being read: this goes by "
        + (f"the snapshot of revision {state.revision}." if known else "the statements alone."),
        locked(connection),
    )


def _begin(connection: Connection) -> guards.DatabaseState:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    # Before READ ONLY: whether a run could write is to be seen.
    state = guards.inspect(connection)
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    return state


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


def _schema_before(script: ScriptDirectory, revision: Script, downgrade: bool, live: Schema, *, first: bool) -> Schema:
    """The tables before a revision: the live ones before the first, then as the revisions before it leave them."""
    before = revision.revision if downgrade else revision.down_revision
    if first or not isinstance(before, str) or not snapshots.path_of(script, before).exists():
        return live
    return snapshots.load(script, before)


def _plan_revision(
    script: ScriptDirectory,
    revision: Script,
    downgrade: bool,
    limits: Limits,
    schema: Schema,
    families: Families,
    made: Collection[Name],
) -> PlannedRevision:
    sent = emission(revision, downgrade=downgrade)
    texts = None if sent.failure else [text.sql for text in sent.texts]
    declared = declarations(script, revision, downgrade=downgrade, sent=texts)
    transactional = getattr(revision.module, "transactional", True) is not False
    found = tuple(_statements(sent, schema, families, transactional))
    lock_timeout, statement_timeout = _timeouts(declared, limits)
    return PlannedRevision(
        revision.revision,
        revision.doc or "",
        str(revisions.here(revision.path)),
        found,
        transactional=transactional,
        lock_timeout=lock_timeout,
        statement_timeout=statement_timeout,
        waits=_waits(found, made),
        losses=tuple(declared.losses or ()),
        failure=sent.failure,
    )


def _statements(sent: Emission, schema: Schema, families: Families, transactional: bool) -> Iterator[PlannedStatement]:
    held: dict[Name, LockMode] = {}
    for text in sent.texts:
        for statement in statements(text.sql):
            found = impact(statement, schema, families)
            tables = {effect.table: held[effect.table] for effect in found.effects if effect.table in held}
            yield PlannedStatement(statement.text, text.line_at(statement.start), found, tables)
            for effect in found.effects if transactional else ():
                held[effect.table] = max(effect.mode, held.get(effect.table, effect.mode))
            schema = after(statement, schema)


def _timeouts(declared: Declared, limits: Limits) -> tuple[int, int]:
    """How long a revision's statements wait for a lock, and run, as `steps` has it."""
    free = declared.alone is not None and outside.waits_for_others(declared.alone)
    lock_timeout, statement_timeout = (0, 0) if free else (limits.lock_timeout, limits.statement_timeout)
    return (
        lock_timeout if declared.lock_timeout is None else declared.lock_timeout,
        statement_timeout if declared.statement_timeout is None else declared.statement_timeout,
    )


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
