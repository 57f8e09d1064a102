"""An upgrade that deletes rows, or changes a whole table at once."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.revisions.backfill import is_completed
from neuraknot_db.schema.effects import DELETED, UPDATED_ALL, Effect, Measured

CODE = "whole-table-change"
HELP = (
    "Every row stays locked until the revision ends, and no downgrade brings the old values back. A large UPDATE:"
    ' instead of upgrade() declare backfill = Backfill(table="...", set="...", where="..."), which changes the rows in'
    " short batches. Keep what is overwritten or deleted until nobody misses it. Where the rows are few, or nobody's,"
    " count them (SELECT count(*) ...) and say so in alembic/lint.toml."
)
_ALL = "changes every row of"


def check(subject: Subject) -> Iterator[Finding]:
    """Find deleted rows of tables in use, and UPDATEs of all rows but a backfill's, which runs in batches."""
    in_batches = is_completed(subject.module)
    for statement in subject.upgrade.measured.statements:
        for effect in statement.effects:
            if (what := _change(statement, effect)) and not (in_batches and what == _ALL):
                yield subject.finding(statement.line, CODE, f"upgrade() {what} {effect.relation}.", HELP)


def _change(statement: Measured, effect: Effect) -> str:
    """Return what a statement does to many rows of a table; empty for nothing."""
    words = statement.sql.lower().split()
    if effect.emptied:
        return "empties"
    if DELETED in effect.rows_changed or (words[0] == "delete" and statement.changes_rows_of(effect)):
        return "deletes rows of"
    everywhere = words[0] == "update" and "where" not in words and statement.changes_rows_of(effect)
    return _ALL if everywhere or UPDATED_ALL in effect.rows_changed else ""
