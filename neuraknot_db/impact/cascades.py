"""What TRUNCATE and DROP reach beyond the names that they say: foreign keys, triggers, columns of a type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from neuraknot_db.catalog import Schema, Table
from neuraknot_db.impact.foreign_keys import referred_to, referring, table_of
from neuraknot_db.impact.reader import Reader, plain
from neuraknot_db.impact.values import Effect, LockMode, Name, Work
from neuraknot_db.sqltext import tokens

_AE = LockMode.ACCESS_EXCLUSIVE


def truncate(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """TRUNCATE: with CASCADE all that refers to the tables, and to those again, is emptied too."""
    reader.accept("table")
    reached = list(reader.names())
    yield from (Effect(table, _AE, Work.LOSS) for table in reached)
    if reader.has("cascade"):
        for table in reached:  # which grows
            for other in referring(schema, table):
                if other not in reached:
                    reached.append(other)
                    yield Effect(other, _AE, Work.LOSS, f"it refers to {table}, by CASCADE")


def drop_table(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """DROP TABLE: foreign keys go, and with them their triggers on the other table."""
    reader.accept("if exists")
    tables = reader.names()
    yield from (Effect(table, _AE, Work.LOSS) for table in tables)
    for table in tables:
        for other in referred_to(table_of(schema, table)):
            if other not in tables:
                yield Effect(other, _AE, Work.CATALOG, "the foreign key's triggers go here too")
        for other in referring(schema, table) if reader.has("cascade") else ():
            if other not in tables:
                yield Effect(other, _AE, Work.CATALOG, "its foreign key goes too, by CASCADE")


def drop_schema(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """DROP SCHEMA: of the tables in it those of `public` are known."""
    reader.accept("if exists")
    if reader.has("cascade") and any(name.name == "public" for name in reader.names()):
        yield from (Effect(Name("public", name), _AE, Work.LOSS) for name in schema.tables)


def drop_function(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """DROP FUNCTION: with CASCADE the triggers, defaults, CHECKs and indexes that call it go."""
    yield from _with_cascade(reader, schema, _calls, "what calls {name}() goes too, by CASCADE")


def drop_type(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """DROP TYPE and DROP DOMAIN: with CASCADE the columns of that type go."""
    yield from _with_cascade(reader, schema, _has_column_of, "its columns of {name} go too, by CASCADE")


def _with_cascade(reader: Reader, schema: Schema, touches: Callable[[Table, str], bool], why: str) -> Iterator[Effect]:
    reader.accept("if exists")
    if not reader.has("cascade"):
        return  # it fails where something depends on it
    for item in reader.items():
        if name := item.name():
            for table in schema.tables.values():
                if touches(table, name.name):
                    yield Effect(Name("public", table.name), _AE, Work.CATALOG, why.format(name=name))


def _calls(table: Table, function: str) -> bool:
    parts = (table.constraints, table.indexes, table.triggers)
    texts = [each.definition for part in parts for each in part.values()]
    texts += [column.default or "" for column in table.columns.values()]
    for text in texts:
        found = tuple(tokens(text))
        for token, following in pairwise(found):
            if token.kind in ("name", "quoted name") and following.text == "(" and plain(token) == function:
                return True
    return False


def _has_column_of(table: Table, type_name: str) -> bool:
    return any(
        token.kind in ("name", "quoted name") and plain(token) == type_name
        for column in table.columns.values()
        for token in tokens(column.type)
    )
