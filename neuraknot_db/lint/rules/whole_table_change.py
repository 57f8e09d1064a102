"""An upgrade that deletes rows, or changes all of a table in one go."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.impact import Name, parts
from neuraknot_db.impact.reader import Reader
from neuraknot_db.lint.finding import Finding, Subject

CODE = "whole-table-change"
HELP = (
    "Every row stays locked until the revision ends, and no downgrade brings the old values back. Change some thousand"
    " rows at a time, outside of the revision, and keep what is overwritten or deleted until nobody misses it. Where"
    " the rows are few, or nobody's, count them (SELECT count(*) ...) and say so in alembic/lint.toml."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find DELETE, TRUNCATE, and UPDATE without WHERE, on tables that the revision does not make itself."""
    made: set[Name] = set()
    for step in subject.upgrade.steps:
        for part in parts(step.statement):
            for table, what in _changes(part):
                if table not in made:
                    yield subject.finding(step.line, CODE, f"upgrade() {what} {table}.", HELP)
        made.update(step.impact.creates)


def _changes(part: Reader) -> Iterator[tuple[Name, str]]:
    """The tables that a statement changes far and wide, and how."""
    if part.accept("truncate table", "truncate"):
        yield from ((table, "empties") for table in part.names())
        return
    inside = range(len(part.rest)) if part.at("with") else range(1)
    for index in inside:
        reader = Reader(part.rest[index:])
        if reader.accept("delete from"):
            yield from ((table, "deletes rows of") for table in reader.names()[:1])
        elif reader.accept("update"):
            names = reader.names()[:1]
            if reader.has("set") and not reader.has("where"):
                yield from ((table, "changes every row of") for table in names)
