"""What the database knows about the cause of a failure: asked after the rollback, for the error's hint."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from neuraknot_db.database import raw_sql

_INSUFFICIENT_PRIVILEGE = "42501"
_UNDEFINED = ("42883", "42704", "42P01")
"""SQLSTATEs for an unknown function or operator, object (such as a type or an operator class), and table."""

_BY_OWNER = frozenset({"alter", "drop", "create", "comment", "reindex", "cluster", "vacuum", "analyze"})
"""The first words of statements that only an owner may run."""

# What a statement names of an extension that is where no unqualified name is looked up.
_ELSEWHERE = """
SELECT DISTINCT e.extname, n.nspname
  FROM pg_extension e
  JOIN pg_namespace n ON n.oid = e.extnamespace AND n.nspname NOT IN ('public', 'pg_catalog')
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
 WHERE coalesce((SELECT proname FROM pg_proc WHERE oid = d.objid AND d.classid = 'pg_proc'::regclass),
                (SELECT typname FROM pg_type WHERE oid = d.objid AND d.classid = 'pg_type'::regclass),
                (SELECT relname FROM pg_class WHERE oid = d.objid AND d.classid = 'pg_class'::regclass),
                (SELECT opcname FROM pg_opclass WHERE oid = d.objid AND d.classid = 'pg_opclass'::regclass))
       = ANY (%(names)s)
"""

_NOT_OURS = """
SELECT relname, pg_get_userbyid(relowner) AS owner, current_user AS role
  FROM pg_class
 WHERE relnamespace = to_regnamespace('public') AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
   AND relname = ANY (%(names)s) AND NOT pg_has_role(relowner, 'USAGE')
 ORDER BY relname
"""


def hint(connection: Connection, error: BaseException) -> str | None:
    """Return what to do about a failed statement, if the database knows it; None otherwise.

    Args:
        connection: not in a transaction; asked, and left as it was.
        error: the failure.
    """
    state = getattr(getattr(error, "orig", None), "pgcode", None)
    if not isinstance(error, DBAPIError) or not error.statement or state not in (*_UNDEFINED, _INSUFFICIENT_PRIVILEGE):
        return None
    from neuraknot_db.database import sql_text  # few runs fail

    names = sql_text.names(error.statement)
    try:
        if state in _UNDEFINED:
            return _elsewhere(connection, names)
        return _not_ours(connection, names, by_owner=names[0] in _BY_OWNER)
    except SQLAlchemyError:
        return None
    finally:
        connection.rollback()


def _elsewhere(connection: Connection, names: Collection[str]) -> str | None:
    row = connection.exec_driver_sql(_ELSEWHERE, {"names": list(names)}).first()
    if row is None:
        return None
    extension, schema = row
    return (
        f"The extension {extension} is in the schema {schema}, where revisions don't look. As its owner:"
        f" ALTER EXTENSION {raw_sql.quoted(extension)} SET SCHEMA public"
    )


def _not_ours(connection: Connection, names: Collection[str], *, by_owner: bool) -> str | None:
    found = connection.exec_driver_sql(_NOT_OURS, {"names": list(names)}).all()
    if not found:
        return None
    tables, role = ", ".join(f"public.{raw_sql.quoted(row.relname)}" for row in found), raw_sql.quoted(found[0].role)
    if by_owner:
        change = "; ".join(f"ALTER TABLE public.{raw_sql.quoted(row.relname)} OWNER TO {role}" for row in found)
        return f"Connect as {found[0].owner}, which owns {found[0].relname}, or as an administrator: {change}"
    return f"As {found[0].owner}, or an administrator: GRANT ALL ON TABLE {tables} TO {role}"
