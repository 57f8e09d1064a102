"""A revision that locks one table while it waits for another."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, RevisionFunction, Subject
from neuraknot_db.schema.effects import LockMode, Measured

CODE = "several-tables"
HELP = (
    "lock_timeout counts for each lock: while the second is waited for, the first keeps the application out."
    " Give each table a revision of its own; where they belong together, say why in alembic/lint.toml."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find more than one table in use locked against writes, or against reads and writes."""
    for function in subject.functions if subject.transactional else ():
        locked = blocking_locks(function)
        if len(locked) > 1:
            tables = ", ".join(f"{name} ({mode})" for name, (mode, _) in locked.items())
            second = list(locked.values())[1][1]
            yield subject.finding(
                second.line, CODE, f"{function.name}() locks {len(locked)} tables in use: {tables}.", HELP
            )


def blocking_locks(function: RevisionFunction) -> dict[str, tuple[LockMode, Measured]]:
    """Return the tables in use, each with its strongest lock and the statement that first takes one."""
    locked: dict[str, tuple[LockMode, Measured]] = {}
    for statement in function.measured.statements:
        for effect in statement.effects:
            lock = max(effect.lock or LockMode.ACCESS_SHARE, effect.index_lock or LockMode.ACCESS_SHARE)
            if lock.blocks and not effect.kind:
                mode, first = locked.get(effect.relation, (lock, statement))
                locked[effect.relation] = max(mode, lock), first
    return locked
