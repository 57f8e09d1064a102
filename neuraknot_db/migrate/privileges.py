"""Owner, privileges, default privileges and comment of the schema `public`: read and restored by a reset."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.errors import RefusedError

_SCHEMA = """
SELECT pg_get_userbyid(n.nspowner),
       (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()), current_database(),
       n.nspacl IS NOT NULL, obj_description(n.oid, 'pg_namespace'), current_user,
       pg_has_role(n.nspowner, 'USAGE'), has_database_privilege(current_database(), 'CREATE'),
       -- From 16 on, to create for another role takes the right to SET ROLE to it.
       CASE WHEN current_setting('server_version_num')::int >= 160000
            THEN pg_has_role(n.nspowner, 'SET') ELSE pg_has_role(n.nspowner, 'MEMBER') END
  FROM pg_namespace n
 WHERE n.nspname = 'public'
"""

_GRANTS = """
SELECT coalesce((SELECT rolname FROM pg_roles WHERE oid = x.grantee), ''), x.privilege_type, bool_or(x.is_grantable)
  FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) x
 WHERE n.nspname = 'public'
 GROUP BY 1, 2
 ORDER BY 1, 2
"""

_DEFAULTS = """
SELECT pg_get_userbyid(d.defaclrole), pg_has_role(d.defaclrole, 'USAGE'), d.defaclobjtype::text,
       coalesce((SELECT rolname FROM pg_roles WHERE oid = x.grantee), ''), x.privilege_type, x.is_grantable
  FROM pg_default_acl d CROSS JOIN aclexplode(d.defaclacl) x
 WHERE d.defaclnamespace = 'public'::regnamespace
 ORDER BY 1, 3, 4, 5
"""

# How the rights on single objects differ from those of an object that this role makes anew, as statements. An owner's
# own rights are those of grantee -1, whoever it is.
_LOST = """
WITH granted(kind, object, columns, owner, acl) AS (
    SELECT CASE c.relkind WHEN 'S' THEN 'S' ELSE 'r' END::"char",
           CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END || format(' public.%I', c.relname), '', c.relowner,
           c.relacl
      FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'c', format('TABLE public.%I', c.relname), format(' (%I)', a.attname), c.relowner, a.attacl
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
     WHERE c.relnamespace = 'public'::regnamespace AND a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT 'f', format('ROUTINE public.%I(%s)', p.proname, oidvectortypes(p.proargtypes)), '', p.proowner, p.proacl
      FROM pg_proc p
     WHERE p.pronamespace = 'public'::regnamespace
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'T', format('TYPE public.%I', t.typname), '', t.typowner, t.typacl
      FROM pg_type t
     WHERE t.typnamespace = 'public'::regnamespace AND t.typacl IS NOT NULL
), me AS (
    SELECT oid AS role FROM pg_roles WHERE rolname = current_user
), made(kind, grantee, privilege, grantable) AS (
    SELECT k.kind, CASE x.grantee WHEN me.role THEN -1 ELSE x.grantee::bigint END, x.privilege_type, x.is_grantable
      FROM me CROSS JOIN (VALUES ('r'::"char"), ('S'), ('f'), ('T')) k(kind)
     CROSS JOIN LATERAL (
               -- A role's defaults for all schemas stand instead of the server's, those for one are added.
               SELECT coalesce((SELECT defaclacl FROM pg_default_acl
                                 WHERE defaclrole = me.role AND defaclnamespace = 0 AND defaclobjtype = k.kind),
                               acldefault(CASE k.kind WHEN 'S' THEN 's' ELSE k.kind END, me.role))
               UNION ALL
               SELECT defaclacl FROM pg_default_acl
                WHERE defaclrole = me.role AND defaclnamespace = 'public'::regnamespace
                  AND defaclobjtype = k.kind) a(acl)
     CROSS JOIN LATERAL aclexplode(a.acl) x
), held(kind, object, columns, grantee, privilege, grantable) AS (
    SELECT g.kind, g.object, g.columns, CASE x.grantee WHEN g.owner THEN -1 ELSE x.grantee::bigint END,
           x.privilege_type, x.is_grantable
      FROM granted g
     CROSS JOIN LATERAL aclexplode(coalesce(g.acl, CASE WHEN g.kind <> 'c' THEN
                            acldefault(CASE g.kind WHEN 'S' THEN 's' ELSE g.kind END, g.owner) END)) x
), statements(verb, preposition, object, columns, grantee, privilege, grantable) AS (
    SELECT 'GRANT', 'TO', object, columns, grantee, privilege, bool_or(grantable)
      FROM held h
     WHERE NOT EXISTS (SELECT FROM made m
                        WHERE (m.kind, m.grantee, m.privilege) = (h.kind, h.grantee, h.privilege)
                          AND m.grantable >= h.grantable)
     GROUP BY 1, 2, 3, 4, 5, 6
    UNION ALL
    SELECT DISTINCT 'REVOKE', 'FROM', g.object, '', m.grantee, m.privilege, false
      FROM made m JOIN granted g ON g.kind = m.kind
     WHERE NOT EXISTS (SELECT FROM held h
                        WHERE (h.object, h.columns, h.grantee, h.privilege) = (g.object, '', m.grantee, m.privilege))
)
SELECT concat(verb, ' ', string_agg(privilege || columns, ', ' ORDER BY privilege),
              ' ON ', object, ' ', preposition, ' ',
              CASE grantee WHEN -1 THEN quote_ident(current_user) WHEN 0 THEN 'PUBLIC'
                           ELSE quote_ident(pg_get_userbyid(grantee::oid)) END,
              CASE WHEN grantable THEN ' WITH GRANT OPTION' END, ';')
  FROM statements
 GROUP BY verb, preposition, object, columns, grantee, grantable
 ORDER BY 1
