"""What a statement locks and does, told before it is run: PostgreSQL's manual as a table.

https://www.postgresql.org/docs/current/explicit-locking.html and the page of each command. What depends on the
tables as they are (a type that changes, a CHECK that proves there is no NULL) is looked up in a `Schema`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from neuraknot_db.catalog import Schema
from neuraknot_db.impact.alter_table import alter_table
from neuraknot_db.impact.blocks import in_block
from neuraknot_db.impact.cascades import drop_function, drop_schema, drop_table, drop_type, truncate
from neuraknot_db.impact.families import Families, spread
from neuraknot_db.impact.foreign_keys import references
from neuraknot_db.impact.hidden import after, unnamed
from neuraknot_db.impact.indexes import alter_index, create_index, drop_index, reindex
from neuraknot_db.impact.queries import changes, copy, reads, with_query
from neuraknot_db.impact.reader import Reader
from neuraknot_db.impact.upkeep import refresh, vacuum
from neuraknot_db.impact.values import Effect, Impact, LockMode, Name, Work, merged
from neuraknot_db.sqltext import Statement

__all__ = ["Effect", "Families", "Impact", "LockMode", "Name", "Work", "after", "impact", "parts"]

NOTHING = Schema()
"""Nothing is known of the tables: what depends on them is told as the worse of the two."""

NO_FAMILIES = Families()

_FROM_TABLE_TO_TABLE = "it goes from table to table, and locks each"

_Effects = Iterator[Effect]
_Form = Callable[[Reader, Schema], _Effects]


def impact(statement: Statement, schema: Schema = NOTHING, families: Families = NO_FAMILIES) -> Impact:
    """What a statement locks and does.

    Args:
        statement: one that `sqltext.statements` has found.
        schema: the tables as they are before it.
        families: the partitions and heirs that there are.
    """
    reader = Reader(statement.tokens)
    for words, form in _FORMS:
        if reader.at(words):
            body = Reader(reader.rest)
            body.accept(words)
            shown = words.removesuffix(" on").removesuffix(" into").removesuffix(" from").upper()
            shown = "TRUNCATE" if words == "truncate table" else shown
            effects = merged(spread(shown, statement, form(body, schema), families))
            opaque = _OPAQUE.get(words) or _reach(statement, effects)
            if not opaque and words in _QUERIES:
                opaque = unnamed(statement, effects, schema)
            return Impact(shown, effects, tuple(_created(reader)), opaque)
    word = statement.tokens[0].text.upper()
    unknown = "" if word in _HARMLESS else "this form of statement is not known here"
    return Impact(word, opaque=unknown or _reach(statement))


def parts(statement: Statement) -> Iterator[Reader]:
    """The statement, or of a DO block the statements within that change something, each from its first word on."""
    reader = Reader(statement.tokens)
    if reader.accept("do"):
        yield from _within(reader)
    else:
        yield reader


def _within(block: Reader) -> Iterator[Reader]:
    for inner in in_block(block.rest):
        body = Reader(inner.tokens)
        while body.rest and not any(body.at(words) for words, _ in _IN_A_BLOCK):
            body.rest = body.rest[1:]
        if body.rest:
            yield body


def _reach(statement: Statement, effects: Sequence[Effect] = ()) -> str:
    """Why it may lock what nothing here knows of: CASCADE, but not that of ON DELETE CASCADE."""
    words = [token.text.lower() for token in statement.tokens if token.kind != "string"]
    cascades = any(word == "cascade" and words[at - 1] not in ("delete", "update") for at, word in enumerate(words))
    if cascades and words[0] in ("alter", "drop", "truncate"):
        return "what else goes by CASCADE is locked too, and shows only when it runs"
    of_all = words[0] in ("cluster", "reindex") or (words[0] == "vacuum" and "full" in words)
    return _FROM_TABLE_TO_TABLE if of_all and not effects else ""


# ------------------------------------------------------------------------------------------------ building blocks


def _nothing(_reader: Reader, _schema: Schema) -> _Effects:
    return iter(())


def _on(mode: LockMode, work: Work = Work.CATALOG) -> _Form:
    """The first name, after IF EXISTS and the like."""

    def effects(reader: Reader, _schema: Schema) -> _Effects:
        reader.accept("if exists", "if not exists")
        reader.accept("only")
        if name := reader.name():
            yield Effect(name, mode, work)

    return effects


def _behind(word: str, mode: LockMode, work: Work = Work.CATALOG) -> _Form:
    """The name behind a word, such as ON."""

    def effects(reader: Reader, schema: Schema) -> _Effects:
        if reader.seek(word):
            yield from _on(mode, work)(reader, schema)

    return effects


def _each(mode: LockMode, work: Work = Work.CATALOG) -> _Form:
    """Each name of a list."""

    def effects(reader: Reader, _schema: Schema) -> _Effects:
        reader.accept("if exists")
        for name in reader.names():
            yield Effect(name, mode, work)

    return effects


_AE, _SRE, _SUE = LockMode.ACCESS_EXCLUSIVE, LockMode.SHARE_ROW_EXCLUSIVE, LockMode.SHARE_UPDATE_EXCLUSIVE

# ------------------------------------------------------------------------------------------------ tables


def _create_table(reader: Reader, _schema: Schema) -> _Effects:
    reader.accept("if not exists")
    table = reader.name()
    if table is None:
        return
    if reader.accept("partition of") and (parent := reader.name()):
        yield Effect(parent, _AE)
    if reader.has("as"):
        yield from reads(reader)
        return
    for item in Reader(reader.parenthesized()).items():
        if item.accept("like") and (model := item.name()):
            yield Effect(model, LockMode.ACCESS_SHARE)
        else:
            yield from references(table, item, new_table=True)
    if reader.accept("inherits"):
        for parent in Reader(reader.parenthesized()).names():
            yield Effect(parent, _SUE)


def _lock(reader: Reader, _schema: Schema) -> _Effects:
    reader.accept("table")
    tables = reader.names()
    mode = _AE
    if reader.accept("in"):
        words = [token.text.upper() for token in reader.rest]
        spelled = "_".join(words[: words.index("MODE")]) if "MODE" in words else ""
        mode = LockMode.__members__.get(spelled, _AE)
    for table in tables:
        yield Effect(table, mode)


# ------------------------------------------------------------------------------------------------ the rest


def _comment(reader: Reader, _schema: Schema) -> _Effects:
    mode = _SUE
    if reader.accept("table", "view", "materialized view", "foreign table"):
        name = reader.name()
    elif reader.accept("column"):
        name = _without_last(reader)
    elif reader.accept("constraint", "trigger", "policy", "rule"):
        name = reader.name() if reader.seek("on") and not reader.at("domain") else None
        mode = LockMode.ACCESS_SHARE
    else:
        name = None
    if name:
        yield Effect(name, mode)


def _without_last(reader: Reader) -> Name | None:
    """The table of a column that is written as table.column or schema.table.column."""
    parts = []
    while (part := reader.identifier()) is not None:
        parts.append(part)
        if not reader.accept("."):
            break
    if len(parts) < 2:
        return None
    return Name(parts[-3] if len(parts) > 2 else "public", parts[-2])


def _create_trigger(reader: Reader, schema: Schema) -> _Effects:
    events = Reader(reader.rest)
    yield from _behind("on", _SRE)(reader, schema)
    if events.seek("from") and (other := events.name()):
        yield Effect(other, _SRE)


def _publication(reader: Reader, _schema: Schema) -> _Effects:
    """Each table of the list; that of a whole schema, or of all, locks none."""
    if not reader.seek("for table", "add table", "set table", "drop table"):
        return
    for item in reader.items():
        item.accept("table")
        item.accept("only")
        if not item.at("tables in schema") and (name := item.name()):
            yield Effect(name, _SUE)


def _do(reader: Reader, schema: Schema) -> _Effects:
    """What can be read in the body of a DO block, not what it puts together."""
    for part in _within(reader):
        for words, form in _IN_A_BLOCK:
            if part.accept(words):
                yield from form(part, schema)
                break


_FORMS: Sequence[tuple[str, _Form]] = (
    ("alter table all in tablespace", _nothing),
    ("alter index all in tablespace", _nothing),
    ("alter materialized view all in tablespace", _nothing),
    ("alter table", alter_table),
    ("alter index", alter_index),
    ("alter materialized view", _on(_AE)),
    ("alter view", _on(_AE)),
    ("alter trigger", _behind("on", _AE)),
    ("alter policy", _behind("on", _AE)),
    ("alter rule", _behind("on", _AE)),
    ("create table", _create_table),
    ("create unlogged table", _create_table),
    ("create temp table", _create_table),
    ("create temporary table", _create_table),
    ("create index", create_index),
    ("create unique index", create_index),
    ("create trigger", _create_trigger),
    ("create or replace trigger", _create_trigger),
    ("create constraint trigger", _create_trigger),
    ("create policy", _behind("on", _AE)),
    ("create rule", _behind("to", _AE)),
    ("create or replace rule", _behind("to", _AE)),
    ("create publication", _publication),
    ("alter publication", _publication),
    ("create statistics", _behind("from", _SUE)),
    ("create materialized view", lambda reader, _schema: reads(reader)),
    ("create view", lambda reader, _schema: reads(reader)),
    ("create or replace view", lambda reader, _schema: reads(reader)),
    ("drop table", drop_table),
    ("drop index", drop_index),
    ("drop trigger", _behind("on", _AE)),
    ("drop policy", _behind("on", _AE)),
    ("drop rule", _behind("on", _AE)),
    ("drop view", _each(_AE)),
    ("drop materialized view", _each(_AE)),
    ("drop function", drop_function),
    ("drop procedure", drop_function),
    ("drop routine", drop_function),
    ("drop type", drop_type),
    ("drop domain", drop_type),
    ("drop schema", drop_schema),
    ("drop owned", _nothing),
    ("truncate table", truncate),
    ("truncate", truncate),
    ("comment on", _comment),
    ("insert into", changes),
    ("update", changes),
    ("delete from", changes),
    ("merge into", changes),
    ("with", with_query),
    ("select", lambda reader, _schema: reads(reader)),
    ("table", _on(LockMode.ACCESS_SHARE, Work.ROWS)),
    ("copy", copy),
    ("lock", _lock),
    ("reindex", reindex),
    ("cluster", _on(_AE, Work.REWRITE)),
    ("refresh materialized view", refresh),
    ("vacuum", vacuum),
    ("analyze", _each(_SUE, Work.SCAN)),
    ("do", _do),
    ("call", _nothing),
    ("execute", _nothing),
    ("alter domain", _nothing),
)

_IN_A_BLOCK = tuple(
    (words, form)
    for words, form in _FORMS
    if words.startswith(
        ("alter ", "create ", "drop ", "truncate", "comment", "insert", "update", "delete", "merge", "lock")
    )
)

_QUERIES = frozenset({"insert into", "update", "delete from", "merge into", "with", "select", "table", "copy", "lock"})

_OPAQUE: Mapping[str, str] = {
    **{f"alter {kind} all in tablespace": _FROM_TABLE_TO_TABLE for kind in ("table", "index", "materialized view")},
    "do": "what else a DO block locks shows only when it runs",
    "call": "what a procedure locks shows only when it runs",
    "execute": "a prepared statement is not read here",
    "drop owned": "whatever belongs to the role goes, and shows only when it runs",
    "alter domain": "each table with a column of the domain is read, under SHARE",
}

_HARMLESS = frozenset(
    {"CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "SET", "RESET", "SHOW", "NOTIFY", "SECURITY"}
)
"""Statements that lock no table where no form above says otherwise: functions, types, schemas, roles, settings."""


def _created(reader: Reader) -> Iterator[Name]:
    """The relation that a CREATE makes."""
    made = Reader(reader.rest)
    if not made.accept("create"):
        return
    made.accept("or replace")
    made.accept("unlogged", "temp", "temporary", "unique")
    if made.accept("table", "materialized view", "view", "index", "sequence"):
        made.accept("concurrently")
        made.accept("if not exists")
        if (name := made.name()) and not made.at("."):
            yield name
