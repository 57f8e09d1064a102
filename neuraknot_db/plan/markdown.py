"""A plan as GitHub's Markdown.

No line needs the blank one before it: a log drops those. So a table always follows a heading, and a list ends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neuraknot_db.database import display
from neuraknot_db.database.markdown import code, table, text
from neuraknot_db.plan.render import AS_READER, back_to, batches, held, in_use, limits, lock, table_size, waiting, work
from neuraknot_db.plan.values import Plan, PlannedRevision, TableNow

NOTHING: Mapping[str, TableNow] = {}
"""The tables of a plan that no database was asked for."""


def markdown(plan: Plan) -> str:
    """Return the plan as a section of a page."""
    return "\n".join(_lines(plan))


def statements(planned: PlannedRevision, tables: Mapping[str, TableNow]) -> Iterator[str]:
    """Yield a table of a revision's statements: a row for each relation that is in use.

    Args:
        planned: the revision.
        tables: what the database holds of them; if `NOTHING`, the column about it is left out.
    """
    rows = []
    for statement in planned.statements:
        told = in_use(statement, tables)
        for number, (effect, now) in enumerate(told):
            what = [str(statement.line), code(statement.sql)] if number == 0 else ["", ""]
            does = [text(lock(statement, effect)), text(work(statement, effect))]
            size = [text(table_size(now) if now else "there is no such table now")] if tables else []
            rows.append([*what, code(effect.relation), *does, *size])
        if not told and statement.note:
            rows.append([str(statement.line), code(statement.sql), *[""] * (4 if tables else 3)])
    if rows:
        yield from table(["line", "statement", "table", "locks", "does", *(["now"] if tables else [])], rows)
        yield ""


def warnings(planned: PlannedRevision) -> Iterator[str]:
    """Yield a list of what is not known of a revision's statements."""
    for statement in planned.statements:
        if statement.note:
            yield f"- ❗ line {statement.line}: {text(statement.note)}"
    if planned.failure:
        yield f"- ❗ {text(planned.failure)}"


def _lines(plan: Plan) -> Iterator[str]:
    at, count = text(plan.current or "no revision"), display.counted(len(plan.revisions), "revision")
    way = "back to" if plan.downgrade else "to"
    what = f"{count} from {at} {way} {text(plan.target or 'no revision')}" if plan.revisions else "nothing to do"
    yield f"### Plan: {what}"
    yield ""
    yield f"- {text(plan.place)}, PostgreSQL {text(plan.server_version)}, at {at} now"
    if plan.refused:
        yield f"- ❌ **It would be refused:** {text(plan.refused.message)}"
    if plan.running:
        yield f"- ⏳ It would wait for another migration: {text(plan.running)}."
    if plan.doubt:
        yield f"- ❗ {text(plan.doubt)}"
    if plan.rollback:
        yield f"- {text(back_to(plan.rollback))}"
    if plan.as_reader:
        yield f"- {AS_READER}"
    yield ""
    for planned in plan.revisions:
        back = "take back: " if plan.downgrade else ""
        yield f"#### {text(planned.revision)}: {back}{text(planned.title.rstrip('.'))}"
        yield ""
        yield from statements(planned, plan.tables or NOTHING)
        yield f"- {code(planned.path)}: {limits(planned)}"
        for each in planned.questions:
            yield f"- {'❗' if each.broken else '🗑️' if each.about == 'losses' else '🔎'} {text(str(each))}"
        if planned.backfill:
            yield f"- {'❗ ' * bool(planned.backfill.refused)}{text(batches(planned.backfill))}"
        yield from warnings(planned)
        if told := waiting(planned):
            yield f"- {text(told)}"
        yield ""
    in_the_way = [(now, each) for now in plan.present for each in now.holders if each.in_the_way]
    if in_the_way:
        yield "#### In the way now"
        yield ""
        rows = (
            [code(now.name), code(f"{held(each)}: {each.session.query}" if each.session.query else held(each))]
            for now, each in in_the_way
        )
        yield from table(["table", "session"], rows)
