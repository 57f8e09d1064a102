"""A revision that locks one table while it waits for another."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.impact import LockMode, Name
from neuraknot_db.lint.finding import Finding, Step, Subject, Way

CODE = "several-tables"
HELP = (
    "lock_timeout counts for each lock: while the second is waited for, the first keeps the application out."
    " Give each table a revision of its own; where they belong together, say why in alembic/lint.toml."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find more than one existing table that is locked against writes, or against reads and writes."""
    for way in subject.ways:
        if not subject.transactional:
            continue
        locked = blocking_locks(way)
        if len(locked) > 1:
            tables = ", ".join(f"{name} ({mode})" for name, (mode, _) in locked.items())
            second = list(locked.values())[1][1]
            yield subject.finding(second.line, CODE, f"{way.name}() locks {len(locked)} tables in use: {tables}.", HELP)


def blocking_locks(way: Way) -> dict[Name, tuple[LockMode, Step]]:
    """The tables that were there before, each with its strongest lock and the statement that first takes one."""
    made: set[Name] = set()
    locked: dict[Name, tuple[LockMode, Step]] = {}
    for step in way.steps:
        for effect in step.impact.effects:
            if effect.mode.blocks and effect.table not in made:
                mode, first = locked.get(effect.table, (effect.mode, step))
                locked[effect.table] = max(mode, effect.mode), first
        made.update(step.impact.creates)
    return locked
