"""A non-transactional revision that can stop half-way."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "several-statements-without-transaction"
HELP = "Nothing takes back the first when the second fails: give each statement a revision of its own."


def check(subject: Subject) -> Iterator[Finding]:
    """Find `transactional = False` with more than one statement in a direction."""
    if subject.transactional:
        return
    for function in subject.functions:
        if len(function.statements) > 1:
            message = f"{function.name}() sends {len(function.statements)} statements, and is not in a transaction."
            yield subject.finding(function.statements[1].line, CODE, message, HELP)
