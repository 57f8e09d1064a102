"""The live schema as values, read from PostgreSQL's catalogs; identical on PostgreSQL 15 to 18."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.engine import Connection


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: as `format_type` spells it, with its collation if that is not the type's own.
        default: the default's expression, or how the column is generated; None for neither.
        commented: whether it has a comment.
    """

    name: str
    type: str
    nullable: bool
    default: str | None = None
    commented: bool = False

    def __str__(self) -> str:
        default = f" DEFAULT {self.default}" if self.default is not None else ""
        return f"{self.type}{'' if self.nullable else ' NOT NULL'}{default}"


@dataclass(frozen=True)
class Constraint:
    """A constraint of a table. NOT NULL belongs to its column, though PostgreSQL 18 counts it as a constraint.

    Attributes:
        kind: `check`, `foreign key`, `primary key`, `unique` or `exclusion`.
        definition: as `pg_get_constraintdef` spells it, without NOT VALID.
        validated: whether older rows are known to satisfy it.
        enforced: False if the triggers that enforce it are disabled, or fire on replicas only.
        commented: whether it has a comment.
    """

    name: str
    kind: str
    definition: str
    validated: bool = True
    enforced: bool = True
    commented: bool = False

    def __str__(self) -> str:
        disabled = "" if self.enforced else " (its triggers are disabled)"
        return f"{self.definition}{'' if self.validated else ' NOT VALID'}{disabled}"


@dataclass(frozen=True)
class Index:
    """An index that does not belong to a constraint.

    Attributes:
        definition: as `pg_get_indexdef` spells it.
        valid: False if a concurrent build failed, or has not ended.
    """

    name: str
    definition: str
    valid: bool = True

    def __str__(self) -> str:
        return f"{self.definition}{'' if self.valid else ' (invalid)'}"


@dataclass(frozen=True)
class Trigger:
    """A user trigger, not one of a constraint's.

    Attributes:
        definition: as `pg_get_triggerdef` spells it.
        state: `enabled`, the default; `disabled`, `replica` or `always`.
    """

    name: str
    definition: str
    state: str = "enabled"

    def __str__(self) -> str:
        return f"{self.definition}{'' if self.state == 'enabled' else f' ({self.state})'}"


@dataclass(frozen=True)
class Table:
    """A table: its parts by name. The order of parts does not affect equality.

    Attributes:
        traits: how it differs from an ordinary table: `unlogged`, `partitioned`, row level security and its policies,
            another replica identity, rules.
        commented: whether it has a comment.
    """

    name: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    indexes: Mapping[str, Index] = field(default_factory=dict)
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    traits: tuple[str, ...] = ()
    commented: bool = False


@dataclass(frozen=True)
class Function:
    """A function or procedure.

    Attributes:
        signature: its name and the types of its arguments, such as `update_updated_at_column()`.
        returns: the type of its result; None for a procedure.
        language: such as `plpgsql`.
        definition: the whole `CREATE OR REPLACE FUNCTION` statement, as `pg_get_functiondef` spells it.
    """

    signature: str
    returns: str | None
    language: str
    definition: str


@dataclass(frozen=True)
class Schema:
    """What the schema `public` holds, without `alembic_version` and the objects of extensions.

    Attributes:
        tables: by name.
        functions: by signature.
        extensions: the names of the database's extensions, except plpgsql, which every database has.
        others: other relations: their kind by name, such as `view`.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def search_path_public(connection: Connection) -> Iterator[None]:
    """Within the block, spell names as seen from `public`; restore the search path afterwards."""
    before = connection.exec_driver_sql(
        # Both in one query: a select list is evaluated from left to right.
        "SELECT current_setting('search_path'), set_config('search_path', 'public, pg_temp', true)"
    ).scalar_one()
    yield
    connection.exec_driver_sql("SELECT set_config('search_path', %(path)s, true)", {"path": before})


def read_schema(connection: Connection) -> Schema:
    """Read the schema `public` in seven queries that change nothing.

    Args:
        connection: not in autocommit mode. Its transaction may be read-only, and stays open.
    """
    with search_path_public(connection):
        relations = _rows(connection, _RELATIONS)
        columns = _by_table(_rows(connection, _COLUMNS))
        constraints = _by_table(_rows(connection, _CONSTRAINTS))
        indexes = _by_table(_rows(connection, _INDEXES))
        triggers = _by_table(_rows(connection, _TRIGGERS))
        functions = _rows(connection, _FUNCTIONS)
        extensions = _rows(connection, _EXTENSIONS)
    return Schema(
        tables={
            name: Table(
                name,
                {row.name: Column(*row[1:]) for row in columns[name]},
                {row.name: Constraint(*row[1:]) for row in constraints[name]},
                {row.name: Index(*row[1:]) for row in indexes[name]},
                {row.name: Trigger(*row[1:]) for row in triggers[name]},
                tuple(traits),
                commented,
            )
            for name, kind, traits, commented in relations
            if kind == "table"
        },
        functions={row.signature: Function(*row) for row in functions},
        extensions=tuple(row.name for row in extensions),
        others={row.name: row.kind for row in relations if row.kind != "table"},
    )


def _rows(connection: Connection, query: str) -> Sequence[Any]:
    return connection.exec_driver_sql(_OURS + query).all()


def _by_table(rows: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
    grouped: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row.relation].append(row)
    return grouped


# In each query, the columns after the first are the attributes of its value, in order.

# The source of each query: relations that belong neither to an extension nor, as a sequence, to a column.
_OURS = """
WITH ours AS (
    SELECT r.*
      FROM pg_class r
     WHERE r.relnamespace = to_regnamespace('public')
       AND r.relname <> 'alembic_version'
       AND NOT EXISTS (
               SELECT FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid
                  AND (d.deptype = 'e' OR r.relkind = 'S' AND d.deptype IN ('a', 'i')))
)
"""

_RELATIONS = r"""
SELECT relname AS name,
       CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
                    WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'sequence' END AS kind,
       array_remove(ARRAY[CASE WHEN relpersistence = 'u' THEN 'unlogged' END,
                          CASE WHEN relkind = 'p' THEN 'partitioned' END,
                          CASE WHEN relrowsecurity THEN 'row level security' END,
                          CASE WHEN relforcerowsecurity THEN 'forced row level security' END,
                          CASE relreplident WHEN 'f' THEN 'replica identity full'
                                            WHEN 'n' THEN 'replica identity nothing'
                                            WHEN 'i' THEN 'replica identity by an index' END], NULL)
           || ARRAY(SELECT concat('policy ', quote_ident(polname), CASE WHEN NOT polpermissive THEN ' restrictive' END,
                                  ' for ', polcmd,
                                  ' to ', ARRAY(SELECT CASE role WHEN 0 THEN 'public' ELSE pg_get_userbyid(role) END
                                                  FROM unnest(polroles) role ORDER BY 1),
                                  ' using ' || pg_get_expr(polqual, polrelid),
                                  ' with check ' || pg_get_expr(polwithcheck, polrelid))
                      FROM pg_policy WHERE polrelid = ours.oid ORDER BY polname)
           || ARRAY(SELECT regexp_replace(rtrim(pg_get_ruledef(oid), ';'), '\s+', ' ', 'g')
                           || CASE ev_enabled WHEN 'O' THEN '' WHEN 'D' THEN ' (disabled)'
                                              WHEN 'R' THEN ' (replica)' ELSE ' (always)' END
                      FROM pg_rewrite WHERE ev_class = ours.oid AND rulename <> '_RETURN' ORDER BY rulename) AS traits,
       obj_description(oid, 'pg_class') IS NOT NULL AS commented
  FROM ours
 WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
 ORDER BY relname
