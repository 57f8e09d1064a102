"""What the database knows about the cause of a failure: asked after the rollback, for the error's hint."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from neuraknot_db.database import diagnosis, raw_sql, sqlstate
from neuraknot_db.database.state import DatabaseState

_FOR_PRIVILEGES = frozenset(
    {"select", "insert", "update", "delete", "truncate", "copy", "lock", "with", "merge", "call"}
)
"""The first words of statements for which privileges on what they name are enough."""

_BETWEEN_WORDS = re.compile(r"[\s\"'«»„“”‹›「」『』(),:;]+")
_BETWEEN_ASCII = re.compile(r"[\s\"'(),:;]+|[^\x00-\x7f]+")
"""Japanese has no blanks around a name."""
_LENGTHS = range(1, 9)
"""Words in a name."""
_QUOTED = re.compile(r"[\"'«„“‹「『]([^\"'»“”›」』]+)[\"'»“”›」』]")
_OPERATOR = re.compile(r"(?<!\S)[~!@#^&|`?+\-*/%<>=]+(?!\S)")

_CLASSES = {
    sqlstate.UNDEFINED_FUNCTION: ["pg_proc", "pg_operator"],
    sqlstate.UNDEFINED_OBJECT: ["pg_type", "pg_opclass", "pg_collation"],
    sqlstate.UNDEFINED_TABLE: ["pg_class"],
}
"""By SQLSTATE, the catalogs that hold what the server misses."""

# What the server misses, and an extension has it where no unqualified name is looked up.
_ELSEWHERE = """
WITH named(class, oid, name) AS (
    SELECT 'pg_proc'::regclass, oid, proname FROM pg_proc
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprname FROM pg_operator
    UNION ALL SELECT 'pg_type'::regclass, oid, typname FROM pg_type
    UNION ALL SELECT 'pg_class'::regclass, oid, relname FROM pg_class
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcname FROM pg_opclass
    UNION ALL SELECT 'pg_collation'::regclass, oid, collname FROM pg_collation
), found AS (
    SELECT m.class, m.name, e.extname, n.nspname
      FROM named m
      LEFT JOIN pg_depend d ON d.classid = m.class AND d.objid = m.oid AND d.deptype = 'e'
                           AND d.refclassid = 'pg_extension'::regclass
      LEFT JOIN pg_extension e ON e.oid = d.refobjid
      LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE m.class::text = ANY (%(classes)s) AND m.name = ANY (%(names)s)
)
SELECT DISTINCT f.extname, f.nspname
  FROM found f
 WHERE f.nspname NOT IN ('public', 'pg_catalog')
   -- Otherwise it is only called with other arguments.
   AND NOT EXISTS (SELECT FROM found o WHERE o.class = f.class AND o.name = f.name
                    AND o.nspname IS DISTINCT FROM f.nspname)
"""

# The object that the server named, of those that are somebody else's. Several may have its name: the server has said
# what it is, unless in another language.
_NOT_OURS = """
WITH given(class, oid, name, owner) AS (
    SELECT 'pg_class'::regclass, oid, relname, relowner FROM pg_class
    UNION ALL SELECT 'pg_proc'::regclass, oid, proname, proowner FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typname, typowner FROM pg_type WHERE typrelid = 0
    UNION ALL SELECT 'pg_namespace'::regclass, oid, nspname, nspowner FROM pg_namespace
    UNION ALL SELECT 'pg_database'::regclass, oid, datname, datdba FROM pg_database
    UNION ALL SELECT 'pg_language'::regclass, oid, lanname, lanowner FROM pg_language
    UNION ALL SELECT 'pg_extension'::regclass, oid, extname, extowner FROM pg_extension
    UNION ALL SELECT 'pg_collation'::regclass, oid, collname, collowner FROM pg_collation
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprname, oprowner FROM pg_operator
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxname, stxowner FROM pg_statistic_ext
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtname, evtowner FROM pg_event_trigger
    UNION ALL SELECT 'pg_publication'::regclass, oid, pubname, pubowner FROM pg_publication
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvname, srvowner FROM pg_foreign_server
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwname, fdwowner FROM pg_foreign_data_wrapper
), named AS (
    SELECT class, oid, name,
           CASE WHEN pg_get_userbyid(owner) = 'pg_database_owner'
                THEN (SELECT datdba FROM pg_database WHERE datname = current_database()) ELSE owner END AS owner
      FROM given WHERE name = ANY (%(names)s)
)
SELECT o.type, o.identity, pg_get_userbyid(n.owner) AS owner, r.rolsuper AS by_superuser,
       CASE WHEN n.class = 'pg_class'::regclass THEN has_table_privilege(n.oid, 'REFERENCES') END AS may_reference,
       CASE WHEN n.class = 'pg_class'::regclass THEN has_table_privilege(n.oid, 'TRIGGER') END AS may_trigger,
       pg_has_role(n.owner, 'MEMBER') AS is_member,
       CASE WHEN n.class = 'pg_namespace'::regclass THEN has_schema_privilege(n.oid, 'CREATE') END AS may_create
  FROM named n
  JOIN pg_roles r ON r.oid = n.owner
 CROSS JOIN pg_identify_object(n.class, n.oid, 0) o
 WHERE NOT pg_has_role(n.owner, 'USAGE')
   AND NOT coalesce(o.schema, n.name) = ANY ('{pg_catalog, information_schema, pg_toast}')
 ORDER BY position(o.type || ' ' || n.name IN %(message)s) = 0, length(n.name) DESC,
          o.schema IS DISTINCT FROM 'public', o.identity
 LIMIT 1
