"""A whole table is read while the application waits for it, whatever the form of the SQL: in a DO block too."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.schema.effects import Effect, LockMode

CODE = "long-lock"
HELP = (
    "An index: CREATE INDEX CONCURRENTLY IF NOT EXISTS, alone in a revision with transactional = False. A constraint:"
    " NOT VALID here, and VALIDATE CONSTRAINT in the next revision. Where the table is small, say so in"
    " alembic/lint.toml."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find statements that read every row of a table in use, under a lock that keeps writes out, or all."""
    for function in subject.functions:
        held: dict[str, LockMode] = {}
        for statement in function.measured.statements:
            for effect in statement.effects:
                taken = max(effect.lock or LockMode.ACCESS_SHARE, effect.index_lock or LockMode.ACCESS_SHARE)
                held[effect.relation] = max(taken, held.get(effect.relation, taken))
            reading = [effect for effect in statement.effects if _reads(effect) and held[effect.relation].blocks]
            if reading:
                names = ", ".join(effect.relation for effect in reading)
                why = " to build an index" if any(effect.index_built for effect in reading) else ""
                kept_out = max(held[effect.relation] for effect in reading).blocks
                message = f"{function.name}() reads every row of {names}{why}, and keeps {kept_out} out."
                yield subject.finding(statement.line, CODE, message, HELP)


def _reads(effect: Effect) -> bool:
    """Whether every row of a table is read; what writes or removes rows as well is another rule's."""
    others = effect.rewritten or effect.rows_changed or effect.emptied or effect.dropped
    return not (effect.kind or others) and (effect.index_built or effect.scanned)