"""

_COLUMNS = """
SELECT r.relname AS relation,
       a.attname AS name,
       format_type(a.atttypid, a.atttypmod)
           || CASE WHEN a.attcollation <> t.typcollation
                   THEN ' COLLATE ' || quote_ident((SELECT collname FROM pg_collation WHERE oid = a.attcollation))
                   ELSE '' END AS type,
       -- From 18 on it may be NOT VALID: new rows hold to it, of the old ones nobody knows.
       NOT a.attnotnull OR EXISTS (SELECT FROM pg_constraint c
                                    WHERE c.conrelid = r.oid AND c.contype = 'n' AND c.conkey = ARRAY[a.attnum]
                                      AND NOT c.convalidated) AS nullable,
       CASE WHEN a.attidentity = 'a' THEN 'GENERATED ALWAYS AS IDENTITY'
            WHEN a.attidentity = 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY'
            WHEN a.attgenerated <> '' THEN 'GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ')'
            ELSE pg_get_expr(d.adbin, d.adrelid) END AS default,
       col_description(r.oid, a.attnum) IS NOT NULL AS commented
  FROM ours r
  JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE r.relkind IN ('r', 'p')
 ORDER BY r.relname, a.attnum
"""

_CONSTRAINTS = """
SELECT r.relname AS relation,
       c.conname AS name,
       CASE c.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' WHEN 'p' THEN 'primary key'
                      WHEN 'u' THEN 'unique' ELSE 'exclusion' END AS kind,
       regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', '') AS definition,
       c.convalidated AS validated,
       NOT EXISTS (SELECT FROM pg_trigger g
                    WHERE g.tgconstraint = c.oid AND g.tgenabled NOT IN ('O', 'A')) AS enforced,
       obj_description(c.oid, 'pg_constraint') IS NOT NULL AS commented
  FROM ours r
  JOIN pg_constraint c ON c.conrelid = r.oid AND c.contype IN ('c', 'f', 'p', 'u', 'x')
 WHERE r.relkind IN ('r', 'p')
 ORDER BY r.relname, c.contype, c.conname
"""

_INDEXES = """
SELECT r.relname AS relation,
       i.relname AS name,
       pg_get_indexdef(i.oid) AS definition,
       x.indisvalid AND x.indisready AS valid
  FROM ours r
  JOIN pg_index x ON x.indrelid = r.oid
  JOIN pg_class i ON i.oid = x.indexrelid
 WHERE r.relkind IN ('r', 'p')
   AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid AND c.contype IN ('p', 'u', 'x'))
 ORDER BY r.relname, i.relname
"""

_TRIGGERS = """
SELECT r.relname AS relation,
       g.tgname AS name,
       pg_get_triggerdef(g.oid) AS definition,
       CASE g.tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled'
                        WHEN 'R' THEN 'replica' ELSE 'always' END AS state
  FROM ours r
  JOIN pg_trigger g ON g.tgrelid = r.oid AND NOT g.tgisinternal
 WHERE r.relkind IN ('r', 'p')
 ORDER BY r.relname, g.tgname
"""

_FUNCTIONS = """
SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS signature,
       pg_get_function_result(p.oid) AS returns,
       l.lanname AS language,
       pg_get_functiondef(p.oid) AS definition
  FROM pg_proc p
  JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = to_regnamespace('public')
   AND p.prokind IN ('f', 'p')
   AND NOT EXISTS (
           SELECT FROM pg_depend d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY p.proname, pg_get_function_identity_arguments(p.oid) COLLATE "C"
"""

_EXTENSIONS = "SELECT extname AS name FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname"
