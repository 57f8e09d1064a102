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
        options: what it has unlike most columns, separated by commas: statistics target, storage, compression,
            `n_distinct`, a foreign table's options, parameters of a sequence that it owns; empty for nothing.
    """

    name: str
    type: str
    nullable: bool
    default: str | None = None
    commented: bool = False
    options: str = ""

    def __str__(self) -> str:
        default = f" DEFAULT {self.default}" if self.default is not None else ""
        options = f" ({self.options})" if self.options else ""
        return f"{self.type}{'' if self.nullable else ' NOT NULL'}{default}{options}"


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
    """A table, or what has columns like one: its parts by name. The order of parts does not affect equality.

    Attributes:
        traits: how it differs from an ordinary table: `unlogged`, how it is partitioned, row level security and its
            policies, another replica identity, rules, storage parameters, parents, what its indexes have of this kind.
        commented: whether it has a comment.
        kind: `table`, `view`, `materialized view` or `foreign table`.
        definition: a view's query, as `pg_get_viewdef` spells it; a foreign table's server; empty for a table.
    """

    name: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    indexes: Mapping[str, Index] = field(default_factory=dict)
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    traits: tuple[str, ...] = ()
    commented: bool = False
    kind: str = "table"
    definition: str = ""


@dataclass(frozen=True)
class Function:
    """A function or procedure, not an aggregate.

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
class Object:
    """Anything else: a type, a sequence that belongs to no column, an aggregate, an operator, a cast, and so on.

    Attributes:
        kind: such as `enum`, `domain`, `composite type` or `sequence`.
        name: without `public.`, quoted where SQL needs it, with the arguments' types if it has any.
        definition: all that is known of it; empty if that is only its name.
    """

    kind: str
    name: str
    definition: str


@dataclass(frozen=True)
class Schema:
    """What the schema `public` holds, without `alembic_version` and the objects of extensions.

    Attributes:
        tables: by name.
        functions: by signature.
        extensions: the names of the database's extensions, except plpgsql, which every database has.
        views: views, materialized views and foreign tables by name.
        others: what is none of these, by kind and name, such as `enum mood`.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    extensions: tuple[str, ...] = ()
    views: Mapping[str, Table] = field(default_factory=dict)
    others: Mapping[str, Object] = field(default_factory=dict)

    @property
    def relations(self) -> Mapping[str, Table]:
        """The tables and views by name."""
        return {**self.tables, **self.views}

    @property
    def names(self) -> frozenset[str]:
        """The names of all that it holds, whatever it is, without quotes and parameters."""
        spelled = (signature.partition("(")[0] for signature in self.functions)
        others = (other.name for other in self.others.values())
        plain = (each.strip('"').replace('""', '"') for each in (*spelled, *others))
        return frozenset((*self.relations, *self.extensions, *plain))


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
    """Read the schema `public` in eight queries that change nothing.

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
        others = _rows(connection, _OTHERS)
    found = [
        Table(
            name,
            {row.name: Column(*row[1:]) for row in columns[name]},
            {row.name: Constraint(*row[1:]) for row in constraints[name]},
            {row.name: Index(*row[1:]) for row in indexes[name]},
            {row.name: Trigger(*row[1:]) for row in triggers[name]},
            tuple(traits),
            *more,
        )
        for name, traits, *more in relations
    ]
    return Schema(
        tables={table.name: table for table in found if table.kind == "table"},
        functions={row.signature: Function(*row) for row in functions},
        extensions=tuple(row.name for row in extensions),
        views={table.name: table for table in found if table.kind != "table"},
        others={f"{row.kind} {row.name}": Object(*row) for row in sorted(others)},
    )


def _rows(connection: Connection, query: str) -> Sequence[Any]:
    return connection.exec_driver_sql(_OURS + query).all()


def _by_table(rows: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
    grouped: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row.relation].append(row)
    return grouped


# In each query, the columns after the first are the attributes of its value, in order.

# The sources of the queries: tables and views that belong to no extension; what is unlike the default in a sequence.
_OURS = """
WITH ours AS (
    SELECT r.*
      FROM pg_class r
     WHERE r.relnamespace = to_regnamespace('public')
       AND r.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND r.relname <> 'alembic_version'
       AND NOT EXISTS (
               SELECT FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype = 'e')
), sequences AS (
    SELECT seqrelid,
           seqtypid,
           concat_ws(' ', CASE WHEN seqincrement <> 1 THEN 'INCREMENT BY ' || seqincrement END,
                          CASE WHEN seqmin <> CASE WHEN up THEN 1 ELSE lowest END THEN 'MINVALUE ' || seqmin END,
                          CASE WHEN seqmax <> CASE WHEN up THEN highest ELSE -1 END THEN 'MAXVALUE ' || seqmax END,
                          CASE WHEN seqstart <> CASE WHEN up THEN seqmin ELSE seqmax END
                               THEN 'START WITH ' || seqstart END,
                          CASE WHEN seqcache <> 1 THEN 'CACHE ' || seqcache END,
                          CASE WHEN seqcycle THEN 'CYCLE' END) AS unusual
      FROM pg_sequence
      JOIN (VALUES ('smallint'::regtype, -32768::bigint, 32767::bigint),
                   ('integer', -2147483648, 2147483647),
                   ('bigint', -9223372036854775808, 9223372036854775807)) types(type, lowest, highest)
        ON type = seqtypid
     CROSS JOIN LATERAL (SELECT seqincrement > 0 AS up) direction
)
"""

