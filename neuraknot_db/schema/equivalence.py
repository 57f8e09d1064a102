"""Checks, views and domains that are equal but spelled differently: undo what pg_dump and other servers do to them.

`(ARRAY['a'::character varying])::text[]` comes back from a dump as `ARRAY[('a'::character varying)::text]`, and a view
is `SELECT users.id FROM users` on PostgreSQL 15, `SELECT id FROM users` since 16. Created once more, both get the same
spelling.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, NotSupportedError, ProgrammingError

from neuraknot_db.database import raw_sql
from neuraknot_db.schema.catalog import DOMAIN, Schema, search_path_public

RESPELLED = ("view", "materialized view", "domain")
"""The kinds whose definitions are created once more where they differ, besides checks."""

_NAME = "pg_temp.neuraknot_db_spelling"


@dataclass(frozen=True)
class Spelling:
    """How checks, views and domains are spelled when they are created once more.

    Attributes:
        retyped: the new spelling of a definition, by it and the name of the check's table, the view or the domain.
        obstacle: why nothing could be created, for the reader; empty if it could.
    """

    retyped: Mapping[tuple[str, str], str] = field(default_factory=dict)
    obstacle: str = ""

    def same(self, name: str, one: str, other: str) -> bool:
        """Whether two definitions of a view, a domain or a table's check are known to be equal."""
        words = self.retyped.get((name, one))
        return words is not None and words == self.retyped.get((name, other))


def settle(connection: Connection, live: Schema, candidates: Iterable[Schema]) -> Spelling:
    """Create what is spelled differently from a candidate's once more; nothing is left behind.

    Args:
        connection: where `live` was read. In a read-only transaction, or without the right to create temporary
            tables, nothing is done, and the result names that obstacle.
        live: what the database holds.
        candidates: the schemas to compare it with.
    """
    unsettled: dict[tuple[str, str], set[str]] = defaultdict(set)
    for kind, name, found, wanted in (pair for expected in candidates for pair in _pairs(live, expected)):
        if found != wanted:
            unsettled[kind, name] |= {found, wanted}
    if not unsettled:
        return Spelling()
    obstacle = _obstacle(connection)
    if obstacle:
        return Spelling(obstacle=f"perhaps the same in other words: {obstacle}, so it could not be typed in to see")
    retyped: dict[tuple[str, str], str] = {}
    with search_path_public(connection):
        for (kind, name), definitions in unsettled.items():
            words = _retype(connection, kind, name, sorted(definitions))
            retyped |= {(name, definition): found for definition, found in words.items()}
    return Spelling(retyped)


def _pairs(live: Schema, expected: Schema) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, name (of a check: its table), and both definitions of what both schemas have."""
    for name, table in expected.relations.items():
        there = live.relations.get(name)
        if there is None or there.kind != table.kind:
            continue
        if table.kind in RESPELLED:
            yield "view", name, there.definition, table.definition
        for constraint in table.constraints.values():
            found = there.constraints.get(constraint.name)
            if found and found.kind == "check":
                yield "check", name, found.definition, constraint.definition
    for key, other in expected.others.items():
        if key in live.others and other.kind in RESPELLED:
            yield "domain", other.name, live.others[key].definition, other.definition


def _obstacle(connection: Connection) -> str:
    read_only, may_create = connection.exec_driver_sql(
        "SELECT current_setting('transaction_read_only') = 'on', has_database_privilege(current_database(), 'TEMP')"
    ).one()
    if read_only:
        return "the transaction is read-only"
    return "" if may_create else "this user may not create temporary tables"


_CREATE = {
    "check": f"ALTER TABLE {_NAME} ADD CONSTRAINT retyped ",
    "domain": f"CREATE DOMAIN {_NAME} AS ",
    "view": f"CREATE VIEW {_NAME} AS ",
}
_READ = {
    "check": "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
    f" WHERE conrelid = '{_NAME}'::regclass AND contype = 'c'",
    "domain": f"SELECT {DOMAIN} FROM pg_type t WHERE oid = '{_NAME}'::regtype",
    "view": f"SELECT pg_get_viewdef('{_NAME}'::regclass)",
}


def _retype(connection: Connection, kind: str, name: str, definitions: Iterable[str]) -> dict[str, str]:
    """Return definitions as PostgreSQL spells them, without those that it refuses; checks those of a copied table."""
    execute = functools.partial(raw_sql.execute, connection)
    words = {}
    outer = connection.begin_nested()
    try:
        if kind == "check":
            execute(f"CREATE TEMPORARY TABLE {_NAME} (LIKE public.{raw_sql.quoted(name)})")
        for definition in definitions:
            inner = connection.begin_nested()
            try:
                words[definition] = execute(f"{_CREATE[kind]}{definition}; {_READ[kind]}").scalar_one()
            # For example, it names a column that the live table does not have, or an enum's label.
            except (DataError, NotSupportedError, ProgrammingError):
                continue
            finally:
                inner.rollback()
    finally:
        outer.rollback()
    return words
