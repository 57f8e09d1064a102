"""What a diagram shows: tables as boxes with rows, and the references between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from neuraknot_db.database.sql_text import Token, tokens
from neuraknot_db.schema.catalog import Constraint, Schema, Table

_SHORTER = (
    (r"^character varying", "varchar"),
    (r"^character(?=\()", "char"),
    (r"^bit varying", "varbit"),
    (r"^double precision", "double"),
    (r"^(timestamp|time)(\(\d\))? without time zone", r"\1\2"),
    (r"^(timestamp|time)(\(\d\))? with time zone", r"\1tz\2"),
)
"""PostgreSQL's own short names for types with long ones."""


@dataclass(frozen=True)
class Row:
    """A column in its table's box.

    Attributes:
        marks: those that apply of `PK`, `FK`, `UQ` (unique on its own).
        type: PostgreSQL's short name for it.
    """

    name: str
    type: str
    nullable: bool
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """A table.

    Attributes:
        unique: the sets of several columns that are unique together.
    """

    name: str
    rows: tuple[Row, ...]
    unique: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Reference:
    """A foreign key from `columns` of `table` to `target_columns` of `target`.

    Attributes:
        optional: whether it may be NULL.
        single: whether at most one row refers to the same row.
        on_delete: what happens to the row when the referenced one is deleted, such as `CASCADE`; None for an error.
    """

    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    optional: bool = False
    single: bool = False
    on_delete: str | None = None

    def __str__(self) -> str:
        here, there = ", ".join(self.columns), ", ".join(self.target_columns)
        deletion = f", ON DELETE {self.on_delete}" if self.on_delete else ""
        return f"{self.table}.{here} → {self.target}.{there}{deletion}"


@dataclass(frozen=True)
class Picture:
    """All that is drawn, tables ordered by name; references to tables elsewhere are left out."""

    boxes: tuple[Box, ...]
    references: tuple[Reference, ...]


def picture(schema: Schema) -> Picture:
    """Return what a diagram of the schema shows."""
    names = sorted(schema.tables)
    found = [
        _reference(schema.tables[name], constraint)
        for name in names
        for constraint in _of_kind(schema.tables[name], "foreign key")
    ]
    return Picture(
        boxes=tuple(_box(schema.tables[name]) for name in names),
        references=tuple(reference for reference in found if reference.target in schema.tables),
    )


def _of_kind(table: Table, kind: str) -> list[Constraint]:
    return sorted((each for each in table.constraints.values() if each.kind == kind), key=lambda each: each.name)


def _box(table: Table) -> Box:
    primary = {column for each in _of_kind(table, "primary key") for column in _keys(each)}
    foreign = {column for each in _of_kind(table, "foreign key") for column in _keys(each)}
    unique = [_keys(each) for each in _of_kind(table, "unique")]
    holds = {"PK": primary, "FK": foreign, "UQ": {keys[0] for keys in unique if len(keys) == 1}}
    rows = (
        Row(
            column.name,
            _short(column.type),
            column.nullable,
            tuple(mark for mark, columns in holds.items() if column.name in columns),
        )
        for column in table.columns.values()
    )
    return Box(table.name, tuple(rows), tuple(keys for keys in unique if len(keys) > 1))


def _keys(constraint: Constraint) -> tuple[str, ...]:
    """Return the columns that a key's definition lists first."""
    found = list(tokens(constraint.definition))
    opening = next(index for index, token in enumerate(found) if token.text == "(")
    return _names(found[opening:])


def _names(listed: Sequence[Token]) -> tuple[str, ...]:
    """Return the names from an opening parenthesis to the closing one."""
    end = next(index for index, token in enumerate(listed) if token.text == ")")
    return tuple(_plain(token) for token in listed[1:end] if token.kind in ("name", "quoted name"))


def _plain(token: Token) -> str:
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted name" else token.text


def _reference(table: Table, constraint: Constraint) -> Reference:
    found = list(tokens(constraint.definition))
    words = [token.text if token.kind == "name" else "" for token in found]
    after = words.index("REFERENCES") + 1
    opening = next(index for index in range(after, len(found)) if found[index].text == "(")
    columns = _keys(constraint)
    unique = [set(_keys(each)) for kind in ("primary key", "unique") for each in _of_kind(table, kind)]
    on_delete = words.index("DELETE") + 1 if "DELETE" in words else None
    return Reference(
        table=table.name,
        columns=columns,
        # Qualified if it is in another schema, and so not a table of this one.
        target=".".join(_plain(token) for token in found[after:opening] if token.text != "."),
        target_columns=_names(found[opening:]),
        optional=any(table.columns[column].nullable for column in columns),
        single=any(keys <= set(columns) for keys in unique),
        on_delete=_action(words[on_delete:]) if on_delete else None,
    )


def _action(words: Sequence[str]) -> str:
    return " ".join(words[:2]) if words[0] in ("SET", "NO") else words[0]


def _short(name: str) -> str:
    for long, short in _SHORTER:
        name = re.sub(long, short, name)
    return name
