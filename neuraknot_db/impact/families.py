"""Partitions and heirs: what locks a table often locks those below it, and sometimes the one above."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from neuraknot_db.impact.reader import Reader
from neuraknot_db.impact.values import Effect, LockMode, Name, Work
from neuraknot_db.sqltext import Statement


@dataclass(frozen=True)
class Families:
    """Which tables stand above and below which.

    Attributes:
        below: all below a table: its partitions, its heirs by INHERITS, and theirs.
        partition_of: the partitioned table right above a partition.
    """

    below: Mapping[Name, tuple[Name, ...]] = field(default_factory=dict)
    partition_of: Mapping[Name, Name] = field(default_factory=dict)


_TO_ALL_BELOW = frozenset({"ALTER TABLE", "DROP TABLE", "TRUNCATE", "LOCK", "UPDATE", "DELETE", "SELECT", "MERGE"})
_TO_PARTITIONS = frozenset(
    {"CREATE INDEX", "CREATE UNIQUE INDEX", "DROP INDEX", "CREATE TRIGGER", "CREATE OR REPLACE TRIGGER"}
    | {"CREATE CONSTRAINT TRIGGER", "DROP TRIGGER", "ALTER TRIGGER"}
)
_TO_HEIRS = frozenset({"CREATE PUBLICATION", "ALTER PUBLICATION"})
_STAYS_AT_ITS_TABLE = (
    *("owner to", "rename to", "set (", "reset (", "set logged", "set unlogged", "set schema", "set tablespace"),
    *("set access method", "replica identity", "cluster on", "set without cluster", "inherit", "no inherit"),
    *("enable row", "disable row", "force row", "no force row", "attach partition", "detach partition"),
)
"""Actions of ALTER TABLE."""


def spread(form: str, statement: Statement, effects: Iterator[Effect], families: Families) -> Iterator[Effect]:
    """The effects of a statement with those on the tables below, and above, of the tables that it names."""
    alone = set(_alone(form, statement))
    for effect in effects:
        yield effect
        above = families.partition_of.get(effect.table)
        if above and form == "DROP TABLE" and effect.work == Work.LOSS:
            yield Effect(above, LockMode.ACCESS_EXCLUSIVE, Work.CATALOG, "it loses a partition")
        is_partitioned = effect.table in families.partition_of.values()
        reaches = form in _TO_ALL_BELOW or form in (_TO_PARTITIONS if is_partitioned else _TO_HEIRS)
        for name in families.below.get(effect.table, ()) if reaches and effect.table not in alone else ():
            yield replace(effect, table=name, why=f"it is below {effect.table}")


def _alone(form: str, statement: Statement) -> Iterator[Name]:
    """The tables behind ONLY, and that of an ALTER TABLE none of whose actions goes further."""
    reader = Reader(statement.tokens)
    actions: tuple[Reader, ...] = ()
    if form == "ALTER TABLE":
        reader.accept("alter table if exists", "alter table")
        names = reader.names()
        actions = reader.items()
        if all(any(item.at(words) for words in _STAYS_AT_ITS_TABLE) for item in actions):
            yield from names
    if any(item.at("drop") for item in actions):
        return  # the heirs keep what they had from it, and are locked to say so
    for index, token in enumerate(statement.tokens):
        behind = Reader(statement.tokens[index + 1 :])
        if token.kind == "name" and token.text.lower() == "only" and (name := behind.name()):
            yield name
