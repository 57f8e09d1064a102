"""Every row of a database as text, and which of them a way there and back has lost or changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.dev.samples import TABLES

Row = Mapping[str, str | None]

_READ = """
SELECT array_agg(quote_ident(attname) ORDER BY attnum),
       coalesce(array_agg(quote_ident(attname) ORDER BY attnum) FILTER (WHERE attnum = ANY (key)), '{}')
  FROM pg_attribute
  LEFT JOIN (SELECT indrelid, indkey::int2[] AS key FROM pg_index WHERE indisprimary) i ON indrelid = attrelid
 WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
"""

# Sequences that would give a value once more: those behind their column.
_SEQUENCES = """
SELECT format('SELECT %%L WHERE (SELECT max(%%I) FROM %%s) >= (SELECT last_value + is_called::int FROM %%s)',
              concat(attrelid::regclass, '.', attname), attname, attrelid::regclass, s.oid::regclass)
  FROM pg_depend d
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' AND d.classid = 'pg_class'::regclass
  JOIN pg_attribute ON attrelid = d.refobjid AND attnum = d.refobjsubid
 WHERE d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
   AND atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
"""


@dataclass(frozen=True)
class Table:
    """The rows of a table, each as its columns' values.

    Attributes:
        key: the columns of its primary key; empty for none.
    """

    key: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Row]

    def keyed(self, key: Sequence[str]) -> dict[tuple[str | None, ...], Row]:
        """Return the rows by these columns; none if it lacks one of them."""
        return {tuple(row[each] for each in key): row for row in self.rows} if {*key} <= {*self.columns} else {}

    def counted(self, columns: Sequence[str]) -> Counter[tuple[str | None, ...]]:
        """Return how often each combination of values is there."""
        return Counter(tuple(row[each] for each in columns) for row in self.rows)


_NONE = Table((), (), ())


@dataclass
class Loss:
    """What a table has lost.

    Attributes:
        rows: the keys of rows that are gone; of a table without a primary key, all of their values.
        changed: how many rows that are there have another value, or none, in some column.
        columns: these columns.
    """

    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    changed: int = 0
    columns: dict[str, None] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many rows are not what they were."""
        return len(self.rows) + self.changed

    def told(self, table: str, way: str) -> str:
        """Return what a way did to the table, as a clause."""
        lost = f"loses {_rows(len(self.rows))} of {table}" if self.rows else ""
        where = "" if lost else f" of {table}"
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        changed = f"changes {_rows(self.changed)}{where}{columns}" if self.changed else ""
        return f"{way} {' and '.join(filter(None, (lost, changed)))}"


def _rows(count: int) -> str:
    return f"{count} {'row' if count == 1 else 'rows'}"


def read(connection: Connection) -> dict[str, Table]:
    """Read every row of every table; a partition's are its parent's."""
    found = {}
    for oid, name, is_partition in raw_sql.execute(connection, TABLES).all():
        if is_partition:
            continue
        columns, key = connection.exec_driver_sql(_READ, {"table": oid}).one()
        texts = ", ".join(f"{each}::text" for each in columns or ())
        rows = raw_sql.execute(connection, f"SELECT {texts} FROM {name}").all()
        found[bare(name)] = Table(key, columns or (), [dict(zip(columns or (), row, strict=True)) for row in rows])
    return found


def behind(connection: Connection) -> set[str]:
    """Return the columns whose sequence would give a value that is there."""
    queries = connection.exec_driver_sql(_SEQUENCES, {}).scalars().all()
    return {bare(name) for query in queries for (name,) in raw_sql.execute(connection, query)}


def bare(name: str) -> str:
    """Return a table's name as one says it."""
    return name.removeprefix("public.")


def names(query: str, table: str) -> bool:
    """Whether a query names the table."""
    return re.search(rf"(?<!\w){re.escape(table.rpartition('.')[2])}(?!\w)", query) is not None


def lost(before: Table, after: Table | None, again: Table | None) -> Loss:
    """Return what is not what it was after a way there, nor brought back by the way back from there.

    A value that went with its column, or stands in another one, is lost if the way back does not restore it; one whose
    column is there is lost if it changed and does not come back either.

    Args:
        before: the table before.
        after: the table after the way there; None if it is not there.
        again: the table after the way back; None if it is not there, or there was no way back.
    """
    now, then, loss = after or _NONE, again or _NONE, Loss()
    if not before.key:
        columns = before.columns if again else [each for each in before.columns if each in now.columns]
        gone = before.counted(columns)
        for other in (now, then):
            if {*columns} <= {*other.columns} and (other is not then or again):
                gone &= before.counted(columns) - other.counted(columns)
        loss.rows = list(gone.elements())
        return loss
    kept, restored = now.keyed(before.key), then.keyed(before.key)
    for key, row in before.keyed(before.key).items():
        here, back = kept.get(key), restored.get(key)
        if here is None and back is None:
            loss.rows.append(key)
            continue
        columns = [
            column
            for column, value in row.items()
            if not (here is not None and column in here and here[column] == value)
            and not (back is not None and column in back and back[column] == value)
            and not (back is None and column not in (here or {}))
        ]
        loss.changed += bool(columns)
        loss.columns |= dict.fromkeys(columns)
    return loss
