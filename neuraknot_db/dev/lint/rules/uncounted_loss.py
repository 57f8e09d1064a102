"""A downgrade that loses data without saying how much."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.database.sql_text import names_table
from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.schema.effects import Effect, Measured

CODE = "uncounted-loss"
HELP = (
    "Count them before they go, in the revision's variable `losses`:"
    ' losses = {{"what is lost, following a number": "SELECT count(*) FROM {table} WHERE ..."}}'
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find rows or values that downgrade() destroys or changes without a query in `losses` that counts them."""
    told: set[str] = set()
    counted = subject.queries("losses").values()
    for statement in subject.downgrade.measured.statements:
        for effect in statement.effects:
            what, table = _loss(statement, effect), effect.relation
            if what and table not in told and not any(names_table(query, table) for query in counted):
                told.add(table)
                message = f"downgrade() {what} {table}, and nothing counts what is lost."
                yield subject.finding(statement.line, CODE, message, HELP.format(table=table))


def _loss(statement: Measured, effect: Effect) -> str:
    """Return what a statement does to a table's data; empty for no harm."""
    if effect.dropped or effect.emptied:
        return "drops" if effect.dropped else "empties"
    if effect.columns_dropped:
        return "drops a column of"
    if effect.columns_retyped and effect.rewritten:
        return "changes the type of a column of"
    return "changes or deletes rows of" if statement.changes_rows_of(effect) else ""
