"""What DROP SCHEMA public CASCADE would drop besides the schema's own objects."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql

# From the schema along pg_depend, as PostgreSQL's own findDependentObjects() does: to everything that depends on what
# is reached, and from a part (a view's rule, an extension's function) to the whole that it belongs to.
_REACHED = """
WITH RECURSIVE reached(classid, objid, objsubid) AS (
    SELECT 'pg_namespace'::regclass::oid, 'public'::regnamespace::oid, 0
    UNION
    SELECT next.classid, next.objid, next.objsubid
      FROM reached r
     CROSS JOIN LATERAL (
        SELECT d.classid, d.objid, d.objsubid
          FROM pg_depend d
         WHERE d.refclassid = r.classid AND d.refobjid = r.objid
           AND (r.objsubid = 0 OR d.refobjsubid = r.objsubid)
        UNION ALL
        SELECT d.refclassid, d.refobjid, d.refobjsubid
          FROM pg_depend d
         WHERE d.classid = r.classid AND d.objid = r.objid AND d.deptype IN ('i', 'e')
           AND (d.objsubid = r.objsubid OR r.objsubid = 0)
     ) next
), described AS (
    SELECT DISTINCT ON (r.classid, r.objid, r.objsubid)
           r.classid, r.objid, o.type, o.schema, o.identity,
           -- Parts of a relation have no schema of their own: theirs is the relation's.
           coalesce(con.conrelid, tg.tgrelid, ad.adrelid, pol.polrelid) AS relation,
           EXISTS (SELECT FROM pg_depend m
                    WHERE m.classid = r.classid AND m.objid = r.objid AND m.deptype = 'e') AS is_member
      FROM reached r
     CROSS JOIN LATERAL pg_identify_object(r.classid, r.objid, r.objsubid) o
      LEFT JOIN pg_constraint con ON r.classid = 'pg_constraint'::regclass AND con.oid = r.objid
      LEFT JOIN pg_trigger tg ON r.classid = 'pg_trigger'::regclass AND tg.oid = r.objid
      LEFT JOIN pg_attrdef ad ON r.classid = 'pg_attrdef'::regclass AND ad.oid = r.objid
      LEFT JOIN pg_policy pol ON r.classid = 'pg_policy'::regclass AND pol.oid = r.objid
)
SELECT type, identity
  FROM described d
  LEFT JOIN pg_class c ON c.oid = d.relation
 WHERE NOT is_member
   AND coalesce(d.schema, c.relnamespace::regnamespace::text, '') <> 'public'
   AND NOT (d.classid = 'pg_namespace'::regclass AND d.objid = 'public'::regnamespace)
   -- Kept by the reset itself.
   AND d.classid <> 'pg_default_acl'::regclass
   AND NOT EXISTS (SELECT FROM pg_trigger t
                    WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND t.tgisinternal)
   AND NOT EXISTS (SELECT FROM reached w
                    WHERE w.classid = 'pg_class'::regclass AND w.objid = d.relation AND w.objsubid = 0)
   -- Parts that go with a whole that is listed: toast tables, rules of views, row types, array types, and the
   -- operators and functions of an operator family.
   AND coalesce(d.schema, '') <> 'pg_toast'
   AND d.classid NOT IN ('pg_rewrite'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass)
   AND NOT EXISTS (SELECT FROM pg_type t
                     LEFT JOIN pg_class rt ON rt.oid = t.typrelid
                    WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid
                      AND (rt.relkind <> 'c' OR t.typcategory = 'A'))
 ORDER BY type, identity
"""


@dataclass(frozen=True)
class Casualty:
    """An object outside of `public` that would be dropped with it.

    Attributes:
        kind: PostgreSQL's word for it, such as `view` or `extension`.
        name: qualified and quoted as PostgreSQL writes it.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def casualties(connection: Connection, *, brought_back: frozenset[str]) -> tuple[Casualty, ...]:
    """Return what else would be dropped; nothing is changed or locked.

    Args:
        connection: any session; one query.
        brought_back: extensions that the revisions create again.
    """
    rows = raw_sql.execute(connection, _REACHED)
    names = {name for extension in brought_back for name in (extension, f'"{extension}"')}
    return tuple(Casualty(kind, name) for kind, name in rows if not (kind == "extension" and name in names))