_RELATIONS = r"""
SELECT relname AS name,
       array_remove(ARRAY[CASE WHEN relpersistence = 'u' THEN 'unlogged' END,
                          'partitioned by ' || pg_get_partkeydef(oid),
                          'of ' || format_type(NULLIF(reloftype, 0), NULL),
                          (SELECT 'using ' || quote_ident(amname) FROM pg_am WHERE oid = relam AND amname <> 'heap'),
                          (SELECT 'tablespace ' || quote_ident(spcname) FROM pg_tablespace WHERE oid = reltablespace),
                          CASE WHEN relrowsecurity THEN 'row level security' END,
                          CASE WHEN relforcerowsecurity THEN 'forced row level security' END,
                          CASE WHEN relkind IN ('r', 'p')
                               THEN CASE relreplident WHEN 'f' THEN 'replica identity full'
                                                      WHEN 'n' THEN 'replica identity nothing'
                                                      WHEN 'i' THEN 'replica identity by an index' END END], NULL)
           || ARRAY(SELECT parameter FROM unnest(reloptions) parameter ORDER BY parameter COLLATE "C")
           || ARRAY(SELECT 'toast.' || parameter
                      FROM pg_class toast CROSS JOIN unnest(toast.reloptions) parameter
                     WHERE toast.oid = ours.reltoastrelid ORDER BY parameter COLLATE "C")
           || ARRAY(SELECT CASE WHEN relispartition THEN concat('partition of ', inhparent::regclass, ' ',
                                                                pg_get_expr(relpartbound, ours.oid),
                                                                CASE WHEN inhdetachpending THEN ' (being detached)' END)
                                ELSE 'inherits ' || inhparent::regclass END
                      FROM pg_inherits WHERE inhrelid = ours.oid ORDER BY inhseqno)
           -- What pg_get_indexdef and pg_get_constraintdef leave out.
           || ARRAY(SELECT concat('index ', quote_ident(i.relname), ' ', fact)
                      FROM pg_index x
                      JOIN pg_class i ON i.oid = x.indexrelid
                     CROSS JOIN LATERAL (
                               SELECT 'clustered' WHERE x.indisclustered
                               UNION ALL SELECT 'as replica identity' WHERE x.indisreplident
                               UNION ALL SELECT 'tablespace ' || quote_ident(spcname)
                                           FROM pg_tablespace WHERE oid = i.reltablespace
                               UNION ALL SELECT parameter FROM unnest(i.reloptions) parameter
                                          WHERE i.reloptions IS NOT NULL AND EXISTS (
                                                    SELECT FROM pg_constraint
                                                     WHERE conindid = i.oid AND contype IN ('p', 'u', 'x'))
                               UNION ALL SELECT concat('column ', attnum, ' statistics ', attstattarget)
                                           FROM pg_attribute WHERE attrelid = i.oid AND attstattarget >= 0) facts(fact)
                     WHERE x.indrelid = ours.oid ORDER BY i.relname, fact COLLATE "C")
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
       obj_description(oid, 'pg_class') IS NOT NULL AS commented,
       CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                    ELSE 'table' END AS kind,
       CASE WHEN relkind IN ('v', 'm') THEN btrim(pg_get_viewdef(oid), ' ;')
            WHEN relkind = 'f' THEN (SELECT concat_ws(', ', 'SERVER ' || quote_ident(srvname),
                                                      (SELECT string_agg(option, ', ' ORDER BY option COLLATE "C")
                                                         FROM unnest(ftoptions) option))
                                       FROM pg_foreign_table JOIN pg_foreign_server s ON s.oid = ftserver
                                      WHERE ftrelid = ours.oid)
            ELSE '' END AS definition
  FROM ours
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
            WHEN a.attgenerated <> '' THEN concat('GENERATED ALWAYS AS (', pg_get_expr(d.adbin, d.adrelid), ')',
                                                  CASE WHEN a.attgenerated = 'v' THEN ' VIRTUAL' END)
            ELSE pg_get_expr(d.adbin, d.adrelid) END AS default,
       col_description(r.oid, a.attnum) IS NOT NULL AS commented,
       concat_ws(', ', 'statistics ' || NULLIF(a.attstattarget, -1),
                       CASE WHEN a.attstorage <> t.typstorage
                            THEN 'storage ' || CASE a.attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external'
                                                                 WHEN 'm' THEN 'main' ELSE 'extended' END END,
                       CASE a.attcompression WHEN 'p' THEN 'compression pglz' WHEN 'l' THEN 'compression lz4' END,
                       (SELECT string_agg(option, ', ' ORDER BY option COLLATE "C")
                          FROM unnest(a.attoptions || a.attfdwoptions) option),
                       (SELECT string_agg('sequence ' || found, ', ' ORDER BY found COLLATE "C")
                          FROM pg_depend p
                          JOIN sequences s ON s.seqrelid = p.objid
                         CROSS JOIN concat_ws(' ', CASE WHEN seqtypid <> a.atttypid
                                                        THEN 'AS ' || seqtypid::regtype END, NULLIF(unusual, '')) found
                         WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = r.oid AND p.refobjsubid = a.attnum
                           AND p.classid = 'pg_class'::regclass AND p.deptype IN ('a', 'i') AND found <> '')) AS options
  FROM ours r
  JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
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
 -- A foreign key to a partitioned table has one to each partition under it, named by the server's version.
 WHERE NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = c.conparentid AND p.conrelid = c.conrelid)
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
 WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid AND c.contype IN ('p', 'u', 'x'))
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
   AND p.prokind <> 'a'
   AND NOT EXISTS (  -- neither an extension's nor a range type's
           SELECT FROM pg_depend d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
 ORDER BY p.proname, pg_get_function_identity_arguments(p.oid) COLLATE "C"
"""