"""

# Objects of an extension, and sequences owned by a column, go with their owner.
_OWNERS = """
SELECT pg_get_userbyid(o.owner) AS owner, array_agg(o.name ORDER BY o.name) AS names
  FROM (SELECT relowner AS owner, relname::text AS name, 'pg_class'::regclass AS catalog, oid
          FROM pg_class
         WHERE relnamespace = to_regnamespace('public') AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL
        SELECT proowner, proname || '()', 'pg_proc'::regclass, oid
          FROM pg_proc
         WHERE pronamespace = to_regnamespace('public')) o
 WHERE pg_get_userbyid(o.owner) <> current_user
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = o.catalog AND d.objid = o.oid AND d.deptype IN ('e', 'a', 'i'))
 GROUP BY 1
 ORDER BY 1
"""

_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES"}


@dataclass(frozen=True)
class Grant:
    """A privilege of a role; an empty grantee is PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True)
class DefaultGrant:
    """A default privilege on new objects of a role in the schema."""

    role: str
    kind: str
    grant: Grant


@dataclass(frozen=True)
class SchemaProperties:
    """What `CREATE SCHEMA public` alone does not restore.

    Attributes:
        grants: None if the privileges were never changed.
        lost: the GRANT and REVOKE statements of single objects, which a reset does not restore.
    """

    owner: str
    grants: tuple[Grant, ...] | None
    defaults: tuple[DefaultGrant, ...]
    comment: str | None
    lost: tuple[str, ...]


def read(connection: Connection) -> SchemaProperties | None:
    """Return the properties of `public`, None if there is no such schema.

    Raises:
        RefusedError: this role could not restore them.
    """
    row = connection.exec_driver_sql(_SCHEMA).first()
    if row is None:
        return None
    owner, database_owner, database, changed, comment, user, may_drop, may_create, may_give = row
    # Nobody can log in as pg_database_owner or become a member of it.
    login = database_owner if owner == "pg_database_owner" else owner
    if not may_drop:
        raise RefusedError(
            f"User {user} may not drop the schema public: it belongs to {owner}.",
            hint=f"Connect as {login}{', the owner of the database' * (login != owner)}.",
        )
    if not (may_create and may_give):
        grant = f"CREATE ON DATABASE {raw_sql.quoted(database)}" if may_give else raw_sql.quoted(login)
        raise RefusedError(
            f"User {user} could not create the schema public again for its owner {owner}.",
            hint=f"As an administrator: GRANT {grant} TO {raw_sql.quoted(user)}",
        )
    defaults = connection.exec_driver_sql(_DEFAULTS).all()
    foreign = sorted({role for role, mine, *_ in defaults if not mine})
    if foreign:
        raise RefusedError(
            f"User {user} could not restore the default privileges of {', '.join(foreign)} in the schema public.",
            hint=f"As an administrator: GRANT {raw_sql.quoted(foreign[0])} TO {raw_sql.quoted(user)}",
        )
    return SchemaProperties(
        owner=owner,
        grants=tuple(Grant(*grant) for grant in connection.exec_driver_sql(_GRANTS)) if changed else None,
        defaults=tuple(DefaultGrant(role, kind, Grant(*grant)) for role, _, kind, *grant in defaults),
        comment=comment,
        lost=tuple(raw_sql.execute(connection, _LOST).scalars()),
    )


def other_owners(connection: Connection) -> dict[str, list[str]]:
    """Return the tables, views, sequences and functions in `public` that belong to other roles, by role."""
    return {row.owner: row.names for row in connection.exec_driver_sql(_OWNERS)}


def create_schema(connection: Connection, wanted: SchemaProperties | None) -> None:
    """Create `public` with these properties or PostgreSQL's defaults, in the caller's transaction.

    Raises:
        RefusedError: the resulting privileges differ.
    """
    run = functools.partial(raw_sql.execute, connection)
    if wanted is None:
        run("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
        run("GRANT USAGE ON SCHEMA public TO PUBLIC")
        return
    run(f"CREATE SCHEMA public AUTHORIZATION {raw_sql.quoted(wanted.owner)}")
    if wanted.comment is not None:
        connection.exec_driver_sql("SELECT set_config('neuraknot_db.comment', %(it)s, true)", {"it": wanted.comment})
        run(
            "DO $$ BEGIN EXECUTE format('COMMENT ON SCHEMA public IS %L', current_setting('neuraknot_db.comment'));"
            " END $$"
        )
    if wanted.grants is not None:
        run(f"REVOKE ALL ON SCHEMA public FROM PUBLIC, {raw_sql.quoted(wanted.owner)}")
        for grant in wanted.grants:
            run(f"GRANT {grant.privilege} ON SCHEMA public {_to(grant)}")
    for default in wanted.defaults:
        run(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {raw_sql.quoted(default.role)} IN SCHEMA public"
            f" GRANT {default.grant.privilege} ON {_KINDS[default.kind]} {_to(default.grant)}"
        )
    found = read(connection)
    if found is None or (found.owner, found.grants, found.defaults, found.comment) != (
        wanted.owner,
        wanted.grants,
        wanted.defaults,
        wanted.comment,
    ):
        raise RefusedError(
            "The schema's owner and privileges would not have come out as they were; all is as before.",
            hint="Compare \\dn+ and \\ddp in psql with what this role may grant, or reset as the schema's owner.",
        )


def _to(grant: Grant) -> str:
    grantee = raw_sql.quoted(grant.grantee) if grant.grantee else "PUBLIC"
    return f"TO {grantee}{' WITH GRANT OPTION' if grant.grantable else ''}"
