"""What a statement does to tables in use, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class LockMode(IntEnum):
    """PostgreSQL's table locks, the weakest first (https://www.postgresql.org/docs/current/explicit-locking.html)."""

    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    def __str__(self) -> str:
        return self.name.replace("_", " ")

    @property
    def blocks(self) -> str:
        """What the application can't do to the table meanwhile, in words; empty for nothing."""
        if self == LockMode.ACCESS_EXCLUSIVE:
            return "reads and writes"
        return "writes" if self >= LockMode.SHARE else ""


class Work(IntEnum):
    """What a statement has to do while it holds the lock, the lightest first."""

    CATALOG = 0
    ROWS = 1
    SCAN = 2
    INDEX = 3
    REWRITE = 4
    LOSS = 5

    def __str__(self) -> str:
        return _WORK[self]


_WORK = {
    Work.CATALOG: "catalogs only",
    Work.ROWS: "touches rows",
    Work.SCAN: "reads every row",
    Work.INDEX: "reads every row to build an index",
    Work.REWRITE: "writes the whole table and its indexes anew",
    Work.LOSS: "every row goes",
}


class Name(NamedTuple):
    """A relation's name; unqualified ones are in `public`, where the migration's search path leads."""

    schema: str
    name: str

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Effect:
    """What a statement does to one table.

    Attributes:
        table: the table, or an index whose table is not known.
        mode: the strongest lock that it takes.
        work: the heaviest that it does under it.
        why: a condition or a reason, where the form of the statement does not say it; empty for none.
    """

    table: Name
    mode: LockMode
    work: Work = Work.CATALOG
    why: str = ""


@dataclass(frozen=True)
class Impact:
    """What a statement does.

    Attributes:
        form: its leading words, such as `ALTER TABLE`.
        effects: one for each table, in the order of the locks.
        creates: relations that it makes: they are not in use yet.
        opaque: why its locks can't be told, such as a DO block; empty where they can.
    """

    form: str
    effects: tuple[Effect, ...] = ()
    creates: tuple[Name, ...] = ()
    opaque: str = ""


def merged(effects: Iterable[Effect]) -> tuple[Effect, ...]:
    """One effect for each table: its strongest lock, its heaviest work, and every reason for it."""
    found: dict[Name, Effect] = {}
    for effect in effects:
        before = found.get(effect.table)
        if before is None:
            found[effect.table] = effect
            continue
        reasons = {each.why: None for each in (before, effect) if each.why}
        heaviest = max(before.work, effect.work)
        found[effect.table] = Effect(effect.table, max(before.mode, effect.mode), heaviest, "; ".join(reasons))
    return tuple(found.values())
