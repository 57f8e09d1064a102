"""Render a plan for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from neuraknot_db.database import display
from neuraknot_db.database.other_sessions import grant
from neuraknot_db.database.redaction import redacted
from neuraknot_db.plan.values import Holder, Plan, PlannedRevision, PlannedStatement, TableNow
from neuraknot_db.schema.effects import Effect

_WIDEST = 120


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
    yield from _refused(plan, width)
    if plan.running:
        yield from _wrapped(f"! It would wait for another migration: {plan.running}.", width, "")
    if plan.doubt:
        yield from _wrapped(f"! {plan.doubt}", width, "")
    for revision in plan.revisions:
        yield ""
        yield from _revision(plan, revision, width)
    if in_use := [table for _, table in sorted(plan.tables.items()) if table.exists or table.holders]:
        yield ""
        yield "tables now"
        longest = max(len(table.name) for table in in_use)
        for table in in_use:
            yield from _table(table, longest, width)
    if plan.refused:
        # Once more: the first line has scrolled away.
        yield ""
        yield from _refused(plan, width)


def _refused(plan: Plan, width: int) -> Iterator[str]:
    if plan.refused:
        yield from _wrapped(f"! It would be refused: {plan.refused.message}", width, "")


def _revision(plan: Plan, planned: PlannedRevision, width: int) -> Iterator[str]:
    yield _cut(f"{planned.revision}  {'take back: ' if plan.downgrade else ''}{planned.title.rstrip('.')}", width)
    limits = f"lock_timeout {_limit(planned.lock_timeout)}, statement_timeout {_limit(planned.statement_timeout)}"
    yield _cut(f"     {planned.path}", width)
    yield from _wrapped(f"{'one' if planned.transactional else 'no'} transaction, {limits}", width, "     ")
    for what in planned.losses:
        yield from _wrapped(f"loses {what}", width, "     ")
    for statement in planned.statements:
        yield from _statement(plan, statement, width)
    if planned.failure:
        yield from _wrapped(f"! {planned.failure}", width, "     ")
    yield from _wrapped(_waiting(planned), width, "     ")


def _statement(plan: Plan, statement: PlannedStatement, width: int) -> Iterator[str]:
    told = [(effect, plan.tables.get(effect.relation)) for effect in statement.effects]
    # Nobody uses yet what a pending revision creates.
    told = [(effect, table) for effect, table in told if table is None or table.made_by is None]
    if not (told or statement.note):
        return
    yield _cut(f"{statement.line:>5}  {statement.sql}", width)
    for effect, table in told:
        yield from _wrapped(_told(statement, effect, table), width, "         ")
    if statement.note:
        yield from _wrapped(f"! {statement.note}", width, "         ")


def _told(statement: PlannedStatement, effect: Effect, table: TableNow | None) -> str:
    mode, blocks = statement.mode(effect), statement.blocks(effect)
    lock = str(mode) if mode else "no lock"
    if effect.index_lock:
        lock += f", {effect.index_lock} on an index"
    elif mode and mode == statement.held.get(effect.relation):
        blocks, lock = "", f"{lock} as before"
    lock += f", blocks {blocks}" if blocks else ""
    in_use = table is not None and table.exists
    size = f" ({_size(table, brief=True)})" if table is not None and in_use and effect.takes_time else ""
    above = statement.above.get(effect.relation)
    why = f": assumed as on {above}, above it" if above else ""
    missing = "" if in_use else "; there is no such table now"
    return f"{effect.relation}: {lock}; {effect.work}{size}{why}{missing}"


def _waiting(planned: PlannedRevision) -> str:
    longest = planned.longest_wait
    if not planned.waits:
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
    yield f"  {table.name:<{longest}}  {_size(table)}"
    shown = [holder for holder in table.holders if holder.in_the_way]
    for holder in shown:
        yield from _wrapped(_held(holder), width, "    ")
        if holder.session.hidden:
            yield from _wrapped(f"what it does is shown after {grant(holder.session)}", width, "      ")
        elif holder.session.query:
            yield _cut(f"      {holder.session.query}", width)
    if others := len(table.holders) - len(shown):
        yield f"    {others} more hold{'s' if others == 1 else ''} a lock that is not in the way"


def _held(holder: Holder) -> str:
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


def _size(table: TableNow, *, brief: bool = False) -> str:
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


def _limit(milliseconds: int) -> str:
    return display.duration(milliseconds) if milliseconds else "none"


def _cut(line: str, width: int) -> str:
    """Cut the line to a width in cells."""
    line = redacted(line)  # before cutting: part of a password would go unnoticed
    taken = 0
    for index, character in enumerate(line):
        taken += display.width(character)
        if taken >= width and (taken > width or index + 1 < len(line)):
            return line[:index] + "…"
    return line


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(redacted(text), width, initial_indent=indent, subsequent_indent=indent + "  ")
