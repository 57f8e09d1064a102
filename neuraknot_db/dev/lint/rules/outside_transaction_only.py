"""A statement that can't run in a transaction, in a revision that runs in one."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, RevisionStatement, Subject

CODE = "outside-transaction-only"
HELP = (
    "Let the revision hold this statement alone, made re-runnable with IF [NOT] EXISTS, and say transactional = False."
)

_FORMS = (
    ("vacuum",),
    ("alter", "system"),
    *((verb, what) for verb in ("create", "drop") for what in ("database", "tablespace", "subscription")),
    *(("reindex", what) for what in ("database", "schema", "system")),
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find CONCURRENTLY, VACUUM and similar without `transactional = False`."""
    if not subject.transactional:
        return
    for function in subject.functions:
        for statement in function.statements:
            if refused_in_transaction(statement):
                form = statement.words[0].upper()
                message = f"The server refuses this {form} within a transaction, and {function.name}() is in one."
                yield subject.finding(statement.line, CODE, message, HELP)


def refused_in_transaction(statement: RevisionStatement) -> bool:
    """Whether the server refuses a statement in a transaction."""
    words = statement.words
    if words[0] == "refresh":
        return False
    every_table = words[0] == "cluster" and all(word in "(verbose),;" for word in words[1:])
    return every_table or "concurrently" in words or any(tuple(words[: len(form)]) == form for form in _FORMS)
