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

_SET_BY = """
SELECT source, session_user, current_database(), pg_is_in_recovery() FROM pg_settings WHERE name = %(parameter)s
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
        read_only = resetting(connection, "default_transaction_read_only") if is_read_only else ""
        lacking = f"GRANT {', '.join(lacks)} ON public.alembic_version TO {raw_sql.quoted(role)}" if lacks else ""
        versions: tuple[str, ...] = ()
        if not may_read:
            # The right to write is asked for later, of a user who migrates: one who only looks is to get none.
            grant = f"GRANT SELECT ON public.alembic_version TO {raw_sql.quoted(role)}"
            raise RefusedError(
                f"User {role} may not read the table public.alembic_version.", hint=f"As its owner: {grant}"
            )
        if versioned:
            rows = connection.exec_driver_sql(_VERSIONS)
            versions = tuple(rows.scalars())
        return cls(version.split(" ")[0], read_only, has_schema, may_create, role, lacking, versions, tuple(tables))

    @property
    def revision(self) -> str | None:
        """The revisions as one string, None for none."""
        return joined(self.versions)


def resetting(connection: Connection, parameter: str) -> str:
    """Return what takes a session's parameter back to its default, as a hint: it depends on who has set it."""
    is_read_only = parameter == "default_transaction_read_only"
    by, user, database, is_replica = connection.exec_driver_sql(_SET_BY, {"parameter": parameter}).one()
    user, database = raw_sql.quoted(user), raw_sql.quoted(database)
    whose = {
        "database": f"DATABASE {database}",
        "user": f"ROLE {user}",
        "database user": f"ROLE {user} IN DATABASE {database}",
        "global": "ROLE ALL",
    }
    if is_replica:
        return "It is a replica. Connect to the primary: DB_HOST, or DATABASE_URL."
    if by in whose:
        statement = f"ALTER {whose[by]} RESET {parameter}"
        # An administrator's session may be read-only as well.
        return f"As an administrator: {f'BEGIN READ WRITE; {statement}; COMMIT' if is_read_only else statement}"
    if by == "client":
        return f"Take {parameter} out of PGOPTIONS, or of DATABASE_URL."
    return f"Take {parameter} out of the server's configuration (on RDS, its parameter group)."
