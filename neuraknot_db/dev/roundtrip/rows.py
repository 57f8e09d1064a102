"""Every row of a database as text, and which of them a way there and back has lost or changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.database.display import counted
from neuraknot_db.dev.samples import TABLES

_Key = tuple[str | None, ...]

_COLUMNS = """
SELECT array_agg(quote_ident(attname) ORDER BY attnum),
       coalesce(array_agg(quote_ident(attname) ORDER BY attnum) FILTER (WHERE attnum = ANY (indkey)), '{}'),
       coalesce(array_agg(quote_ident(attname)) FILTER (WHERE typcategory = 'D'), '{}')
  FROM pg_attribute JOIN pg_type t ON t.oid = atttypid LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
 WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
"""

# For each column with a sequence, the query that returns its name if the next value is not beyond the highest.
_SEQUENCES = """
SELECT format('SELECT %%L WHERE (SELECT max(%%I) FROM %%s) >= (SELECT last_value + is_called::int FROM %%s)',
              concat(attrelid::regclass, '.', attname), attname, attrelid::regclass, s.oid::regclass)
  FROM pg_depend d
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' AND d.classid = 'pg_class'::regclass
  JOIN pg_attribute ON attrelid = d.refobjid AND attnum = d.refobjsubid
 WHERE d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
   AND atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
"""


class Table(NamedTuple):
    """The rows of a table, each as its columns' values.

    Attributes:
        key: the columns of its primary key; empty for none.
        times: the columns that hold a date or a time.
    """

    columns: Sequence[str] = ()
    key: Sequence[str] = ()
    times: Sequence[str] = ()
    rows: Sequence[Mapping[str, str | None]] = ()

    def keyed(self, key: Sequence[str]) -> dict[_Key, Mapping[str, str | None]]:
        """Return the rows by these columns; none if it lacks one of them."""
        return {tuple(row[each] for each in key): row for row in self.rows} if {*key} <= {*self.columns} else {}

    def counts(self, columns: Sequence[str]) -> Counter[_Key]:
        """Return how often each combination of values is there."""
        return Counter(tuple(row[each] for each in columns) for row in self.rows)


class Loss(NamedTuple):
    """What a table has lost.

    Attributes:
        rows: the keys of rows that are gone; of a table without a primary key, all of their values.
        changed: how many rows that are there have another value, or none, in some column.
        columns: these columns.
    """

    rows: Sequence[_Key] = ()
    changed: int = 0
    columns: Sequence[str] = ()

    @property
    def total(self) -> int:
        """How many rows are not what they were."""
        return len(self.rows) + self.changed

    def told(self, table: str) -> str:
        """Return what happened to the table, as the end of a clause."""
        parts = [f"loses {counted(len(self.rows), 'row')}"] * bool(self.rows)
        parts += [f"changes {counted(self.changed, 'row')}"] * bool(self.changed)
        return f"{' and '.join(parts)} of {table}" + f" ({', '.join(self.columns)})" * bool(self.columns)


def read(connection: Connection) -> dict[str, Table]:
    """Read every row of every table; a partition's are its parent's."""
    found = {}
    for oid, name, is_partition in raw_sql.execute(connection, TABLES).all():
        columns, key, times = connection.exec_driver_sql(_COLUMNS, {"table": oid}).one()
        if columns and not is_partition:
            texts = ", ".join(f"{each}::text" for each in columns)
            rows = raw_sql.execute(connection, f"SELECT {texts} FROM {name}").all()
            found[bare(name)] = Table(columns, key, times, [dict(zip(columns, row, strict=True)) for row in rows])
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

    A value that went with its column, or stands in another one, is lost if the way back does not restore it.

    Args:
        before: the table before.
        after: the table after the way there; None if it is not there.
        again: the table after the way back; None if it is not there, or there was no way back.
    """
    there = [each for each in (after, again) if each]
    # Without a way back, nothing is known of what went with its column.
    columns = [each for each in before.columns if again or any(each in other.columns for other in there)]
    if not before.key:
        gone = before.counts(columns)
        for other in there:
            if {*columns} <= {*other.columns}:
                gone &= before.counts(columns) - other.counts(columns)
        return Loss([*gone.elements()])
    others = [other.keyed(before.key) for other in there]
    rows, changed, named = [], 0, set[str]()
    for key, row in before.keyed(before.key).items():
        found = [other[key] for other in others if key in other]
        differing = [each for each in columns if all(other.get(each, other) != row[each] for other in found)]
        if not found:
            rows.append(key)
        elif differing:
            changed += 1
            named.update(differing)
    return Loss(rows, changed, [each for each in columns if each in named])
