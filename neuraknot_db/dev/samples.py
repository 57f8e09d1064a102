"""Rows to run revisions on: on empty tables a statement does less than on tables in use, and can lose nothing."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import raw_sql
from neuraknot_db.database.sql_text import tokens
from neuraknot_db.errors import UsageError

Key = tuple[str | None, ...]

TABLES = """
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relispartition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'neuraknot_db')
 ORDER BY c.relkind = 'p' DESC, c.oid
"""
"""Every table that is the project's: oid, name, and whether it is a part of another one."""

# A table's columns that are not computed, in the order of the attributes of `_Column`. `plain` is a value that most
# checks accept; for a column with a foreign key, an existing value.
_COLUMNS = """
SELECT quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), b.typname, b.typcategory,
       CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
       a.attnotnull OR t.typnotnull, a.atthasdef OR a.attidentity <> '',
       a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%', false),
       EXISTS (SELECT FROM pg_index x
                WHERE x.indrelid = a.attrelid AND (x.indisunique OR x.indisexclusion)
                  AND (a.attnum = ANY (x.indkey) OR EXISTS (
                          SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = x.indexrelid
                                                  AND refobjid = a.attrelid AND refobjsubid = a.attnum))),
       coalesce(
         '(' || f.found || ' LIMIT 1)',
         CASE
           WHEN b.typtype = 'e' THEN format('(enum_range(NULL::%%s))[1]', b.oid::regtype)
           WHEN b.typname = 'uuid' THEN 'gen_random_uuid()'
           WHEN b.typname IN ('json', 'jsonb') THEN format('''{}''::%%s', b.typname)
           WHEN b.typname = 'bytea' THEN '''\\x00''::bytea'
           WHEN b.typname = 'money' THEN '1::money'
           ELSE CASE b.typcategory
             WHEN 'S' THEN '''x''' WHEN 'N' THEN '1' WHEN 'B' THEN 'true' WHEN 'D' THEN 'now()'
             WHEN 'T' THEN '''1 day''::interval' WHEN 'A' THEN format('''{}''::%%s', b.oid::regtype)
             WHEN 'I' THEN '''127.0.0.1''' WHEN 'R' THEN '''empty''' WHEN 'V' THEN '''1'''
             ELSE 'NULL' END
         END),
       f.found,
       ARRAY(SELECT quote_literal(enumlabel) FROM pg_enum WHERE enumtypid = b.oid ORDER BY enumsortorder),
       ARRAY(SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint
              WHERE contype = 'c' AND conrelid = a.attrelid AND conkey = ARRAY[a.attnum] ORDER BY conname),
       ARRAY(SELECT pg_get_constraintdef(oid) FROM pg_constraint
              WHERE contype = 'c' AND (contypid = t.oid OR (conrelid = a.attrelid AND a.attnum = ANY (conkey)))
              ORDER BY conname)
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN LATERAL (
       SELECT format('SELECT %%1$I FROM %%2$s WHERE %%1$I IS NOT NULL', r.attname, f.confrelid::regclass) AS found
         FROM pg_constraint f
         JOIN pg_attribute r ON r.attrelid = f.confrelid
                            AND r.attnum = f.confkey[array_position(f.conkey, a.attnum)]
        WHERE f.contype = 'f' AND f.conrelid = a.attrelid AND a.attnum = ANY (f.conkey) LIMIT 1) f ON true
 WHERE a.attrelid = %(table)s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 ORDER BY a.attnum
"""

# Runs each text by itself; tells what it returns, or why the server refuses it.
_TRY = """
CREATE OR REPLACE FUNCTION pg_temp.neuraknot_db_try(texts text[]) RETURNS TABLE (key text[], refused text)
LANGUAGE plpgsql AS $$
DECLARE each text;
BEGIN
    FOREACH each IN ARRAY texts LOOP
        key := NULL; refused := NULL;
        BEGIN
            EXECUTE each INTO key;
        EXCEPTION WHEN OTHERS THEN
            refused := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
SET CONSTRAINTS ALL IMMEDIATE
"""

