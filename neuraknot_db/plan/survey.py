"""What the server says of tables in use: how large they are, and who holds locks on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import retry, sqltext
from neuraknot_db.blockers import QUERY_READ
from neuraknot_db.impact import Families, LockMode, Name
from neuraknot_db.plan.values import Holder, TableNow

QUERY_LENGTH = 500
"""Characters of another session's query that are shown at most."""

_MODES = {mode.name.title().replace("_", "") + "Lock": mode for mode in LockMode}

# The other modes that each mode waits for: https://www.postgresql.org/docs/current/explicit-locking.html
_WAITS_FOR_STRONGER_THAN = {
    LockMode.ACCESS_SHARE: LockMode.EXCLUSIVE,
    LockMode.ROW_SHARE: LockMode.SHARE_ROW_EXCLUSIVE,
    LockMode.ROW_EXCLUSIVE: LockMode.SHARE_UPDATE_EXCLUSIVE,
    LockMode.SHARE_UPDATE_EXCLUSIVE: LockMode.ROW_EXCLUSIVE,
    LockMode.SHARE: LockMode.ROW_SHARE,
    LockMode.SHARE_ROW_EXCLUSIVE: LockMode.ROW_SHARE,
    LockMode.EXCLUSIVE: LockMode.ACCESS_SHARE,
}

_TABLES = """
SELECT n.nspname, c.relname, c.oid, c.reltuples::bigint AS rows
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS wanted (schema, name)
  JOIN pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
"""

# To look at a size takes a lock: a table that somebody keeps even readers from would be waited for.
_SIZES = """
SELECT c.oid,
       CASE WHEN c.relkind = 'p'
            THEN (SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree(c.oid))
            ELSE pg_total_relation_size(c.oid) END::bigint AS bytes
  FROM pg_class c
 WHERE c.oid = ANY (%(oids)s) AND c.oid <> ALL (%(locked)s)
"""

_LOCKED = """
SELECT DISTINCT n.nspname, c.relname, c.oid
  FROM pg_locks l
  JOIN pg_class c ON c.oid = l.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.mode = 'AccessExclusiveLock' AND l.pid <> pg_backend_pid() AND c.relkind IN ('r', 'p')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY n.nspname, c.relname
"""

_HOLDERS = f"""
SELECT l.relation, l.mode, a.pid, coalesce(nullif(a.application_name, ''), a.backend_type, 'unknown') AS application,
       coalesce(a.usename, '') AS username, coalesce(a.state, a.backend_type, '') AS state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::int AS seconds,
       left(coalesce(a.query, ''), {QUERY_READ}) AS query
  FROM pg_locks l
  JOIN pg_stat_activity a USING (pid)
 WHERE l.granted AND l.locktype = 'relation' AND l.relation = ANY (%(oids)s) AND l.pid <> pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY a.xact_start NULLS LAST, a.pid
"""


_FAMILIES = """
SELECT pn.nspname, p.relname, cn.nspname, c.relname, p.relkind = 'p'
  FROM pg_inherits i
  JOIN pg_class p ON p.oid = i.inhparent
  JOIN pg_namespace pn ON pn.oid = p.relnamespace
  JOIN pg_class c ON c.oid = i.inhrelid
  JOIN pg_namespace cn ON cn.oid = c.relnamespace
 WHERE p.relkind IN ('r', 'p', 'f')
 ORDER BY 1, 2, 3, 4
"""


def conflicts(wanted: LockMode, held: LockMode) -> bool:
    """Whether a lock must wait for one that another session holds on the same table."""
    if LockMode.ACCESS_EXCLUSIVE in (wanted, held):
        return True
    if (wanted, held) == (LockMode.SHARE, LockMode.SHARE):
        return False  # the one mode that conflicts with weaker ones, but not with itself
    return held > _WAITS_FOR_STRONGER_THAN[wanted]


def survey(
    connection: Connection, wanted: Mapping[Name, LockMode], made_by: Mapping[Name, str]
) -> dict[Name, TableNow]:
    """The tables as they are now.

    Args:
        connection: its transaction may be read-only.
        wanted: the tables, each with the strongest lock that is planned on it.
        made_by: the pending revision that makes a table.
    """
    names = sorted(wanted)
    columns = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    rows = {Name(row.nspname, row.relname): row for row in connection.exec_driver_sql(_TABLES, columns)}
    holders = _holders(connection, {row.oid: wanted[name] for name, row in rows.items()})
    sizes = _sizes(connection, [row.oid for row in rows.values()])
    found = {}
    for name in names:
        row = rows.get(name)
        found[name] = (
            TableNow(name, exists=False, made_by=made_by.get(name))
            if row is None
            else TableNow(
                name,
                exists=True,
                made_by=None,
                # Never analysed: -1, which says nothing.
                rows=row.rows if row.rows >= 0 else None,
                bytes=sizes.get(row.oid),
                holders=tuple(holders.get(row.oid, ())),
            )
        )
    return found


def families(connection: Connection) -> Families:
    """Which tables are partitions or heirs of which."""
    children: dict[Name, list[Name]] = {}
    partition_of = {}
    for schema, parent, child_schema, child, is_partition in connection.exec_driver_sql(_FAMILIES):
        children.setdefault(Name(schema, parent), []).append(Name(child_schema, child))
        if is_partition:
            partition_of[Name(child_schema, child)] = Name(schema, parent)

    def below(name: Name) -> Iterator[Name]:
        for child in children.get(name, ()):
            yield child
            yield from below(child)

    return Families({name: tuple(dict.fromkeys(below(name))) for name in children}, partition_of)


def locked(connection: Connection) -> tuple[Name, ...]:
    """The tables that another session keeps even readers from, or waits to."""
    return tuple(Name(row.nspname, row.relname) for row in connection.exec_driver_sql(_LOCKED))


def _sizes(connection: Connection, oids: Sequence[int]) -> dict[int, int]:
    """The sizes of tables that can be looked at."""
    held = [row.oid for row in connection.exec_driver_sql(_LOCKED)]
    try:
        with connection.begin_nested():
            rows = connection.exec_driver_sql(_SIZES, {"oids": oids, "locked": held}).all()
    except DBAPIError as error:
        # An index, a partition, or a lock that came in between.
        if not retry.is_lock_timeout(error):
            raise
        return {}
    return {row.oid: row.bytes for row in rows}


def _holders(connection: Connection, wanted: Mapping[int, LockMode]) -> dict[int, list[Holder]]:
    found: dict[int, dict[int, Holder]] = {}
    for row in connection.exec_driver_sql(_HOLDERS, {"oids": list(wanted)}) if wanted else ():
        mode = _MODES.get(row.mode)
        if mode is None:  # a mode that tables don't have
            continue
        sessions = found.setdefault(row.relation, {})
        before = sessions.get(row.pid)
        in_the_way = conflicts(wanted[row.relation], mode)
        sessions[row.pid] = Holder(
            row.pid,
            row.application,
            row.username,
            row.state,
            row.seconds,
            max(mode, before.mode) if before else mode,
            in_the_way or (before is not None and before.in_the_way),
            sqltext.without_literals(row.query)[:QUERY_LENGTH],
        )
    return {relation: list(sessions.values()) for relation, sessions in found.items()}
