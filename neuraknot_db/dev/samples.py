"""Sample rows for measuring: on empty tables a statement does less than on tables in use."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import raw_sql
from neuraknot_db.errors import UsageError

_TABLES = """
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'neuraknot_db')
 ORDER BY c.relkind = 'p' DESC, c.oid
"""

# Each column that nothing else fills, whether it must be filled, and a value of its type that most checks accept; for
# a column with a foreign key, an existing value.
_COLUMNS = """
SELECT quote_ident(a.attname), a.attnotnull OR t.typnotnull,
       coalesce(
         (SELECT format('(SELECT %%I FROM %%s WHERE %%I IS NOT NULL LIMIT 1)', r.attname, f.confrelid::regclass,
                        r.attname)
            FROM pg_constraint f
            JOIN pg_attribute r ON r.attrelid = f.confrelid
                               AND r.attnum = f.confkey[array_position(f.conkey, a.attnum)]
           WHERE f.contype = 'f' AND f.conrelid = a.attrelid AND a.attnum = ANY (f.conkey) LIMIT 1),
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
         END)
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
 WHERE a.attrelid = %(table)s AND a.attnum > 0 AND NOT a.attisdropped AND NOT a.atthasdef AND a.attidentity = ''
 ORDER BY a.attnum
"""


class Samples:
    """Rows in every table: those of a file, and a generated one for each table without any."""

    def __init__(self, connection: Connection) -> None:
        """Take this connection's database."""
        self._connection = connection

    def insert(self) -> None:
        """Insert a row into each empty table; one that accepts no generated row stays empty."""
        empty = [(oid, name) for oid, name in self._rows(_TABLES) if not self._rows(f"SELECT FROM {name} LIMIT 1")]
        # Tables that refer to another are filled after it.
        while filled := [each for each in empty if self._made_up(*each)]:
            empty = [each for each in empty if each not in filled]
        self._connection.commit()

    def remove(self) -> None:
        """Empty every table."""
        names = [name for _, name in self._rows(_TABLES)]
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
            words = str(error.orig if isinstance(error, DBAPIError) else error).strip().split("\n", 1)[0]
            raise UsageError(
                f"The sample rows of alembic/snapshots/{given.name} can't be inserted: {words}.",
                hint="They must be valid at the first revision: later ones carry them along.",
            ) from error
        self._connection.commit()

    def _made_up(self, oid: int, name: str) -> bool:
        """Whether a row could be inserted: with a value in each column, or else only in required ones."""
        found = list(self._connection.exec_driver_sql(_COLUMNS, {"table": oid}))
        for columns in (found, [column for column in found if column[1]]):
            names, values = (", ".join(column[at] for column in columns) for at in (0, 2))
            row = f"({names}) VALUES ({values})" if columns else "DEFAULT VALUES"
            try:
                with self._connection.begin_nested():
                    raw_sql.execute(self._connection, f"INSERT INTO {name} {row}")
            except DBAPIError:
                continue
            return True
        return False

    def _rows(self, sql: str) -> list[tuple[int, str]]:
        return [tuple(row) for row in raw_sql.execute(self._connection, sql)]
