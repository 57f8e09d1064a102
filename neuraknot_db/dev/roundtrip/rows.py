"""Every row of a database as text, and which of them a way there and back has lost or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.database.display import counted
from neuraknot_db.dev.samples import FACTS, TABLES, bare

Row = Mapping[str, str | None]
Key = tuple[Any, ...]

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
    """The rows of a table.

    Attributes:
        columns: their names.
        key: those of its primary key; empty for none.
        times: those that hold a date or a time.
        rows: each row's values by column.
    """

    columns: Sequence[str] = ()
    key: Sequence[str] = ()
    times: Sequence[str] = ()
    rows: Sequence[Row] = ()

    def keyed(self, key: Sequence[str]) -> dict[Key, Row]:
        """Return the rows by these columns, and by a number among equal ones; none if it lacks one of the columns."""
        found: dict[Key, Row] = {}
        seen = Counter[Key]()
        for row in self.rows if {*key} <= {*self.columns} else ():
            values = tuple(row[each] for each in key)
            found[*values, seen[values]] = row
            seen[values] += 1
        return found


class Loss(NamedTuple):
    """What a table has lost: the keys of rows that are gone, and how many others are changed in which columns."""

    rows: Sequence[Key] = ()
    changed: int = 0
    columns: Sequence[str] = ()

    @property
    def total(self) -> int:
        """How many rows are not what they were."""
        return len(self.rows) + self.changed

    def told(self, table: str) -> str:
        """Return what happened to the table, as the end of a clause."""
        many = {"loses": len(self.rows), "changes": self.changed}
        told = " and ".join(f"{verb} {counted(count, 'row')}" for verb, count in many.items() if count)
        return f"{told} of {table}" + f" ({', '.join(self.columns)})" * bool(self.columns)


def read(connection: Connection) -> dict[str, Table]:
    """Read every row of every table; a partition's are its parent's."""
    found = {}
    for oid, name, is_partition in raw_sql.execute(connection, TABLES).all():
        columns, key, times = connection.exec_driver_sql(FACTS, {"table": oid}).one()
        if columns and not is_partition:
            texts = ", ".join(f"{each}::text" for each in columns)
            rows = raw_sql.execute(connection, f"SELECT {texts} FROM {name}").all()
            found[bare(name)] = Table(columns, key, times, [dict(zip(columns, row, strict=True)) for row in rows])
    return found


def behind(connection: Connection) -> set[str]:
    """Return the columns whose sequence would give a value that is there."""
    queries = connection.exec_driver_sql(_SEQUENCES, {}).scalars().all()
    return {bare(name) for query in queries for (name,) in raw_sql.execute(connection, query)}


def lost(before: Table, after: Table | None, again: Table | None, older: Table | None = None) -> Loss:
    """Return what is not what it was after a way there, nor brought back by the way back from there.

    A value that went with its column, or stands in another one, is lost if the way back does not restore it.

    Args:
        before: the table before.
        after: the table after the way there; None if it is not there.
        again: the table after the way back; None if it is not there, or there was no way back.
        older: the table before the revision. What is not in it, such as a row that the revision itself inserts, may
            come back under another key.
    """
    there = [each for each in (after, again) if each]
    # Without a way back, nothing is known of what went with its column.
    columns = [each for each in before.columns if again or any(each in other.columns for other in there)]
    key = before.key or columns
    ours, others, old = before.keyed(key), [each.keyed(key) for each in there], older.keyed(key) if older else {}
    new = others[-1] if again and before.key else {}
    anew = Counter(_rest(before, row) for at, row in new.items() if at not in ours)
    rows, changed, named = [], 0, set[str]()
    for at, row in ours.items():
        found = [other[at] for other in others if at in other]
        differing = [each for each in columns if all(other.get(each, other) != row[each] for other in found)]
        if found:
            changed += bool(differing)
            named.update(differing)
        elif at not in old and anew[_rest(before, row)]:
            anew[_rest(before, row)] -= 1
        else:
            rows.append(at[:-1])
    return Loss(rows, changed, [each for each in columns if each in named])


def _rest(table: Table, row: Row) -> Key:
    """Return a row's values but for the key and times."""
    return tuple(row.get(each) for each in table.columns if each not in (*table.key, *table.times))