_KEY = """
SELECT format('ARRAY[%%s]', string_agg(quote_ident(attname) || '::text', ', ' ORDER BY attnum))
  FROM pg_attribute LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
 WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped AND coalesce(attnum = ANY (indkey), true)
"""

_WORDS = ("''", "' a '", "'日本語'", "'🙂'", "E'e\\u0301\\n\\t'", "'O''Brien \\ \"%s\" :x'")
_NUMBERS = ("0", "-1", "32767", "-2147483648", "2147483647", "9223372036854775807")
_DAYS = ("'infinity'", "'-infinity'", "'0044-03-15 BC'", "'9999-12-31 23:59:59.999999'", "'2024-02-29'")
_BY_CATEGORY = {
    "S": _WORDS,
    "N": _NUMBERS,
    "B": ("false", "true"),
    "D": _DAYS,
    "T": ("'0'", "'-1 year 2 mons 3 days'", "'178000000 years'"),
    "A": ("'{}'", "'{NULL}'"),
    "I": ("'::1'", "'10.0.0.0/8'"),
    "R": ("'empty'", "'(,)'"),
}
_BY_TYPE = {
    "bytea": ("''", r"'\x00ff27'"),
    "jsonb": ("'null'", "'[]'", """'{"日本": [1.50, null, "🙂"]}'""", "'\"\"'", "'1e400'"),
    "numeric": ("'NaN'", "'Infinity'", "1e30", "-0.000000001"),
    "float8": ("'NaN'", "'-Infinity'", "1e-300"),
    "float4": ("'NaN'", "'-Infinity'"),
    "time": ("'00:00'", "'24:00'"),
}
_BY_TYPE["json"] = (*_BY_TYPE["jsonb"], """'{"b": 1,"a":2, "a": 3}'""")


class _Column(NamedTuple):
    name: str
    type: str
    base: str
    category: str
    modifier: int
    required: bool
    filled: bool
    counted: bool
    unique: bool
    plain: str
    parents: str | None
    labels: Sequence[str]
    alone: Sequence[str]
    checks: Sequence[str]

    def values(self) -> list[str]:
        """Return what its type and its checks make worth trying, as SQL; the server decides what it takes."""
        found = [f"({self.parents} OFFSET 1 LIMIT 1)"] * bool(self.parents)
        found += [*_BY_TYPE.get(self.base, ()), *_BY_CATEGORY.get(self.category, ()), *self.labels, *self._named()]
        size = self.modifier - 4
        if self.base in ("varchar", "bpchar", "text"):
            found.append(f"repeat('長', {size})" if size > 0 else "repeat('long ', 1000)")
        elif self.base == "numeric" and size > 0:
            nines, scale = "9" * (size >> 16), size & 0x7FF
            found += [f"{sign}{nines}e-{scale}" for sign in ("", "-")]
        elif self.category == "A":
            found += [f"ARRAY[{value}, NULL]" for value in ("'日本語'", "1")]
        return list(dict.fromkeys([*found, *["NULL"] * (not self.required)]))

    def _named(self) -> Iterator[str]:
        """Yield what its checks name: each value, the numbers beside it, and texts that match a regular expression."""
        for check in self.checks:
            for token in tokens(check):
                if token.kind == "string":
                    yield token.text
                elif token.kind == "number":
                    yield from (token.text, f"{token.text} + 1", f"{token.text} - 1")
            yield from _texts_for(check)

    def fresh(self, table: str, number: int) -> str:
        """Return a value that no other row has, as SQL; the base row's where nothing is known to make one."""
        copied = f"(base).{self.name}"
        if self.parents:
            return f"coalesce(({self.parents} EXCEPT SELECT {self.name} FROM {table} LIMIT 1), {copied})"
        if self.category == "S":
            matching = ", ".join(text for check in self.checks for text in _texts_for(check))
            unused = f"SELECT unnest(ARRAY[{matching}]::text[]) EXCEPT SELECT {self.name}::text FROM {table} LIMIT 1"
            letters = "".join(chr(97 + int(digit)) for digit in str(number))  # digits would fail more checks
            length = f"{self.modifier - 4}" if self.modifier > 0 else "1000"
            return f"coalesce(({unused}), left(concat('{letters}', {copied}), {length}))"
        made = {
            "uuid": f"md5('{number}')::uuid",
            "bytea": f"decode(md5('{number}'), 'hex')",
            "N": f"{1000 + number}",
            "D": f"timestamp '2000-01-01' + {number} * interval '1 day'",
        }
        return made.get(self.base) or made.get(self.category, copied)