"""

_PREDEFINED = r"SELECT rolname FROM pg_roles WHERE rolname = ANY (%(names)s) AND rolname LIKE 'pg\_%%'"
# Roles alone stand in quotes there, of what belongs to somebody.
_ROLES = (
    "SELECT rolname FROM pg_roles WHERE rolname = ANY (%(names)s) AND NOT rolsuper AND NOT pg_has_role(oid, 'MEMBER')"
)
_ROLE = "SELECT current_user, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"

_GRANTABLE = {
    "table": ("TABLE", "ALL"),
    "view": ("TABLE", "ALL"),
    "materialized view": ("TABLE", "ALL"),
    "foreign table": ("TABLE", "ALL"),
    "sequence": ("SEQUENCE", "ALL"),
    "schema": ("SCHEMA", "USAGE, CREATE"),
    "database": ("DATABASE", "CREATE"),
    "function": ("FUNCTION", "EXECUTE"),
    "procedure": ("PROCEDURE", "EXECUTE"),
    "type": ("TYPE", "USAGE"),
    "language": ("LANGUAGE", "USAGE"),
    "foreign-data wrapper": ("FOREIGN DATA WRAPPER", "USAGE"),
    "server": ("FOREIGN SERVER", "USAGE"),
}
"""By what the server calls an object: its kind and the privileges in a GRANT."""

_NEW_EXTENSION = re.compile(r"\bcreate extension (?:if not exists )?(\"[^\"]+\"|\w+)", re.IGNORECASE)
_NEW_ROLE = re.compile(r"(?:create|alter|drop) (?:role|user|group)\b(?! mapping)", re.IGNORECASE)
_ABOVE = re.compile(r"\b(?:superuser|replication|bypassrls)\b", re.IGNORECASE)
"""Attributes of a role that CREATEROLE does not give away."""
_NEW_DATABASE = re.compile(r"(?:create|drop) database\b", re.IGNORECASE)
_NEW_TRIGGER = re.compile(r"create (?:or replace )?(?:constraint )?trigger\b", re.IGNORECASE)
_REFERENCING = re.compile(r"(?:create|alter)\b.*\breferences\b", re.IGNORECASE | re.DOTALL)


def hint(connection: Connection, error: BaseException) -> str | None:
    """Return what to do about a failed statement, if the database knows it; None otherwise.

    Args:
        connection: not in a transaction; asked, and left as it was.
        error: the failure.
    """
    asking = _ASKING.get(sqlstate.of(error))
    if asking is None or not isinstance(error, DBAPIError):
        return None
    # The failure itself is told all the same.
    with contextlib.suppress(SQLAlchemyError):
        found = asking(connection, error)
        connection.rollback()
        return found
    return None


def _names(message: str) -> list[str]:
    """Return what may be a name in the server's message, in any language: each run of its words."""
    names: list[str] = []
    for between in (_BETWEEN_WORDS, _BETWEEN_ASCII):
        words = [word.removeprefix("public.") for word in between.split(message) if word]
        names += [" ".join(words[start : start + length]) for start in range(len(words)) for length in _LENGTHS]
    return names


def _message(error: DBAPIError) -> str:
    return getattr(error.orig.diag, "message_primary", None) or ""  # type: ignore[union-attr]


def _writable(connection: Connection, error: DBAPIError) -> str | None:
    del error
    return DatabaseState.of(connection).read_only or None


