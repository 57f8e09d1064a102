"""The present state of a database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.errors import RefusedError

_STATE = """
SELECT current_setting('server_version'),
       current_setting('transaction_read_only') = 'on',
       to_regnamespace('public') IS NOT NULL,
       coalesce(has_schema_privilege(to_regnamespace('public')::oid, 'CREATE'), false),
       to_regclass('public.alembic_version') IS NOT NULL,
       current_user,
       coalesce(has_table_privilege(to_regclass('public.alembic_version'), 'SELECT'), true),
       ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) p
              WHERE NOT has_table_privilege(to_regclass('public.alembic_version'), p)),
       ARRAY(SELECT relname::text FROM pg_class
              WHERE relnamespace = to_regnamespace('public') AND relkind IN ('r', 'p') AND relname <> 'alembic_version'
              ORDER BY relname)
"""

_READ_ONLY_BY = """
SELECT CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE source END, session_user, current_database()
  FROM pg_settings
 WHERE name = 'default_transaction_read_only'
"""

# An unrelated table of that name has other columns.
_VERSIONS = """
SELECT coalesce(to_jsonb(v) ->> 'version_num', to_jsonb(v)::text) FROM public.alembic_version v ORDER BY 1
"""


def joined(heads: Iterable[str]) -> str | None:
    """Return the revisions of a database as one string, None for none."""
    return ", ".join(sorted(heads)) or None


class DatabaseState(NamedTuple):
    """The state of a database before anything is done to it.

    Attributes:
        server_version: PostgreSQL's version, such as `15.18`.
        read_only: what ends the refusal of writes, as a hint; empty if they are not refused.
        has_schema: whether schema `public` exists.
        may_create: whether this role may create objects in it.
        role: whose rights the session has, which may be set for the user.
        lacking: the GRANT without which it can't write `alembic_version`; empty for none.
        versions: the revisions in `alembic_version`, empty for a database that was never versioned; a row without a
            revision is given as JSON.
        tables: the tables in `public`, without `alembic_version`.
    """

    server_version: str
    read_only: str
    has_schema: bool
    may_create: bool
    role: str
    lacking: str
    versions: tuple[str, ...]
    tables: tuple[str, ...]

    @classmethod
    def of(cls, connection: Connection) -> DatabaseState:
        """Read it, in two short queries, or three where writes are refused.

        Raises:
            RefusedError: this role may not read `alembic_version`.
        """
        row = connection.exec_driver_sql(_STATE).one()
        version, is_read_only, has_schema, may_create, versioned, role, may_read, lacks, tables = row
        read_only = _until_writable(*connection.exec_driver_sql(_READ_ONLY_BY).one()) if is_read_only else ""
        lacking = f"GRANT {', '.join(lacks)} ON public.alembic_version TO {raw_sql.quoted(role)}" if lacks else ""
        versions: tuple[str, ...] = ()
        if not may_read:
            raise RefusedError(
                f"User {role} may not read the table public.alembic_version.", hint=f"As its owner: {lacking}"
            )
        if versioned:
            rows = connection.exec_driver_sql(_VERSIONS)
            versions = tuple(rows.scalars())
        return cls(version.split(" ")[0], read_only, has_schema, may_create, role, lacking, versions, tuple(tables))

    @property
    def revision(self) -> str | None:
        """The revisions as one string, None for none."""
        return joined(self.versions)


def _until_writable(by: str, user: str, database: str) -> str:
    """Return what ends the refusal of writes, from the source of the session's setting."""
    user, database = raw_sql.quoted(user), raw_sql.quoted(database)
    whose = {
        "database": f"DATABASE {database}",
        "user": f"ROLE {user}",
        "database user": f"ROLE {user} IN DATABASE {database}",
        "global": "ROLE ALL",
    }
    if by == "replica":
        return "It is a replica. Connect to the primary: DB_HOST, or DATABASE_URL."
    if by in whose:
        return f"As an administrator: ALTER {whose[by]} RESET default_transaction_read_only"
    if by == "client":
        return "Take default_transaction_read_only out of PGOPTIONS, or of DATABASE_URL."
    return "Turn default_transaction_read_only off in the server's configuration (on RDS, its parameter group)."
