"""What statements on indexes do to the tables under them."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.catalog import Schema
from neuraknot_db.impact.reader import Reader
from neuraknot_db.impact.values import Effect, LockMode, Name, Work


def create_index(reader: Reader, _schema: Schema) -> Iterator[Effect]:
    """CREATE INDEX: writers wait for a build that is not concurrent."""
    concurrently = reader.accept("concurrently")
    if reader.seek("on"):
        reader.accept("only")
        if table := reader.name():
            why = "in two passes, while the application goes on" if concurrently else ""
            yield Effect(table, LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently else LockMode.SHARE, Work.INDEX, why)


def drop_index(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """DROP INDEX: the lock is on its table too."""
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if reader.accept("concurrently") else LockMode.ACCESS_EXCLUSIVE
    reader.accept("if exists")
    for index in reader.names():
        yield Effect(_table_of_index(index, schema), mode)


def reindex(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """REINDEX of an index or a table."""
    options = {token.text.lower() for token in reader.parenthesized()}
    what = reader.accept("index", "table")
    concurrently = reader.accept("concurrently") or "concurrently" in options
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently else LockMode.SHARE
    if what and (name := reader.name()):
        table = _table_of_index(name, schema) if what == "index" else name
        yield Effect(
            table,
            mode,
            Work.INDEX,
            "" if mode == LockMode.SHARE_UPDATE_EXCLUSIVE else "queries that would use the index wait",
        )


def alter_index(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """ALTER INDEX: only what keeps queries from using it."""
    reader.accept("if exists")
    name = reader.name()
    # These lock the index itself, and too weakly to stop a query; the others stop all that could use it.
    mild = reader.at("rename") or reader.at("set (") or reader.at("reset (") or reader.at("alter column")
    if name and not mild:
        yield Effect(_table_of_index(name, schema), LockMode.ACCESS_EXCLUSIVE, why=f"on the index {name} alone")


def _table_of_index(index: Name, schema: Schema) -> Name:
    """The index's table; the index itself where that is not known."""
    for table in schema.tables.values():
        if index.schema == "public" and (index.name in table.indexes or index.name in table.constraints):
            return Name("public", table.name)
    return index
