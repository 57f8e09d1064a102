"""A revision that was never written."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "missing-upgrade"
HELP = "Write the SQL into upgrade(), or remove the file: as it stands it changes nothing, or fails."


def check(subject: Subject) -> Iterator[Finding]:
    """Find an upgrade that is missing or sends nothing, like the template."""
    function = subject.upgrade
    if not (function.sent.failure or function.statements):
        yield subject.finding(function.line, CODE, "upgrade() sends no statement.", HELP)
