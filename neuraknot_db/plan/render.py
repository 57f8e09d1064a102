"""Render a plan for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from neuraknot_db.database import display
from neuraknot_db.database.other_sessions import grant
from neuraknot_db.database.redaction import redacted
from neuraknot_db.history.runs import Run
from neuraknot_db.plan.backfill import ASSUMED_SPEED
from neuraknot_db.plan.values import Holder, Plan, PlannedBackfill, PlannedRevision, PlannedStatement, TableNow
from neuraknot_db.schema.effects import Effect

_WIDEST = 120

AS_READER = "Planned as a reader: whether the user who migrates has every right is not known."


def render(plan: Plan, width: int) -> str:
    """Return the plan as lines.

    Args:
        plan: the plan.
        width: the terminal's width in characters.
    """
    return "\n".join(_lines(plan, min(width, _WIDEST)))


def _lines(plan: Plan, width: int) -> Iterator[str]:
    at = plan.current or "no revision"
    if not plan.revisions:
        yield from _wrapped(f"{plan.place}: at {at}, nothing to do", width, "")
        yield from _refused(plan, width)
        return
    count = display.counted(len(plan.revisions), "revision")
    direction = "back to" if plan.downgrade else "to"
    yield from _wrapped(f"{plan.place}: {count} from {at} {direction} {plan.target or 'no revision'}", width, "")
    if plan.rollback:
        yield from _wrapped(back_to(plan.rollback), width, "")
    yield from _refused(plan, width)
    if plan.running:
        yield from _wrapped(f"! It would wait for another migration: {plan.running}.", width, "")
    if plan.doubt:
        yield from _wrapped(f"! {plan.doubt}", width, "")
    if plan.as_reader:
        yield from _wrapped(AS_READER, width, "")
    for revision in plan.revisions:
        yield ""
        yield from _revision(plan, revision, width)
    if present := plan.present:
        yield ""
        yield "tables now"
        longest = max(len(table.name) for table in present)
        for table in present:
            yield from _table(table, longest, width)
    if plan.refused:
        # Once more: the first line has scrolled away.
        yield ""
        yield from _refused(plan, width)


def back_to(run: Run) -> str:
    """Return which run is taken back, in a sentence."""
    return f"Back to where this run began: {run}, {run.before or 'no revision'} -> {run.after or 'no revision'}."


def _refused(plan: Plan, width: int) -> Iterator[str]:
    if plan.refused:
        yield from _wrapped(f"! It would be refused: {plan.refused.message}", width, "")


def _revision(plan: Plan, planned: PlannedRevision, width: int) -> Iterator[str]:
    yield display.cut(
        f"{planned.revision}  {'take back: ' if plan.downgrade else ''}{planned.title.rstrip('.')}", width
    )
    yield display.cut(f"     {planned.path}", width)
    yield from _wrapped(limits(planned), width, "     ")
    for question in planned.questions:
        yield from _wrapped(f"{'! ' * question.broken}{question}", width, "     ")
    if planned.backfill:
        yield from _wrapped(f"{'! ' * bool(planned.backfill.refused)}{batches(planned.backfill)}", width, "     ")
    for statement in planned.statements:
        yield from _statement(plan, statement, width)
    if planned.failure:
        yield from _wrapped(f"! {planned.failure}", width, "     ")
    yield from _wrapped(waiting(planned), width, "     ")


def _statement(plan: Plan, statement: PlannedStatement, width: int) -> Iterator[str]:
    told = in_use(statement, plan.tables)
    if not (told or statement.note):
        return
    yield display.cut(f"{statement.line:>5}  {statement.sql}", width)
    for effect, table in told:
        yield from _wrapped(_told(statement, effect, table), width, "         ")
    if statement.note:
        yield from _wrapped(f"! {statement.note}", width, "         ")


def in_use(statement: PlannedStatement, tables: Mapping[str, TableNow]) -> list[tuple[Effect, TableNow | None]]:
    """Return a statement's effects with their tables, but for what a pending revision creates: nobody uses it yet."""
    told = [(effect, tables.get(effect.relation)) for effect in statement.effects]
    return [(effect, table) for effect, table in told if table is None or table.made_by is None]


def _told(statement: PlannedStatement, effect: Effect, table: TableNow | None) -> str:
    there = table is not None and table.exists
    size = f" ({table_size(table, brief=True)})" if table is not None and there and effect.takes_time else ""
    missing = "" if there else "; there is no such table now"
    return f"{effect.relation}: {lock(statement, effect)}; {work(statement, effect, size)}{missing}"


def lock(statement: PlannedStatement, effect: Effect) -> str:
    """Return what a statement locks of a relation, and what of the application that blocks, in words."""
    mode, blocks = statement.mode(effect), statement.blocks(effect)
    words = str(mode) if mode else "no lock"
    if effect.index_lock:
        words += f", {effect.index_lock} on an index"
    elif mode and mode == statement.held.get(effect.relation):
        blocks, words = "", f"{words} as before"
    return f"{words}, blocks {blocks}" if blocks else words