_EXTENSIONS = "SELECT extname AS name FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname"

# All of a domain `t` that its CREATE says.
DOMAIN = """
concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
               (SELECT 'COLLATE ' || quote_ident(collname)
                  FROM pg_collation c JOIN pg_type b ON b.oid = t.typbasetype
                 WHERE c.oid = t.typcollation AND c.oid <> b.typcollation),
               'DEFAULT ' || pg_get_expr(t.typdefaultbin, 0),
               CASE WHEN t.typnotnull THEN 'NOT NULL' END,
               (SELECT string_agg(concat('CONSTRAINT ', quote_ident(conname), ' ', pg_get_constraintdef(oid)), ' '
                                  ORDER BY conname)
                  FROM pg_constraint WHERE contypid = t.oid AND contype = 'c'))
"""

# What depends on the schema as its member, and the database's own casts, which have no schema. Of rare kinds `facts`
# are columns of the catalog; of one that is not known here, the name is all.
_OTHERS = rf"""
, members AS (
    SELECT classid, objid FROM pg_depend
     WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace('public') AND deptype = 'n'
    UNION ALL
    SELECT 'pg_cast'::regclass, oid FROM pg_cast WHERE oid >= 16384  -- below are PostgreSQL's
)
SELECT coalesce(told.kind, object.type) AS kind,
       regexp_replace(object.identity, '\mpublic\.', '', 'g') AS name,
       coalesce(told.definition, (SELECT string_agg(concat(key, ' ', value), ', ' ORDER BY key COLLATE "C")
                                    FROM jsonb_each_text(told.facts) WHERE value NOT IN ('', '-', '0', 'false')),
                '') AS definition
  FROM members m
 CROSS JOIN pg_identify_object(m.classid, m.objid, 0) object
  LEFT JOIN LATERAL (
    SELECT 'sequence' AS kind,
           concat_ws(' ', CASE relpersistence WHEN 'u' THEN 'UNLOGGED' END, 'AS', seqtypid::regtype,
                     NULLIF(unusual, '')) AS definition,
           NULL::jsonb AS facts
      FROM pg_class r JOIN sequences ON seqrelid = r.oid
     WHERE m.classid = 'pg_class'::regclass AND r.oid = m.objid
    UNION ALL
    SELECT CASE typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite type'
                        WHEN 'r' THEN 'range type' END,
           CASE typtype
           WHEN 'e' THEN concat('(', (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
                                        FROM pg_enum WHERE enumtypid = t.oid), ')')
           WHEN 'd' THEN {DOMAIN}
           WHEN 'c' THEN concat('(', (
               SELECT string_agg(concat_ws(' ', quote_ident(attname), format_type(atttypid, atttypmod),
                                           (SELECT 'COLLATE ' || quote_ident(collname)
                                              FROM pg_collation c JOIN pg_type b ON b.oid = atttypid
                                             WHERE c.oid = attcollation AND c.oid <> b.typcollation)),
                                 ', ' ORDER BY attnum)
                 FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped), ')')
           WHEN 'r' THEN (
               SELECT concat_ws(', ', 'SUBTYPE ' || format_type(rngsubtype, NULL),
                                'SUBTYPE_OPCLASS ' || (SELECT opcname FROM pg_opclass o WHERE o.oid = rngsubopc),
                                'COLLATION ' || NULLIF(rngcollation, 0)::regcollation,
                                'CANONICAL ' || NULLIF(rngcanonical::oid, 0)::regproc,
                                'SUBTYPE_DIFF ' || NULLIF(rngsubdiff::oid, 0)::regproc,
                                'MULTIRANGE_TYPE_NAME ' || format_type(rngmultitypid, NULL))
                 FROM pg_range WHERE rngtypid = t.oid)
           END,
           NULL
      FROM pg_type t WHERE m.classid = 'pg_type'::regclass AND t.oid = m.objid
    UNION ALL
    SELECT NULL, NULL,
           to_jsonb(a) - 'aggfnoid' || jsonb_build_object('aggtranstype', aggtranstype::regtype,
                                                          'aggmtranstype', aggmtranstype::regtype,
                                                          'aggsortop', aggsortop::regoperator,
                                                          'agginitval', quote_literal(agginitval),
                                                          'aggminitval', quote_literal(aggminitval),
                                                          'parallel', proparallel)
      FROM pg_aggregate a JOIN pg_proc p ON p.oid = aggfnoid
     WHERE m.classid = 'pg_proc'::regclass AND p.oid = m.objid
    UNION ALL
    SELECT NULL, NULL,
           jsonb_build_object('function', oprcode, 'commutator', oprcom::regoperator, 'negator', oprnegate::regoperator,
                              'restrict', oprrest, 'join', oprjoin, 'hashes', oprcanhash, 'merges', oprcanmerge)
      FROM pg_operator WHERE m.classid = 'pg_operator'::regclass AND oid = m.objid
    UNION ALL
    SELECT NULL, NULL,
           jsonb_build_object('function', castfunc::regprocedure, 'method', castmethod, 'context', castcontext)
      FROM pg_cast WHERE m.classid = 'pg_cast'::regclass AND oid = m.objid
    UNION ALL
    SELECT NULL, NULL,
           jsonb_build_object('provider', collprovider, 'deterministic', collisdeterministic, 'collate', collcollate,
                              'ctype', collctype, 'rules', facts -> 'collicurules',  -- since 16
                              'locale', coalesce(facts -> 'colllocale', facts -> 'colliculocale'))  -- renamed in 17
      FROM pg_collation c CROSS JOIN to_jsonb(c) facts WHERE m.classid = 'pg_collation'::regclass AND oid = m.objid
    UNION ALL
    SELECT NULL, NULL,
           jsonb_build_object('function', conproc, 'for', pg_encoding_to_char(conforencoding),
                              'to', pg_encoding_to_char(contoencoding), 'default', condefault)
      FROM pg_conversion WHERE m.classid = 'pg_conversion'::regclass AND oid = m.objid
    UNION ALL
    SELECT NULL, pg_get_statisticsobjdef(oid) || coalesce(' STATISTICS ' || NULLIF(stxstattarget, -1), ''), NULL
      FROM pg_statistic_ext WHERE m.classid = 'pg_statistic_ext'::regclass AND oid = m.objid
    UNION ALL
    SELECT NULL, concat('TEMPLATE ', quote_ident(tmplname), ', ' || dictinitoption), NULL
      FROM pg_ts_dict d JOIN pg_ts_template t ON t.oid = dicttemplate
     WHERE m.classid = 'pg_ts_dict'::regclass AND d.oid = m.objid
    UNION ALL
    SELECT NULL,
           concat('PARSER ', quote_ident(prsname), E'\n' || (
               SELECT string_agg(concat(alias, ' ', mapdict::regdictionary), E'\n' ORDER BY maptokentype, mapseqno)
                 FROM pg_ts_config_map JOIN ts_token_type(cfgparser) ON tokid = maptokentype WHERE mapcfg = c.oid)),
           NULL
      FROM pg_ts_config c JOIN pg_ts_parser p ON p.oid = cfgparser
     WHERE m.classid = 'pg_ts_config'::regclass AND c.oid = m.objid
  ) told ON true
 WHERE CASE m.classid WHEN 'pg_class'::regclass THEN told.kind IS NOT NULL AND NOT EXISTS (
                                 SELECT FROM pg_depend d
                                  WHERE d.classid = m.classid AND d.objid = m.objid AND d.refobjsubid > 0)
                      WHEN 'pg_proc'::regclass THEN told.facts IS NOT NULL
                      WHEN 'pg_cast'::regclass THEN true
                      ELSE object.schema IS NOT NULL END
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = m.classid AND d.objid = m.objid AND d.deptype IN ('e', 'i'))
"""
