"""A downgrade that loses data without saying how much."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.impact import LockMode, Name, Work, impact, parts
from neuraknot_db.impact.reader import Reader
from neuraknot_db.lint.finding import Finding, Step, Subject
from neuraknot_db.sqltext import statements

CODE = "uncounted-loss"
HELP = (
    "Count them before they go, in the revision's variable `losses`:"
    ' losses = {{"what is lost, following a number": "SELECT count(*) FROM {table} WHERE ..."}}'
)

_TAKES_DATA_ALONG = ("DROP TYPE", "DROP DOMAIN", "DROP SCHEMA", "DROP", "DROP OWNED")
"""Forms whose CASCADE reaches rows and columns; plain DROP is that of an extension and the like."""


def check(subject: Subject) -> Iterator[Finding]:
    """Find rows or values that downgrade() destroys or changes, and that no query of `losses` counts."""
    counted = {
        effect.table
        for query in subject.losses.values()
        for statement in statements(query)
        for effect in impact(statement).effects
    }
    told: set[Name] = set()
    for step in subject.downgrade.steps:
        losses = list(_losses(step))
        for table, what in losses:
            if table not in counted and table not in told:
                told.add(table)
                message = f"downgrade() {what} {table}, and nothing counts what is lost."
                yield subject.finding(step.line, CODE, message, HELP.format(table=table))
        if not losses and not counted and step.impact.opaque and step.impact.form in _TAKES_DATA_ALONG:
            message = "downgrade() drops whatever depends on it, and nothing counts what is lost."
            yield subject.finding(step.line, CODE, message, HELP.format(table="..."))


def _losses(step: Step) -> Iterator[tuple[Name, str]]:
    """The tables whose data a statement destroys or changes, and how."""
    form, effects = step.impact.form, step.impact.effects
    destroys = "empties" if form == "TRUNCATE" else "drops or empties" if form == "DO" else "drops"
    yield from ((each.table, destroys) for each in effects if each.work == Work.LOSS)
    if form in ("UPDATE", "DELETE", "WITH", "DO", "MERGE"):
        changing = (each for each in effects if each.work == Work.ROWS and each.mode >= LockMode.ROW_EXCLUSIVE)
        yield from ((each.table, "changes or deletes rows of") for each in changing)
    elif form in ("DROP TYPE", "DROP DOMAIN"):
        yield from ((each.table, "drops a column of") for each in effects)
    for part in parts(step.statement):
        if part.accept("alter table if exists", "alter table"):
            for table in part.names()[:1]:
                rewritten = any(each.table == table and each.work == Work.REWRITE for each in effects)
                for action in part.items():
                    if _drops_column(action):
                        yield table, "drops a column of"
                    elif action.accept("alter") and action.has("type") and rewritten:
                        yield table, "changes the type of a column of"


def _drops_column(action: Reader) -> bool:
    return action.accept("drop") is not None and not (action.at("constraint") or action.at("expression"))
