"""Findings, and what the revisions' statements were measured to do, as GitHub's Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alembic.script import Script, ScriptDirectory

from neuraknot_db.database import display
from neuraknot_db.database.markdown import code, table, text
from neuraknot_db.dev.lint.finding import Finding
from neuraknot_db.plan.make import statements_of
from neuraknot_db.plan.markdown import NOTHING, statements, warnings
from neuraknot_db.plan.render import transactions
from neuraknot_db.plan.values import PlannedRevision
from neuraknot_db.revisions import files
from neuraknot_db.revisions.backfill import is_completed
from neuraknot_db.revisions.options import is_transactional
from neuraknot_db.schema import effects
from neuraknot_db.schema.effects import Measurement


def markdown(script: ScriptDirectory, revisions: Sequence[Script], found: Sequence[Finding]) -> str:
    """Return the findings, then each revision with its statements, as a section of a page."""
    return "\n".join(_lines(script, revisions, found))


def _lines(script: ScriptDirectory, revisions: Sequence[Script], found: Sequence[Finding]) -> Iterator[str]:
    count = display.counted(len(revisions), "revision")
    told = f"❌ {display.counted(len(found), 'finding')}" if found else "✅ nothing found"
    yield f"### Lint of {count}: {told}"
    yield ""
    rows = (
        [code(f"{files.here(str(each.path))}:{each.line}"), code(each.code), text(f"{each.message} {each.help}")]
        for each in found
    )
    if found:
        yield from table(["where", "rule", "finding"], rows)
        yield ""
    for revision in revisions:
        planned = _as_measured(script, revision)
        yield f"#### {text(planned.revision)}: {text(planned.title.rstrip('.'))}"
        yield ""
        yield from statements(planned, NOTHING)
        yield f"- {code(planned.path)}: {transactions(planned.transactional, is_completed(revision.module))}"
        if not (planned.statements or planned.failure):
            yield "- Locks no table that was there before it."
        yield from warnings(planned)
        yield ""


def _as_measured(script: ScriptDirectory, revision: Script) -> PlannedRevision:
    measured, transactional = effects.load(script, revision), is_transactional(revision.module)
    way = Measurement(failure=f"Not known: {measured}.") if isinstance(measured, str) else measured.upgrade
    return PlannedRevision(
        revision.revision,
        revision.doc or "",
        str(files.here(revision.path)),
        tuple(statements_of(way, transactional=transactional)),
        transactional=transactional,
        failure=way.failure,
    )
