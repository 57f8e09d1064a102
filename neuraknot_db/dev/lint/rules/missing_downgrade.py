"""A revision that can't be rolled back."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, RevisionStatement, Subject
from neuraknot_db.revisions.backfill import is_completed

CODE = "missing-downgrade"
HELP = (
    "On a bad day it is the only way back: undo in downgrade() what upgrade() does, without losing a row. Only VALIDATE"
    " CONSTRAINT and a backfill leave nothing to undo; where something else can't be undone, say why in"
    " alembic/lint.toml."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find a downgrade that is missing or sends nothing."""
    function, sent = subject.downgrade, subject.upgrade.statements
    if function.sent.failure or function.statements:
        return
    if not hasattr(subject.module, "downgrade"):
        yield subject.finding(1, CODE, "There is no downgrade().", HELP)
    elif function.sent.texts or not (is_completed(subject.module) or (sent and all(map(_only_validates, sent)))):
        yield subject.finding(function.line, CODE, "downgrade() sends no statement.", HELP)


def _only_validates(statement: RevisionStatement) -> bool:
    """Whether each part of an ALTER TABLE validates a constraint: that holds for the older application as well."""
    words = statement.words
    return words[:2] == ["alter", "table"] and words.count("validate") == words.count(",") + 1
