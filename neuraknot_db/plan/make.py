"""What is pending on a live database, and what it would do there: read in read-only transactions, without a trace.

The effects of the statements were measured by `neuraknot-db snapshot` (`effects`); here they are joined with the live
database: sizes, sessions, partitions, and whether its schema is the one that was measured on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from alembic.runtime.migration import RevisionStep
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis
from neuraknot_db.database.display import counted, to_type
from neuraknot_db.database.lock import holder
from neuraknot_db.database.sql_text import statements
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.history.runs import Run
from neuraknot_db.migrate import conditions
from neuraknot_db.migrate.command import to_target
from neuraknot_db.plan import backfill, ownership, rollback
from neuraknot_db.plan.refusals import refusal, revision_options
from neuraknot_db.plan.survey import below, locked, survey
from neuraknot_db.plan.values import Plan, PlannedRevision, PlannedStatement, Question
from neuraknot_db.revisions import files
from neuraknot_db.revisions.options import QUERIES, is_transactional
from neuraknot_db.revisions.syntax import Source
from neuraknot_db.schema import effects, snapshots, verify
from neuraknot_db.schema.effects import LockMode, Measurement
from neuraknot_db.settings import Limits, Settings


def make(
    connection: Connection,
    script: ScriptDirectory,
    where: Settings,
    limits: Limits,
    target: str | None,
    *,
    as_reader: bool = False,
    count: bool = False,
) -> Plan:
    """Plan the way from the database's revision to another.

    Args:
        connection: without a transaction before and after.
        script: where the revisions are.
        where: the database.
        limits: the timeouts of revisions that set none.
        target: as for `upgrade` and `downgrade`; an older revision, `base` or `-1` is a downgrade. None for where the
            last run began, which raises what another plan tells as its refusal.
        as_reader: whether this user only reads, and another one migrates.
        count: whether to ask the queries of `losses` and `expects`, and `where` of a backfill, which read tables.

    Raises:
        UsageError: the target can't be reached from here.
        RefusedError: the database's revision has no file here; or no run can be taken back.
        LockUnavailableError: a migration runs now, and what it will have done can't be taken back.
    """
    try:
        files.demand_known(script, DatabaseState.of(connection))
        doubt, in_the_way = _doubt(connection, script)
        connection.rollback()
        state = _begin(connection)
        run: Run | None = None
        if target is None:
            run = rollback.find(connection, script, state)
            target = run.before or "base"
        command, steps = to_target(script, state.versions, target)
        refused = refusal(connection, script, where, state, command, steps, as_reader=as_reader, raises=bool(run))
        downgrade = command.kind == "downgrade"
        pending = [step.revision for step in steps if isinstance(step, RevisionStep)]
        planned = [
            _plan_revision(connection, script, revision, downgrade, limits, as_reader=as_reader, count=count)
            for revision in pending
        ]
        tables = survey(
            connection,
            dict.fromkeys(in_the_way, LockMode.ACCESS_SHARE) | _strongest(planned),
            _made_by(script, pending, downgrade),
            _built_beside(planned),
        )
        in_use = {name for name, table in tables.items() if table.exists}
        planned = [replace(each, waits=_waits(each.statements, in_use)) for each in planned]
        running = holder(connection)
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
        refused,
        doubt if planned else "",
        running,
        as_reader,
        run,
    )


def _doubt(connection: Connection, script: ScriptDirectory) -> tuple[str, Sequence[str]]:
    """Return why the measured effects may not hold here, in sentences, and the tables that a lock made unreadable."""
    try:
        report = verify.verify(connection, script)
    except RefusedError as refused:
        return f"{refused.message} {to_type(refused.hint or '')}".rstrip(), ()
    except UsageError:  # at two revisions at once: nothing can be planned
        return "", ()
    except DBAPIError as error:
        if not diagnosis.is_lock_timeout(error):
            raise
        connection.rollback()
        # A plan should show who holds the tables.
        told = "Another session locks a table against being read: whether the schema is what it should be is not known."
        return told, locked(connection)
    if report.revision is None or report.matches:
        return "", ()
    count = len(report.differences)
    return (
        f"The schema is not what revision {report.revision} should hold ({counted(count, 'difference')}):"
        " what was measured may not hold here. neuraknot-db verify lists them.",
        (),
    )


def _begin(connection: Connection) -> DatabaseState:
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    # Before READ ONLY: the state must show whether a run could write.
    state = DatabaseState.of(connection)
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    return state


def _plan_revision(
    connection: Connection,
    script: ScriptDirectory,
    revision: Script,
    downgrade: bool,
    limits: Limits,
    *,
    as_reader: bool,
    count: bool,
) -> PlannedRevision:
    measured = effects.load(script, revision)
    found = Measurement(failure=f"Not known: {measured}. neuraknot-db snapshot measures it")
    if not isinstance(measured, str):
        found = measured.measurement(downgrade=downgrade)
        found = replace(found, failure=found.failure and f"Not measured from here on: {found.failure}")
    alone = not is_transactional(revision.module)
    sent = [each.sql for each in found.statements] if alone and not found.failure else None
    options = revision_options(script, revision, downgrade=downgrade, sent=sent)
    if isinstance(measured, str) and _sends_nothing(options.source, "downgrade" if downgrade else "upgrade"):
        found = replace(found, failure="It would fail: it sends an SQL text without a statement, as the template does")
    limits = options.limits(limits)
    each = options.backfill
    counted = _answer(connection, "losses", each.counting) if each and count else (None, "")
    own = () if as_reader else found.statements
    refusable = ownership.notes(connection, Path(revision.path).read_bytes(), own)
    relations = {effect.relation for each in found.statements for effect in each.effects}
    further = below(connection, relations, _tables_before(script, revision, downgrade))
    return PlannedRevision(
        revision.revision,
        revision.doc or "",
        str(files.here(revision.path)),
        tuple(statements_of(found, further, refusable, transactional=not alone)),
        transactional=not alone,
        lock_timeout=limits.lock_timeout,
        statement_timeout=limits.statement_timeout,
        questions=tuple(
            Question(about, phrase, *(_answer(connection, about, query) if count else ()))
            for about in QUERIES
            for phrase, query in getattr(options, about).items()
        ),
        failure=f"{found.failure}." if found.failure else "",
        backfill=backfill.planned(connection, revision.revision, each, limits.batch_duration, *counted)
        if each
        else None,
    )


def _answer(connection: Connection, about: str, query: str) -> tuple[int | None, str]:
    """Return how many rows are lost, or break it; or None, and why that is not known."""
    if about == "ensures":  # of what the revision makes
        return None, ""
    return conditions.answer(connection, conditions.read if about == "losses" else conditions.ask, query)


def _sends_nothing(source: bytes, function: str) -> bool:
    """Whether one of its texts is empty, or only a comment: the server refuses that."""
    return any(not list(statements(sql)) for sql in Source(source).exactly(function) or ())


def statements_of(
    way: Measurement,
    further: Mapping[str, Sequence[str]] = MappingProxyType({}),
    refusable: Sequence[str] = (),
    *,
    transactional: bool,
) -> Iterator[PlannedStatement]:
    """Yield the statements of a measurement, each with the locks that its transaction holds by then.

    Args:
        way: what was measured.
        further: the partitions and inheritance children that only this database has, by their parents.
        refusable: for each statement why the server may refuse it, empty for no reason; by default there is none.
        transactional: whether they run in one transaction.
    """
    held: dict[str, LockMode] = {}
    for each, may_be_refused in zip(way.statements, refusable or [""] * len(way.statements), strict=True):
        told = {effect.relation: effect for effect in each.effects}
        above: dict[str, str] = {}
        for effect in each.effects:
            for name in further.get(effect.relation, ()):
                told.setdefault(name, replace(effect, relation=name))
                above[name] = effect.relation
        note = "; ".join(filter(None, (each.remark, may_be_refused)))
        yield PlannedStatement(each.sql, each.line, tuple(told.values()), above, dict(held), note)
        for effect in told.values():
            if transactional and effect.lock:
                held[effect.relation] = max(effect.lock, held.get(effect.relation, effect.lock))


def _tables_before(script: ScriptDirectory, revision: Script, downgrade: bool) -> Collection[str]:
    """Return the tables that existed when this direction was measured, from the snapshot."""
    before = revision.revision if downgrade else revision.down_revision
    return _tables(script, before) if isinstance(before, str) else ()


def _tables(script: ScriptDirectory, revision: str) -> Collection[str]:
    return snapshots.load(script, revision).tables if snapshots.path_of(script, revision).exists() else ()


def _made_by(script: ScriptDirectory, pending: Sequence[Script], downgrade: bool) -> Mapping[str, str]:
    """Return the tables that the revisions create, each with the first one."""
    found: dict[str, str] = {}
    for each in pending:
        after, before = _tables(script, each.revision), _tables_before(script, each, downgrade=False)
        if downgrade:
            after, before = before, after
        for name in set(after) - set(before):
            found.setdefault(name, each.revision)
    return found


def _waits(statements: Iterable[PlannedStatement], in_use: Collection[str]) -> int:
    """Count the locks taken on tables in use, from the first that blocks the application.

    A lock that is upgraded waits once more.
    """
    waits = 0
    for statement in statements:
        for effect in statement.effects:
            for lock in (effect.lock, effect.index_lock):
                if lock and effect.relation in in_use and (waits or lock.blocks):
                    waits += 1
    return waits


def _strongest(planned: Iterable[PlannedRevision]) -> dict[str, LockMode]:
    """Return for each relation the strongest lock that is waited for."""
    found: dict[str, LockMode] = {}
    for statement in (statement for each in planned for statement in each.statements):
        for effect in statement.effects:
            lock = statement.waits_for(effect)
            found[effect.relation] = max(lock, found.get(effect.relation, lock))
    return found


def _built_beside(planned: Iterable[PlannedRevision]) -> frozenset[str]:
    statements = (statement for each in planned for statement in each.statements if statement.waits_for_snapshots)
    return frozenset(effect.relation for statement in statements for effect in statement.effects)


def _after(pending: Sequence[Script], downgrade: bool, current: str | None) -> str | None:
    if not pending:
        return current
    last = pending[-1]
    before = last.down_revision
    return (before if isinstance(before, str) else None) if downgrade else last.revision