@functools.cache
def _texts_for(check: str) -> tuple[str, ...]:
    """Return texts that match a check's regular expression, as SQL; none if it has none, or Python does not know it."""
    pattern = re.search(r"~\*? '((?:[^']|'')+)'", check)
    try:
        from hypothesis import Phase, errors, given, settings, strategies  # few checks need it; slow to import
    except ModuleNotFoundError:  # an install without the extra `dev`
        pattern = None
    if not pattern:
        return ()
    found: list[str] = []

    @settings(max_examples=20, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
    @given(strategies.from_regex(pattern[1].replace("''", "'")))
    def find(text: str) -> None:
        found.append(text)

    with contextlib.suppress(re.error, errors.HypothesisException):
        find()
    return tuple(raw_sql.literal(each) for each in found if each.isprintable())


class Samples:
    """Rows in every table: those of a file, a generated one for each table without any, and more like these.

    Attributes:
        refused: the tables that accept no generated row, with the server's words.
        varied: the rows that `vary` has inserted, by table and primary key, all values of a table without one; and what
            each has unlike another row, as a phrase.
    """

    def __init__(self, connection: Connection) -> None:
        """Take this connection's database."""
        self.refused: dict[str, str] = {}
        self.varied: dict[tuple[str, Key], str] = {}
        self._connection = connection
        self._numbers = 0

    def insert(self) -> None:
        """Insert a row into each empty table; one that accepts no generated row stays empty."""
        empty = [(oid, name) for oid, name, _ in self._rows(TABLES) if not self._rows(f"SELECT FROM {name} LIMIT 1")]
        self.refused = {}
        # Tables that refer to another are filled after it.
        while filled := [each for each in empty if self._made_up(*each)]:
            empty = [each for each in empty if each not in filled]
        self._connection.commit()

    def remove(self) -> None:
        """Empty every table."""
        names = [name for _, name, _ in self._rows(TABLES)]
        if names:
            raw_sql.execute(self._connection, f"TRUNCATE {', '.join(names)} CASCADE")
        self._connection.commit()

    def insert_given(self, given: Path) -> None:
        """Insert the rows of an SQL file, which may be missing.

        Raises:
            UsageError: they can't be inserted.
        """
        try:
            raw_sql.execute(self._connection, given.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (DBAPIError, UnicodeDecodeError) as error:
            self._connection.rollback()
            raise UsageError(
                f"The sample rows of alembic/snapshots/{given.name} can't be inserted: {first_line(error)}.",
                hint="They must be valid at the first revision: later ones carry them along.",
            ) from error
        self._connection.commit()

    def vary(self) -> None:
        """Insert rows like one that is there but for a column: each value worth trying.

        Some more are like that row, or one without NULLs, in all that may be there twice.
        """
        for oid, name in ((oid, name) for oid, name, is_partition in self._rows(TABLES) if not is_partition):
            columns, key = self._columns(oid), self._key(oid)
            places = [(tuple(at), row) for at, row in self._rows(f"SELECT {key}, t::text FROM {name} t")]
            base = next((row for at, row in places if (bare(name), at) not in self.varied), None)
            if base is None:
                continue
            full = {each.name: self._accepted(each) for each in columns if not (each.unique or each.counted)}
            wanted = [("the values of another row", {}), *[("a value in every column", full)] * 2]
            wanted += [
                (
                    f"another {each.name}" if value.startswith("(SELECT") else f"{each.name} = {value}",
                    {each.name: value},
                )
                for each in columns
                if not each.counted
                for value in each.values()
            ]
            texts = [f"{self._like(base, name, columns, sets)} RETURNING {key}" for _, sets in wanted]
            for (what, _), (at, _) in zip(wanted, self._try(texts), strict=True):
                if at:
                    self.varied[bare(name), tuple(at)] = what
        self._connection.commit()

    def delete(self, varied: Collection[tuple[str, Key]]) -> None:
        """Delete these rows, in the connection's transaction, whatever refers to them."""
        raw_sql.execute(self._connection, "SET LOCAL session_replication_role = replica")
        for oid, name, _ in self._rows(TABLES):
            if keys := tuple([*key] for table, key in varied if table == bare(name)):
                gone = f"DELETE FROM {name} WHERE {self._key(oid)} IN %(keys)s"
                self._connection.exec_driver_sql(gone, {"keys": keys})
        raw_sql.execute(self._connection, "SET LOCAL session_replication_role = origin")

    def _like(self, base: str, table: str, columns: Sequence[_Column], sets: Mapping[str, str]) -> str:
        """Return the INSERT of a row like another, but for these columns, and for what must differ."""
        self._numbers += 1
        values: dict[str, str] = {}
        for each in columns:
            if value := sets.get(each.name):
                values[each.name] = f"CAST({value} AS {each.type})"
            elif each.unique and not (each.counted or (each.filled and each.base == "uuid")):
                values[each.name] = f"CAST({each.fresh(table, self._numbers)} AS {each.type})"
            elif not (each.unique or each.counted):
                values[each.name] = f"(base).{each.name}"
        return (
            f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())}"
            f" FROM (SELECT {raw_sql.literal(base)}::{table} AS base OFFSET 0) s"
        )

    def _made_up(self, oid: int, name: str) -> bool:
        """Whether a row could be inserted: with a value in each column, or as checks say, or only in required ones."""
        columns = [each for each in self._columns(oid) if not each.filled]
        accepted = {each.name: self._accepted(each) for each in columns}
        required = {each.name: accepted[each.name] for each in columns if each.required}
        rows = ({each.name: each.plain for each in columns}, accepted, required)
        for row in rows:
            values = f"({', '.join(row)}) VALUES ({', '.join(row.values())})" if row else "DEFAULT VALUES"
            ((_, why),) = self._try([f"INSERT INTO {name} {values} RETURNING '{{}}'::text[]"])
            if why is None:
                self.refused.pop(name, None)
                return True
            self.refused[name] = why
        return False

    def _accepted(self, column: _Column) -> str:
        """Return the first value that the column's own checks accept."""
        if not column.checks:
            return column.plain
        values = [f"CAST({value} AS {column.type})" for value in (column.plain, *column.values())]
        checks = " AND ".join(f"({each}) IS NOT FALSE" for each in column.alone) or "true"
        texts = [
            f"SELECT ARRAY[{column.name}::text] FROM (SELECT {value} AS {column.name}) s WHERE {checks}"
            for value in values
        ]
        return next((value for value, found in zip(values, self._try(texts), strict=True) if found[0]), column.plain)

    def _try(self, texts: Sequence[str]) -> Sequence[Any]:
        raw_sql.execute(self._connection, _TRY)
        query = "SELECT * FROM pg_temp.neuraknot_db_try(%(texts)s::text[])"
        return self._connection.exec_driver_sql(query, {"texts": list(texts)}).all()

    def _key(self, oid: int) -> str:
        return str(self._connection.exec_driver_sql(_KEY, {"table": oid}).scalar_one())

    def _columns(self, oid: int) -> list[_Column]:
        return [_Column(*row) for row in self._connection.exec_driver_sql(_COLUMNS, {"table": oid})]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in raw_sql.execute(self._connection, sql)]


def bare(table: str) -> str:
    """Return a table's name as one says it."""
    return table.removeprefix("public.")


def first_line(error: BaseException) -> str:
    """Return what a server says of a failure, without its details."""
    return str(getattr(error, "orig", error)).strip().split("\n", 1)[0]
