"""A revision that can't be rolled back."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "missing-downgrade"
HELP = "On a bad day it is the only way back: undo in downgrade() what upgrade() does, without losing a row."


def check(subject: Subject) -> Iterator[Finding]:
    """Find a downgrade that is missing or sends nothing."""
    function = subject.downgrade
    if function.sent.failure or function.statements:
        return
    if not hasattr(subject.module, "downgrade"):
        yield subject.finding(1, CODE, "There is no downgrade().", HELP)
    else:
        yield subject.finding(function.line, CODE, "downgrade() sends no statement.", HELP)