def work(statement: PlannedStatement, effect: Effect, size: str = "") -> str:
    """Return what a statement does to a relation meanwhile, in words."""
    above = statement.above.get(effect.relation)
    return f"{effect.work}{size}{f': assumed as on {above}, above it' if above else ''}"


def transactions(transactional: bool, in_batches: bool) -> str:
    """Return in how many transactions a revision is run, in words."""
    return "a transaction for each batch" if in_batches else f"{'one' if transactional else 'no'} transaction"


def limits(planned: PlannedRevision) -> str:
    """Return how a revision is run, in words."""
    locks, statements = (
        display.duration(each) if each else "none" for each in (planned.lock_timeout, planned.statement_timeout)
    )
    how = transactions(planned.transactional, planned.backfill is not None)
    return f"{how}, lock_timeout {locks}, statement_timeout {statements}"


def batches(planned: PlannedBackfill) -> str:
    """Return what a backfill has before it, in words."""
    about = f"backfill of {planned.table}:"
    if planned.refused:
        return f"{about} it would not be begun, as that {planned.refused}"
    if planned.rows_changed is not None:
        about += f" goes on behind {planned.rows_changed:,} rows that were changed before;"
    unknown = f", not known better now, {planned.unknown}" if planned.unknown else ""
    if planned.batches is None or planned.duration_ms is None:
        return f"{about} rows to change not counted yet{unknown.replace(' better', '')}"
    return (
        f"{about} {'' if planned.counted else 'up to about '}{planned.rows_left:,} rows to change{unknown}, in about"
        f" {planned.batches:,} batches, about {display.duration(planned.duration_ms)} at"
        f" {planned.rows_per_second or ASSUMED_SPEED:,} rows a second,"
        f" {'as before' if planned.rows_per_second else 'as assumed'}"
    )


def waiting(planned: PlannedRevision) -> str:
    """Return how long a revision may keep the application waiting, in sentences."""
    longest = planned.longest_wait
    if planned.backfill:
        batch = display.duration(planned.backfill.batch_duration_ms)
        told = f"Each batch keeps the rows that it changes locked until its own commit, some {batch}."
    elif not planned.waits:
        told = "" if planned.unknown else "Keeps no query of the application waiting."
    elif longest is None:
        told = "Without a lock_timeout, the application waits for as long as another session holds a lock."
    elif planned.waits == 1:
        told = f"The application may wait up to {display.duration(longest)} for the lock, and then for the work."
    else:
        told = (
            f"The application may wait up to {display.duration(longest)} for {planned.waits} locks"
            f" ({display.duration(planned.lock_timeout)} each, the first held meanwhile), and then for the work."
        )
    if not planned.unknown:
        return told
    return (
        f"{told} What is marked with ! may add to that." if told else "Whom it keeps waiting shows only when it runs."
    )


def _table(table: TableNow, longest: int, width: int) -> Iterator[str]:
    yield f"  {table.name:<{longest}}  {table_size(table)}"
    shown = [holder for holder in table.holders if holder.in_the_way]
    for holder in shown:
        yield from _wrapped(held(holder), width, "    ")
        if holder.session.hidden:
            yield from _wrapped(f"what it does is shown after {grant(holder.session.reader)}", width, "      ")
        elif holder.session.query:
            yield display.cut(f"      {holder.session.query}", width)
    if others := len(table.holders) - len(shown):
        yield f"    {others} more hold{'s' if others == 1 else ''} a lock that is not in the way"


def held(holder: Holder) -> str:
    """Return what a session holds that is in the way, in words."""
    session = holder.session
    snapshot = (
        f"{'may hold' if session.hidden else 'holds'} a snapshot, which CONCURRENTLY waits for"
        if holder.snapshot
        else ""
    )
    holds = ", ".join(filter(None, (f"holds {holder.mode}" if holder.mode else "", snapshot)))
    if session.is_prepared:
        return f"in the way: {session}, {holds}"
    who = f"pid {session.pid}, {session.application}" + (f" ({session.user})" if session.user else "")
    age = "" if session.age is None else f", in a transaction for {display.duration(session.age * 1000)}"
    state = f", {session.state}" if session.state else ""
    return f"in the way: {who}{age}{state}, {holds}"


def table_size(table: TableNow, *, brief: bool = False) -> str:
    """Return how large a table is now, in words; `brief` leaves out what is not known."""
    if not table.exists:
        return f"made by {table.made_by}" if table.made_by else "there is no such table now"
    rows = ("" if brief else "rows not counted yet, ") if table.rows is None else f"about {table.rows:,} rows, "
    return f"{rows}{'size not known' if table.bytes is None else size(table.bytes)}"


def size(count: int) -> str:
    """Format a number of bytes."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(redacted(text), width, initial_indent=indent, subsequent_indent=indent + "  ")
