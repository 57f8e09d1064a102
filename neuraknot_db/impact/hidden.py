"""What a query locks without naming it: the tables below a view, and those that a function touches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from neuraknot_db.catalog import Function, Schema
from neuraknot_db.impact.reader import Reader, plain
from neuraknot_db.impact.values import Effect, Name
from neuraknot_db.sqltext import Statement, Token

_NAMES = ("name", "quoted name")


def unnamed(statement: Statement, effects: Sequence[Effect], schema: Schema) -> str:
    """Why a query may lock more than it names; empty where it reads no view and calls only what is built in.

    Args:
        statement: the query.
        effects: on the relations that it names.
        schema: the views and functions that there are.
    """
    for table in (effect.table for effect in effects if effect.table.schema == "public"):
        if schema.others.get(table.name) == "view":
            return f"{table} is a view: what it reads is locked too, and not told here"
    known = {signature.partition("(")[0] for signature in schema.functions}
    for called in _calls(statement.tokens):
        if called.name in known if called.schema == "public" else called.schema != "pg_catalog":
            return f"what the function {called} locks shows only when it runs"
    return ""


def _calls(tokens: Sequence[Token]) -> Iterator[Name]:
    """The functions that are called, and whatever else is a name that parentheses follow."""
    for index, token in enumerate(tokens):
        if token.text != "(" or not index or tokens[index - 1].kind not in _NAMES:
            continue
        start = index - 1
        qualified = start > 1 and tokens[start - 1].text == "." and tokens[start - 2].kind in _NAMES
        start -= 2 * qualified
        # A list of columns.
        if not start or tokens[start - 1].text.lower() not in ("into", "copy"):
            yield Name(plain(tokens[start]) if qualified else "public", plain(tokens[index - 1]))


def after(statement: Statement, schema: Schema) -> Schema:
    """The schema with the view or function that a statement makes, which later ones may read or call."""
    made = Reader(statement.tokens)
    if made.accept("create or replace", "create"):
        kind = made.accept("view", "function")
        name = made.name() if kind else None
        if name and name.schema == "public" and kind == "view":
            return replace(schema, others={**schema.others, name.name: "view"})
        if name and name.schema == "public":
            function = Function(f"{name.name}()", None, "", "")
            return replace(schema, functions={**schema.functions, function.signature: function})
    return schema
