"""A downgrade that loses data without saying how much."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.impact import LockMode, Name, Work, impact
from neuraknot_db.impact.reader import Reader
from neuraknot_db.lint.finding import Finding, Step, Subject
from neuraknot_db.sqltext import statements

CODE = "uncounted-loss"
HELP = (
    "Count them before they go, in the revision's variable `losses`:"
    ' losses = {{"what is lost, following a number": "SELECT count(*) FROM {table} WHERE ..."}}'
)


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
        for table, what in _losses(step):
            if table not in counted and table not in told:
                told.add(table)
                message = f"downgrade() {what} {table}, and nothing counts what is lost."
                yield subject.finding(step.line, CODE, message, HELP.format(table=table))


def _losses(step: Step) -> Iterator[tuple[Name, str]]:
    """The tables whose data a statement destroys or changes, and how."""
    form, effects = step.impact.form, step.impact.effects
    if form in ("DROP TABLE", "TRUNCATE", "TRUNCATE TABLE"):
        reader = Reader(step.statement.tokens)
        reader.accept("drop table if exists", "drop table", "truncate table", "truncate")
        yield from ((table, "drops" if form == "DROP TABLE" else "empties") for table in reader.names())
    elif form in ("UPDATE", "DELETE", "WITH", "DO", "MERGE"):
        changing = (each for each in effects if each.work == Work.ROWS and each.mode >= LockMode.ROW_EXCLUSIVE)
        yield from ((each.table, "changes or deletes rows of") for each in changing)
    elif form == "ALTER TABLE":
        reader = Reader(step.statement.tokens)
        reader.accept("alter table if exists", "alter table")
        for table in reader.names()[:1]:
            for action in reader.items():
                if _drops_column(action):
                    yield table, "drops a column of"
                elif action.accept("alter") and action.has("type") and effects[0].work == Work.REWRITE:
                    yield table, "changes the type of a column of"


def _drops_column(action: Reader) -> bool:
    return action.accept("drop") is not None and not (action.at("constraint") or action.at("expression"))
