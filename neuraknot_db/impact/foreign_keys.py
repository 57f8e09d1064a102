"""Which tables refer to which, and the locks that come with that."""

from __future__ import annotations

from collections.abc import Iterator, Set

from neuraknot_db.catalog import Schema, Table
from neuraknot_db.impact.reader import Reader
from neuraknot_db.impact.values import Effect, LockMode, Name, Work
from neuraknot_db.sqltext import tokens


def table_of(schema: Schema, name: Name) -> Table | None:
    """What is known of a table, None for nothing."""
    return schema.tables.get(name.name) if name.schema == "public" else None


def references(table: Name, reader: Reader, *, new_table: bool) -> Iterator[Effect]:
    """The lock that a foreign key takes on the table that it refers to."""
    if reader.seek("references") and (target := reader.name()) and target != table:
        why = "" if new_table else "the foreign key's triggers are made here too"
        yield Effect(target, LockMode.SHARE_ROW_EXCLUSIVE, Work.CATALOG, why)


def referred_to(table: Table | None, *, constraint: str | None = None, column: str | None = None) -> Iterator[Name]:
    """The other tables that a table's foreign keys refer to; only those of one constraint, or of one column."""
    for each in table.constraints.values() if table else ():
        if each.kind != "foreign key" or constraint not in (None, each.name):
            continue
        columns, target, _ = _foreign_key(each.definition)
        if target and table and target != Name("public", table.name) and (column is None or column in columns):
            yield target


def referring(schema: Schema, target: Name, columns: Set[str] | None = None) -> Iterator[Name]:
    """The other tables with a foreign key to a table; only where it refers to some of these columns."""
    for table in schema.tables.values():
        name = Name("public", table.name)
        for each in table.constraints.values() if name != target else ():
            if each.kind == "foreign key":
                _, to, theirs = _foreign_key(each.definition)
                if to == target and (columns is None or columns & theirs):
                    yield name
                    break


def key_columns(definition: str) -> Set[str]:
    """The columns of a primary key or a UNIQUE; none for another constraint."""
    reader = Reader(tuple(tokens(definition)))
    return _columns(reader) if reader.accept("primary key", "unique nulls not distinct", "unique") else frozenset()


def _foreign_key(definition: str) -> tuple[Set[str], Name | None, Set[str]]:
    """Its columns, the table that it refers to, and the columns there."""
    reader = Reader(tuple(tokens(definition)))
    reader.accept("foreign key")
    columns = _columns(reader)
    reader.accept("references")
    return columns, reader.name(), _columns(reader)


def _columns(reader: Reader) -> Set[str]:
    return {name.name for name in Reader(reader.parenthesized()).names()}
