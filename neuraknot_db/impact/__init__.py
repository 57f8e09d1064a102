"""What a statement locks and does, told before it is run: PostgreSQL's manual as a table.

https://www.postgresql.org/docs/current/explicit-locking.html and the page of each command. What depends on the
tables as they are (a type that changes, a CHECK that proves there is no NULL) is looked up in a `Schema`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from neuraknot_db.catalog import Schema
from neuraknot_db.impact.alter_table import alter_table, references, referred_to, table_of
from neuraknot_db.impact.indexes import alter_index, create_index, drop_index, reindex
from neuraknot_db.impact.queries import changes, reads, select, with_query
from neuraknot_db.impact.reader import Reader
from neuraknot_db.impact.values import Effect, Impact, LockMode, Name, Work, merged
from neuraknot_db.sqltext import Statement, statements

__all__ = ["Effect", "Impact", "LockMode", "Name", "Work", "impact"]

NOTHING = Schema()
"""Nothing is known of the tables: what depends on them is told as the worse of the two."""

_Effects = Iterator[Effect]
_Form = Callable[[Reader, Schema], _Effects]


def impact(statement: Statement, schema: Schema = NOTHING) -> Impact:
    """What a statement locks and does.

    Args:
        statement: one that `sqltext.statements` has found.
        schema: the tables as they are before it.
    """
    reader = Reader(statement.tokens)
    for words, form in _FORMS:
        if reader.at(words):
            body = Reader(reader.rest)
            body.accept(words)
            shown = words.removesuffix(" on").removesuffix(" into").removesuffix(" from").upper()
            effects = merged(form(body, schema))
            return Impact(shown, effects, tuple(_created(reader)), _OPAQUE.get(words, ""))
    word = statement.tokens[0].text.upper()
    return Impact(word, opaque="" if word in _HARMLESS else "this form of statement is not known here")


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


def _drop_table(reader: Reader, schema: Schema) -> _Effects:
    reader.accept("if exists")
    tables = reader.names()
    why = "CASCADE: what depends on it is locked and goes too" if reader.at("cascade") else ""
    for table in tables:
        yield Effect(table, _AE, Work.CATALOG, why)
    for table in tables:
        for other in referred_to(table_of(schema, table)):
            if other not in tables:
                yield Effect(other, _AE, Work.CATALOG, "the foreign key's triggers go here too")


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


def _refresh(reader: Reader, _schema: Schema) -> _Effects:
    concurrently = reader.accept("concurrently")
    if name := reader.name():
        mode, work = (LockMode.EXCLUSIVE, Work.ROWS) if concurrently else (_AE, Work.REWRITE)
        yield Effect(name, mode, work)


def _vacuum(reader: Reader, _schema: Schema) -> _Effects:
    options = {token.text.lower() for token in reader.parenthesized()}
    while word := reader.accept("full", "freeze", "verbose", "analyze"):
        options.add(word)
    full = "full" in options
    for name in reader.names():
        yield Effect(name, _AE if full else _SUE, Work.REWRITE if full else Work.SCAN)


def _copy(reader: Reader, _schema: Schema) -> _Effects:
    if name := reader.name():
        reader.parenthesized()
        yield Effect(name, LockMode.ROW_EXCLUSIVE if reader.at("from") else LockMode.ACCESS_SHARE, Work.ROWS)


def _do(reader: Reader, schema: Schema) -> _Effects:
    """The statements that stand in the body of a DO block as they are, not those that it puts together."""
    for token in reader.rest:
        if token.kind == "string" and token.text.startswith("$"):
            for inner in statements(token.text[token.text.index("$", 1) + 1 : token.text.rindex("$", 0, -1)]):
                body = Reader(inner.tokens)
                while body.rest and not any(body.at(words) for words, _ in _IN_A_BLOCK):
                    body.rest = body.rest[1:]
                for words, form in _IN_A_BLOCK:
                    if body.accept(words):
                        yield from form(body, schema)
                        break


_FORMS: Sequence[tuple[str, _Form]] = (
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
    ("create statistics", _behind("from", _SUE)),
    ("create materialized view", lambda reader, _schema: reads(reader)),
    ("create view", lambda reader, _schema: reads(reader)),
    ("create or replace view", lambda reader, _schema: reads(reader)),
    ("drop table", _drop_table),
    ("drop index", drop_index),
    ("drop trigger", _behind("on", _AE)),
    ("drop policy", _behind("on", _AE)),
    ("drop rule", _behind("on", _AE)),
    ("drop view", _each(_AE)),
    ("drop materialized view", _each(_AE)),
    ("truncate table", _each(_AE)),
    ("truncate", _each(_AE)),
    ("comment on", _comment),
    ("insert into", changes),
    ("update", changes),
    ("delete from", changes),
    ("merge into", changes),
    ("with", with_query),
    ("select", select),
    ("table", _on(LockMode.ACCESS_SHARE, Work.ROWS)),
    ("copy", _copy),
    ("lock", _lock),
    ("reindex", reindex),
    ("cluster", _on(_AE, Work.REWRITE)),
    ("refresh materialized view", _refresh),
    ("vacuum", _vacuum),
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

_OPAQUE: Mapping[str, str] = {
    "do": "what else a DO block locks shows only when it runs",
    "call": "what a procedure locks shows only when it runs",
    "execute": "a prepared statement is not read here",
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
