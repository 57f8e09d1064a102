"""A statement that no transaction takes, in a revision that runs in one."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.impact.reader import Reader
from neuraknot_db.lint.finding import Finding, Step, Subject

CODE = "outside-transaction-only"
HELP = (
    "Let the revision hold this statement alone, made re-runnable with IF [NOT] EXISTS, and say transactional = False."
)

_FORMS = (
    *("vacuum", "alter system", "create database", "drop database", "create tablespace", "drop tablespace"),
    *("create subscription", "drop subscription", "reindex database", "reindex schema", "reindex system"),
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find CONCURRENTLY, VACUUM and their like without `transactional = False`."""
    if not subject.transactional:
        return
    for way in subject.ways:
        for step in way.steps:
            if no_transaction_takes(step):
                message = (
                    f"The server refuses this {step.impact.form} within a transaction, and {way.name}() is in one."
                )
                yield subject.finding(step.line, CODE, message, HELP)


def no_transaction_takes(step: Step) -> bool:
    """Whether the server refuses a statement within a transaction."""
    reader = Reader(step.statement.tokens)
    if reader.at("refresh"):
        return False
    if reader.at("reindex ("):
        return any(token.text.lower() == "concurrently" for token in reader.rest)
    every_table = step.impact.form == "CLUSTER" and not step.impact.effects
    return every_table or reader.has("concurrently") or any(reader.at(form) for form in _FORMS)
