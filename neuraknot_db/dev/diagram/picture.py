"""What a diagram shows: tables as boxes with rows, and the references between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from neuraknot_db.dev.definitions import foreign_key, index_parts, key_columns
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
        marks: those that apply of `PK`, `FK`, `UQ` (unique on its own), `IX` (has an index of its own).
        type: PostgreSQL's short name for it.
        on_delete: of a foreign key's first column: what happens to the row when the referenced one is deleted, such as
            `CASCADE`; empty if that is refused.
    """

    name: str
    type: str
    nullable: bool
    marks: tuple[str, ...] = ()
    on_delete: str = ""


@dataclass(frozen=True)
class Note:
    """What no mark of a single column can say: a unique constraint or an index on several columns, or on some rows.

    Attributes:
        mark: `UQ` or `IX`.
        columns: those that it names.
        text: such as `(user_id, created_at DESC) where deleted_at IS NULL`.
    """

    mark: str
    columns: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Box:
    """A table."""

    name: str
    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A foreign key from `columns` of `table` to `target_columns` of `target`.

    Attributes:
        optional: whether it may be NULL.
        single: whether at most one row refers to the same row.
        on_delete: as in `Row`.
    """

    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    optional: bool = False
    single: bool = False
    on_delete: str = ""

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
    primary = [key_columns(each.definition) for each in _of_kind(table, "primary key")]
    unique = [key_columns(each.definition) for each in _of_kind(table, "unique")]
    foreign = [foreign_key(each.definition) for each in _of_kind(table, "foreign key")]
    indexes = [index_parts(each.definition, table) for _, each in sorted(table.indexes.items())]
    holds = {
        "PK": {column for columns in primary for column in columns},
        "FK": {column for key in foreign for column in key.columns},
        "UQ": {columns[0] for columns in unique if len(columns) == 1}
        | {index.columns[0] for index in indexes if index.plain and index.unique},
        "IX": {index.columns[0] for index in indexes if index.plain and not index.unique},
    }
    rows = (
        Row(
            column.name,
            short_type(column.type),
            column.nullable,
            tuple(mark for mark, columns in holds.items() if column.name in columns),
            ", ".join(key.on_delete for key in foreign if key.columns[0] == column.name and key.on_delete),
        )
        for column in table.columns.values()
    )
    notes = [Note("UQ", columns, f"({', '.join(columns)})") for columns in unique if len(columns) > 1]
    for index in indexes:
        if not index.plain:
            method = "" if index.method == "btree" else f"{index.method} "
            where = f" where {index.where}" if index.where else ""
            text = f"{method}({', '.join(index.keys)}){index.rest and ' '}{index.rest}{where}"
            notes.append(Note("UQ" if index.unique else "IX", index.columns, text))
    return Box(table.name, tuple(rows), tuple(notes))


def _reference(table: Table, constraint: Constraint) -> Reference:
    key = foreign_key(constraint.definition)
    unique = [set(key_columns(each.definition)) for kind in ("primary key", "unique") for each in _of_kind(table, kind)]
    return Reference(
        table=table.name,
        columns=key.columns,
        target=key.target,
        target_columns=key.target_columns,
        optional=any(table.columns[column].nullable for column in key.columns),
        single=any(keys <= set(key.columns) for keys in unique),
        on_delete=key.on_delete,
    )


def short_type(name: str) -> str:
    """Return PostgreSQL's short name for a type."""
    for long, short in _SHORTER:
        name = re.sub(long, short, name)
    return name
