"""Checks that are equal but spelled differently: undo what pg_dump and restore do to them.

`(ARRAY['a'::character varying])::text[]` comes back from a dump as `ARRAY[('a'::character varying)::text]`. Created
once more, both get the same spelling.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection
from sqlalchemy.exc import ProgrammingError

from neuraknot_db.database import raw_sql
from neuraknot_db.schema.catalog import Schema, search_path_public

_TABLE = "neuraknot_db_spelling"


@dataclass(frozen=True)
class Spelling:
    """How checks are spelled when they are created once more.

    Attributes:
        retyped: the new spelling of a table's check, by table and definition.
        obstacle: why nothing could be created, for the reader; empty if it could.
    """

    retyped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    obstacle: str = ""

    def same(self, table: str, one: str, other: str) -> bool:
        """Whether two definitions of a table's check are known to be equal."""
        words = self.retyped.get((table, one))
        return words is not None and words == self.retyped.get((table, other))


def settle(connection: Connection, live: Schema, candidates: Iterable[Schema]) -> Spelling:
    """Create the checks whose spelling differs from a candidate's once more; nothing is left behind.

    Args:
        connection: where `live` was read. In a read-only transaction, or without the right to create temporary
            tables, nothing is done, and the result names that obstacle.
        live: what the database holds.
        candidates: the schemas to compare it with.
    """
    unsettled: dict[str, set[str]] = defaultdict(set)
    for expected in candidates:
        for name, table in expected.tables.items():
            for constraint in table.constraints.values():
                found = live.tables[name].constraints.get(constraint.name) if name in live.tables else None
                if found and found.kind == "check" and found.definition != constraint.definition:
                    unsettled[name] |= {found.definition, constraint.definition}
    if not unsettled:
        return Spelling()
    obstacle = _obstacle(connection)
    if obstacle:
        return Spelling(obstacle=f"perhaps the same in other words: {obstacle}, so it could not be typed in to see")
    retyped: dict[tuple[str, str], str] = {}
    with search_path_public(connection):
        for name, definitions in unsettled.items():
            words = _retype(connection, name, sorted(definitions))
            retyped |= {(name, definition): found for definition, found in words.items()}
    return Spelling(retyped)


def _obstacle(connection: Connection) -> str:
    read_only, may_create = connection.exec_driver_sql(
        "SELECT current_setting('transaction_read_only') = 'on', has_database_privilege(current_database(), 'TEMP')"
    ).one()
    if read_only:
        return "the transaction is read-only"
    return "" if may_create else "this user may not create temporary tables"


def _retype(connection: Connection, table: str, definitions: Iterable[str]) -> dict[str, str]:
    """Return checks as PostgreSQL spells them for a copy of the table, without those that it refuses."""
    quoted = connection.dialect.identifier_preparer.quote_identifier(table)
    execute = functools.partial(raw_sql.execute, connection)
    words = {}
    outer = connection.begin_nested()
    try:
        execute(f"CREATE TEMPORARY TABLE {_TABLE} (LIKE public.{quoted})")
        for definition in definitions:
            try:
                with connection.begin_nested():
                    execute(f"ALTER TABLE pg_temp.{_TABLE} ADD CONSTRAINT retyped {definition}")
                    words[definition] = execute(
                        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
                        f" WHERE conrelid = 'pg_temp.{_TABLE}'::regclass AND contype = 'c'"
                    ).scalar_one()
                    execute(f"ALTER TABLE pg_temp.{_TABLE} DROP CONSTRAINT retyped")
            except ProgrammingError:  # for example, it names a column that the live table does not have
                continue
    finally:
        outer.rollback()
    return words
