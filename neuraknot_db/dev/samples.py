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

FACTS = """
SELECT array_agg(quote_ident(attname) ORDER BY attnum),
       coalesce(array_agg(quote_ident(attname) ORDER BY attnum) FILTER (WHERE attnum = ANY (indkey)), '{}'),
       coalesce(array_agg(quote_ident(attname)) FILTER (WHERE typcategory = 'D'), '{}')
  FROM pg_attribute JOIN pg_type t ON t.oid = atttypid LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary
 WHERE attrelid = %(table)s AND attnum > 0 AND NOT attisdropped
"""
"""A table's columns, those of its primary key, and those that hold a date or a time."""

# A table's columns that are not computed, in the order of the attributes of `_Column`.
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

# Values worth trying, as SQL; the first is one that most checks accept.
_BY_CATEGORY = {
    "S": ("'x'", "''", "' a '", "'日本語'", "'🙂'", "E'e\\u0301\\n\\t'", "'O''Brien \\ \"%s\" :x'"),
    "N": ("1", "0", "-1", "32767", "-2147483648", "2147483647", "9223372036854775807"),
    "B": ("true", "false"),
    "D": ("now()", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'9999-12-31 23:59:59.999999'", "'2024-02-29'"),
    "T": ("'1 day'", "'0'", "'-1 year 2 mons 3 days'", "'178000000 years'"),
    "A": ("'{}'", "'{NULL}'", "ARRAY['日本語', NULL]", "ARRAY[1, NULL]"),
    "I": ("'127.0.0.1'", "'::1'", "'10.0.0.0/8'"),
    "R": ("'empty'", "'(,)'"),
    "V": ("'1'",),
}
_JSON = ("'{}'", "'null'", "'[]'", """'{"日本": [1.50, null, "🙂"]}'""", "'\"\"'", "'1e400'")
_BY_TYPE = {
    "uuid": ("gen_random_uuid()",),
    "bytea": (r"'\x00'", "''", r"'\x00ff27'"),
    "jsonb": _JSON,
    "json": (*_JSON, """'{"b": 1,"a":2, "a": 3}'"""),
    "numeric": (*_BY_CATEGORY["N"], "'NaN'", "'Infinity'", "1e30", "-0.000000001"),
    "float8": ("1", "0", "'NaN'", "'-Infinity'", "1e-300"),
    "float4": ("1", "0", "'NaN'", "'-Infinity'"),
    "time": ("now()", "'00:00'", "'24:00'"),
}


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
    parents: str | None
    labels: Sequence[str]
    alone: Sequence[str]
    checks: Sequence[str]

    def values(self) -> list[str]:
        """Return what its type and its checks make worth trying, as SQL; the server decides what it takes."""
        found = [f"({self.parents} OFFSET {at} LIMIT 1)" for at in (0, 1) if self.parents]
        found += [*_BY_TYPE.get(self.base, _BY_CATEGORY.get(self.category, ())), *self.labels, *self._named()]
        size = self.modifier - 4
        if self.base in ("varchar", "bpchar", "text"):
            found.append(f"repeat('長', {size})" if size > 0 else "repeat('long ', 1000)")
        elif self.base == "numeric" and size > 0:
            nines, scale = "9" * (size >> 16), size & 0x7FF
            found += [f"{sign}{nines}e-{scale}" for sign in ("", "-")]
        return list(dict.fromkeys([*found, *["NULL"] * (not (self.required and found))]))

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
        """Return a value that no other row has, as SQL; the same as another's where nothing is known to make one."""
        if self.parents:
            return f"coalesce(({self.parents} EXCEPT SELECT {self.name} FROM {table} LIMIT 1), {self.name})"
        if self.category == "S":
            matching = ", ".join(text for check in self.checks for text in _texts_for(check))
            unused = f"SELECT unnest(ARRAY[{matching}]::text[]) EXCEPT SELECT {self.name}::text FROM {table} LIMIT 1"
            letters = "".join(chr(97 + int(digit)) for digit in str(number))  # digits would fail more checks
            length = self.modifier - 4 if self.modifier > 0 else 1000
            return f"coalesce(({unused}), left(concat('{letters}', {self.name}), {length}))"
        made = {"uuid": f"md5('{number}')::uuid", "bytea": f"decode(md5('{number}'), 'hex')"}
        made |= {"N": f"{1000 + number}", "D": f"timestamp '2000-01-01' + {number} * interval '1 day'"}
        return made.get(self.base) or made.get(self.category, self.name)


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

    @settings(max_examples=60, database=None, derandomize=True, deadline=None, phases=[Phase.generate])
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
            rows = self._rows(f"SELECT {key}, format('tableoid = %s AND ctid = %L', tableoid, ctid) FROM {name}")
            like = next((where for at, where in rows if (bare(name), tuple(at)) not in self.varied), None)
            if like is None:
                continue
            full = {each.name: self._accepted(each) for each in columns if not (each.unique or each.counted)}
            wanted = [("the values of another row", {}), *[("a value in every column", full)] * 2]
            for each in columns:
                for value in each.values() if not each.counted else ():
                    told = f"another {each.name}" if value.startswith("(SELECT") else f"{each.name} = {value}"
                    wanted.append((told, {each.name: value}))
            texts = [f"{self._like(name, columns, sets)} WHERE {like} RETURNING {key}" for _, sets in wanted]
            for (told, _), (at, _) in zip(wanted, self._try(texts), strict=True):
                if at:
                    self.varied[bare(name), tuple(at)] = told
        self._connection.commit()

    def delete(self, varied: Collection[tuple[str, Key]]) -> None:
        """Delete these rows, in the connection's transaction, whatever refers to them."""
        raw_sql.execute(self._connection, "SET LOCAL session_replication_role = replica")
        for oid, name, _ in self._rows(TABLES):
            if keys := tuple([*key] for table, key in varied if table == bare(name)):
                gone = f"DELETE FROM {name} WHERE {self._key(oid)} IN %(keys)s"
                self._connection.exec_driver_sql(gone, {"keys": keys})
        raw_sql.execute(self._connection, "SET LOCAL session_replication_role = origin")

    def _like(self, table: str, columns: Sequence[_Column], sets: Mapping[str, str]) -> str:
        """Return the INSERT of a row like another, but for these columns, and for what must differ."""
        self._numbers += 1
        values: dict[str, str] = {}
        for each in columns:
            if value := sets.get(each.name):
                values[each.name] = f"CAST({value} AS {each.type})"
            elif each.unique and not (each.counted or (each.filled and each.base == "uuid")):
                values[each.name] = f"CAST({each.fresh(table, self._numbers)} AS {each.type})"
            elif not (each.unique or each.counted):
                values[each.name] = each.name
        return f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {table}"

    def _made_up(self, oid: int, name: str) -> bool:
        """Whether a row could be inserted: with a value in each column, or only in required ones."""
        columns = [each for each in self._columns(oid) if not each.filled]
        accepted = {each.name: self._accepted(each) for each in columns}
        for row in (accepted, {each.name: accepted[each.name] for each in columns if each.required}):
            values = f"({', '.join(row)}) VALUES ({', '.join(row.values())})" if row else "DEFAULT VALUES"
            ((_, why),) = self._try([f"INSERT INTO {name} {values} RETURNING '{{}}'::text[]"])
            if why is None:
                self.refused.pop(name, None)
                return True
            self.refused[name] = why
        return False

    def _accepted(self, column: _Column) -> str:
        """Return the first value that the column's own checks accept; its first one if none is."""
        values = column.values()
        if not column.checks:
            return values[0]
        checks = " AND ".join(f"({each}) IS NOT FALSE" for each in column.alone) or "true"
        # The value is returned, since one that nobody reads is not even cast.
        asked = f"SELECT ARRAY[{column.name}::text] FROM (SELECT CAST(%s AS {column.type}) AS {column.name}) s"
        answers = self._try([f"{asked.replace('%s', each)} WHERE {checks}" for each in values])
        return next((value for value, (taken, _) in zip(values, answers, strict=True) if taken), values[0])

    def _try(self, texts: Sequence[str]) -> Sequence[Any]:
        raw_sql.execute(self._connection, _TRY)
        query = "SELECT * FROM pg_temp.neuraknot_db_try(%(texts)s::text[])"
        return self._connection.exec_driver_sql(query, {"texts": list(texts)}).all()

    def _key(self, oid: int) -> str:
        columns, key, _ = self._connection.exec_driver_sql(FACTS, {"table": oid}).one()
        return f"ARRAY[{', '.join(f'{each}::text' for each in key or columns)}]"

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
