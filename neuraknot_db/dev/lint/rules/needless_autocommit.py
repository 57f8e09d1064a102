"""A revision outside of a transaction that could be in one."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, RevisionStatement, Subject
from neuraknot_db.dev.lint.rules.outside_transaction_only import refused_in_transaction

CODE = "needless-autocommit"
HELP = "Remove transactional = False: in a transaction the revision is done as a whole, with its record, or not at all."


def check(subject: Subject) -> Iterator[Finding]:
    """Find `transactional = False` if every statement could run in a transaction."""
    statements = [statement for function in subject.functions for statement in function.statements]
    failed = any(function.sent.failure for function in subject.functions)
    if (
        subject.transactional
        or failed
        or any(refused_in_transaction(statement) or _may_commit(statement) for statement in statements)
    ):
        return
    line = subject.line_of("transactional")
    yield subject.finding(line, CODE, "No statement of this revision has to run outside of a transaction.", HELP)


def _may_commit(statement: RevisionStatement) -> bool:
    """Whether it is a procedure or a DO block, which can end its own transactions."""
    return statement.words[0] in ("call", "do")
