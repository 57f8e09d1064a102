"""A revision that locks one table while it waits for another."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.database.sql_text import tokens
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
        locked = _locked(function)
        if len(locked) > 1:
            tables = ", ".join(f"{name} ({mode})" for name, (mode, _) in locked.items())
            second = list(locked.values())[1][1]
            yield subject.finding(
                second.line, CODE, f"{function.name}() locks {len(locked)} tables in use: {tables}.", HELP
            )


def _locked(function: RevisionFunction) -> dict[str, tuple[LockMode, Measured]]:
    """Return the tables in use, each with its strongest lock and the statement that first takes one."""
    locked: dict[str, tuple[LockMode, Measured]] = {}
    for statement in function.measured.statements:
        for relation, lock in _chosen(statement).items():
            mode, first = locked.get(relation, (lock, statement))
            locked[relation] = max(mode, lock), first
    return locked


def _chosen(statement: Measured) -> dict[str, LockMode]:
    """Return the locks of a statement, without those that come with another: of the other ends of foreign keys."""
    found: dict[str, LockMode] = {}
    for effect in statement.effects:
        lock = max(effect.lock or LockMode.ACCESS_SHARE, effect.index_lock or LockMode.ACCESS_SHARE)
        if lock.blocks and not effect.kind:
            found[effect.relation] = lock
    words = [token.text.strip('"') if '"' in token.text else token.text.lower() for token in tokens(statement.sql)]
    named = [word for word in words[2:] if word not in ("if", "exists", "only")]
    match words[:2]:
        case ["create", "table"]:
            return dict(list(found.items())[:1])
        case ["alter", "table"]:
            named = named[:3] if named[1:2] == ["."] else named[:1]
        case ["drop", "table"]:
            pass
        case _:
            return found
    return {name: lock for name, lock in found.items() if name.rpartition(".")[2].strip('"') in named}
