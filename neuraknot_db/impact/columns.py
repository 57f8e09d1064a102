"""When a column can be added or changed without writing its table anew."""

from __future__ import annotations

import re
from collections.abc import Sequence

from neuraknot_db.catalog import Table
from neuraknot_db.impact.reader import Reader, plain
from neuraknot_db.sqltext import Token, tokens

_CONSTRAINT_WORDS = (
    *("constraint", "not null", "null", "check", "unique", "primary key", "references", "generated", "collate"),
)

_STEADY = frozenset(
    {"now", "transaction_timestamp", "statement_timestamp", "current_setting", "lower", "upper", "length", "replace"}
    | {"concat", "coalesce", "nullif", "greatest", "least", "date_trunc", "to_char", "to_timestamp", "to_date", "abs"}
    | {"make_date", "make_interval", "round", "floor", "ceil", "array_fill", "jsonb_build_object", "jsonb_build_array"}
    | {"json_build_object", "json_build_array", "to_jsonb", "to_json", "md5", "varchar", "numeric", "char", "decimal"}
    | {"timestamp", "time", "interval", "bit", "varying", "cast", "row", "array"}
)
"""Functions, and types that look like calls, that are not volatile."""

_VOLATILE = frozenset(
    {"random", "clock_timestamp", "timeofday", "nextval", "setval", "gen_random_uuid", "gen_random_bytes", "uuidv4"}
    | {"uuidv7", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"}
)


def volatility(default: Reader) -> str:
    """Why a default may differ from row to row, which makes the server write every row; empty if it can't."""
    suspect = ""
    reader = Reader(default.rest)
    while reader.rest and not any(reader.at(words) for words in _CONSTRAINT_WORDS):
        token = reader.rest[0]
        following = reader.rest[1] if len(reader.rest) > 1 else None
        if token.kind in ("name", "quoted name") and following and following.text == "(":
            function = token.text.lower().strip('"')
            if function in _VOLATILE:
                return f"{function}() is volatile"
            if function not in _STEADY:
                suspect = suspect or f"unless {function}() is not volatile"
        reader.rest = reader.rest[1:]
    return suspect


_TYPE_NAMES = {
    "varchar": "character varying",
    "char": "character",
    "varbit": "bit varying",
    "decimal": "numeric",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "bool": "boolean",
    "float8": "double precision",
    "float4": "real",
    "timestamptz": "timestamp with time zone",
    "timetz": "time with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
}


def spelled(words: Sequence[str]) -> str:
    """A type as `format_type` spells it, from its tokens in lower case."""
    text = re.sub(r" ?([(),\[\].]) ?", r"\1", " ".join(words))
    base, opening, behind = text.partition("(")
    limits, closing, behind = behind.partition(")")
    limits, behind = opening + limits + closing, behind.strip()
    if behind.endswith("time zone"):
        return f"{base.strip()}{limits} {behind}"
    first, _, more = _TYPE_NAMES.get(base.strip(), base.strip()).partition(" ")
    if first in ("timestamp", "time"):  # their limit stands in the middle
        return f"{first}{limits} {more}{behind}"
    return f"{first} {more}".strip() + limits + behind


def same_bytes(old: str, new: str) -> bool:
    """Whether the server can leave a column's values as they are when its type changes."""
    if old == new:
        return True
    (old_base, old_limits), (new_base, new_limits) = _parts(old), _parts(new)
    if new_base in ("text", "character varying") and old_base in ("text", "character varying"):
        return not new_limits or bool(old_limits and old_limits[0] <= new_limits[0])
    if (old_base, new_base) == ("cidr", "inet"):
        return True
    if old_base != new_base:
        return False
    if old_base == "numeric":
        # The scale is how values are stored; only the precision may grow.
        return not new_limits or (
            len(old_limits) == len(new_limits) == 2
            and old_limits[1] == new_limits[1]
            and old_limits[0] <= new_limits[0]
        )
    if old_base.startswith(("bit varying", "timestamp", "time", "interval")):
        return not new_limits or bool(old_limits and old_limits[0] <= new_limits[0])
    return False


def _parts(name: str) -> tuple[str, tuple[int, ...]]:
    """A type without its limits, and those."""
    limits = re.search(r"\((\d+(?:,-?\d+)*)\)", name)
    numbers = tuple(int(number) for number in limits[1].split(",")) if limits else ()
    return re.sub(r"\([\d,-]+\)", "", name), numbers


def proves_not_null(definition: str, column: str) -> bool:
    """Whether a CHECK says, alone or among what must hold too, that the column is not NULL."""
    reader = Reader(tuple(tokens(definition)))
    reader.accept("check")
    return _demands(reader.parenthesized(), column)


def _demands(condition: Sequence[Token], column: str) -> bool:
    whole = Reader(condition)
    inner = whole.parenthesized()
    if inner and not whole.rest:
        return _demands(inner, column)
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in condition:
        if token.kind == "punctuation":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        word = token.text.lower() if token.kind == "name" and depth == 0 else ""
        if word in ("or", "case"):
            return False
        if word == "and":
            parts.append([])
        else:
            parts[-1].append(token)
    if len(parts) > 1:
        return any(_demands(part, column) for part in parts)
    reader = Reader(condition)
    return reader.identifier() == column and reader.accept("is not null") is not None and not reader.rest


def is_checked(table: Table, column: str) -> bool:
    """Whether one of the table's CHECKs reads the column."""
    return any(
        plain(token) == column
        for each in table.constraints.values()
        if each.kind == "check"
        for token in tokens(each.definition)
        if token.kind in ("name", "quoted name")
    )