def _elsewhere(connection: Connection, error: DBAPIError) -> str | None:
    message = _message(error)
    names = [*_QUOTED.findall(message), *diagnosis.CALLED.findall(message), *_OPERATOR.findall(message)]
    names = [name.removeprefix("public.") for name in names]
    classes = _CLASSES[sqlstate.of(error)]
    row = connection.exec_driver_sql(_ELSEWHERE, {"names": names, "classes": classes}).first()
    if row is None:
        return None
    extension, schema = row
    return (
        f"The extension {extension} is in the schema {schema}, where revisions don't look. As its owner:"
        f" ALTER EXTENSION {raw_sql.quoted(extension)} SET SCHEMA public"
    )


def _missing_right(connection: Connection, error: DBAPIError) -> str | None:
    """Return who may do what the server refused, and the statement that lets this role do it."""
    from neuraknot_db.database import sql_text  # few runs fail

    message = _message(error)
    # Without comments, and with one blank between words.
    statement = " ".join(token.text for token in sql_text.tokens(error.statement or ""))
    names = _names(_QUOTED.sub(" ", message))
    current, creates_roles, creates_databases = connection.exec_driver_sql(_ROLE).one()
    role, administrator = raw_sql.quoted(current), "As an administrator:"
    if error.orig.diag.source_function == "ExecWithCheckOptions":  # type: ignore[union-attr]
        return f"A row-level security policy keeps the row out. {administrator} ALTER ROLE {role} BYPASSRLS"
    if not creates_roles and _NEW_ROLE.match(statement) and not _ABOVE.search(statement):
        return f"{administrator} ALTER ROLE {role} CREATEROLE"
    if not creates_databases and _NEW_DATABASE.match(statement):
        return f"{administrator} ALTER ROLE {role} CREATEDB"
    for name in _NEW_EXTENSION.findall(statement):
        if name.strip('"') in _QUOTED.findall(message):
            return f"As an administrator, in this database: CREATE EXTENSION IF NOT EXISTS {name}"
    if of_role := connection.exec_driver_sql(_ROLES, {"names": _QUOTED.findall(message)}).scalar():
        return f"{administrator} GRANT {raw_sql.quoted(of_role)} TO {role}"
    predefined = connection.exec_driver_sql(_PREDEFINED, {"names": _names(str(error.orig))}).scalar()
    if predefined is not None:
        files = "On RDS nobody may: write rows as INSERT. Elsewhere, as" if "_server_" in predefined else "As"
        return f"{files} an administrator: GRANT {predefined} TO {role}"
    found = connection.exec_driver_sql(_NOT_OURS, {"names": names, "message": message}).first()
    if found is None:
        return None
    if found.may_create:  # another role lacked it, which the revision had set
        return None
    kind, privileges = _GRANTABLE.get(found.type, ("", ""))
    if kind and _is_grantable(statement, message):
        if kind == "TABLE":
            privileges = _on_table(statement, found)
        return f"As {found.owner}, or an administrator: GRANT {privileges} ON {kind} {found.identity} TO {role}"
    what, altered = f"the {found.type} {found.identity}", "SERVER" if found.type == "server" else kind
    connect, owner = f"Connect as {found.owner}, which owns {what}", raw_sql.quoted(found.owner)
    if found.is_member:  # without its rights: NOINHERIT
        return f"{connect}, or write before it in the revision: SET LOCAL ROLE {owner}"
    if not found.by_superuser:
        # Not ALTER ... OWNER TO, which would take it from an application that connects as its owner.
        return f"{connect}, or as an administrator: GRANT {owner} TO {role}"
    # A member of a superuser's role would be one.
    return f"{connect}, or as that role: ALTER {altered} {found.identity} OWNER TO {role}" if altered else f"{connect}."


def _is_grantable(statement: str, message: str) -> bool:
    """Whether privileges are enough, without being the owner; where the message is translated, by the statement."""
    first = statement.partition(" ")[0].lower()
    if message.startswith("permission denied"):
        return first not in {"grant", "revoke"}
    return first in _FOR_PRIVILEGES


def _on_table(statement: str, found: Any) -> str:
    """Return the privileges on a table that the statement takes; all, once it has the one that seemed to be enough."""
    if _NEW_TRIGGER.match(statement) and not found.may_trigger:
        return "TRIGGER"
    if _REFERENCING.match(statement) and not found.may_reference:
        return "REFERENCES"
    return "ALL"


_ASKING: dict[str, Callable[[Connection, DBAPIError], str | None]] = {
    sqlstate.UNDEFINED_FUNCTION: _elsewhere,
    sqlstate.UNDEFINED_OBJECT: _elsewhere,
    sqlstate.UNDEFINED_TABLE: _elsewhere,
    sqlstate.INSUFFICIENT_PRIVILEGE: _missing_right,
    sqlstate.READ_ONLY: _writable,
}
