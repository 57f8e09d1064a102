"""The tables that queries read and change."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from neuraknot_db.catalog import Schema
from neuraknot_db.impact.reader import Reader
from neuraknot_db.impact.values import Effect, LockMode, Name, Work


def changes(reader: Reader, _schema: Schema) -> Iterator[Effect]:
    """INSERT, UPDATE, DELETE and MERGE: the rows of one table, and reads of others."""
    reader.accept("only")
    table = reader.name()
    if table:
        yield Effect(table, LockMode.ROW_EXCLUSIVE, Work.ROWS)
    yield from (effect for effect in reads(reader) if effect.table != table)


_WITH_FROM_INSIDE = frozenset({"extract", "substring", "trim", "overlay"})
"""Functions whose arguments have a FROM of their own."""


def reads(reader: Reader) -> Iterator[Effect]:
    """The tables behind FROM, JOIN and USING, in subqueries too; names of common table expressions are none.

    Where rows are locked anywhere, all are taken for tables of these rows.
    """
    keywords = " ".join(token.text.lower() for token in reader.rest if token.kind == "name")
    locks_rows = re.search(r"\bfor (?:no key update|update|key share|share)\b", keywords)
    mode = LockMode.ROW_SHARE if locks_rows else LockMode.ACCESS_SHARE
    words = [token.text.lower() for token in reader.rest]
    common = {
        Reader(reader.rest[index - 1 : index]).name()
        for index, word in enumerate(words)
        if index and word == "as" and words[index + 1 : index + 2] == ["("]
    }
    callers: list[str] = []
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        if word == "(":
            callers.append(before)
        elif word == ")" and callers:
            callers.pop()
        is_clause = word in ("from", "join", "using") and reader.rest[index].kind == "name"
        if is_clause and before != "distinct" and not (callers and callers[-1] in _WITH_FROM_INSIDE):
            yield from (Effect(name, mode, Work.ROWS) for name in _listed(reader, index + 1, common))


def _listed(reader: Reader, start: int, common: Collection[Name | None]) -> Iterator[Name]:
    """The tables from a place on, with aliases and commas between them."""
    found = Reader(reader.rest[start:])
    while True:
        found.accept("only", "lateral")
        name = found.name()
        if name is None or found.at("("):  # a subquery, which has a FROM of its own, or a function
            return
        if name not in common:
            yield name
        if found.accept("as") or (found.rest and not found.at(",")):
            found.rest = found.rest[1:]
        if not found.accept(","):
            return


def with_query(reader: Reader, schema: Schema) -> Iterator[Effect]:
    """WITH: whatever its parts change, and what they read."""
    for index, token in enumerate(reader.rest):
        # FOR UPDATE, FOR NO KEY UPDATE, ON CONFLICT DO UPDATE, WHEN MATCHED THEN UPDATE.
        if index and reader.rest[index - 1].text.lower() in ("for", "key", "do", "then"):
            continue
        for words in ("insert into", "update", "delete from", "merge into"):
            behind = Reader(reader.rest[index:])
            if token.kind == "name" and behind.accept(words):
                yield from (each for each in changes(behind, schema) if each.mode == LockMode.ROW_EXCLUSIVE)
    yield from reads(reader)


def copy(reader: Reader, _schema: Schema) -> Iterator[Effect]:
    """COPY, in either direction."""
    if name := reader.name():
        reader.parenthesized()
        yield Effect(name, LockMode.ROW_EXCLUSIVE if reader.at("from") else LockMode.ACCESS_SHARE, Work.ROWS)
