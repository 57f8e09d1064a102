"""A revision outside of a transaction that could be in one."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Step, Subject
from neuraknot_db.dev.lint.rules.outside_transaction_only import refused_in_transaction

CODE = "needless-autocommit"
HELP = "Remove transactional = False: in a transaction the revision is done as a whole, with its record, or not at all."


def check(subject: Subject) -> Iterator[Finding]:
    """Find `transactional = False` if every statement could run in a transaction."""
    steps = [step for way in subject.ways for step in way.steps]
    failed = any(way.emission.failure for way in subject.ways)
    if subject.transactional or failed or any(refused_in_transaction(step) or _may_commit(step) for step in steps):
        return
    line = subject.line_of("transactional")
    yield subject.finding(line, CODE, "No statement of this revision has to run outside of a transaction.", HELP)


def _may_commit(step: Step) -> bool:
    """Whether it is a procedure or a DO block, which can end its own transactions."""
    return step.words[0] in ("call", "do")
