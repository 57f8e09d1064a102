"""Live facts about tables in use: how large they are, and who holds locks on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis, other_sessions, raw_sql
from neuraknot_db.plan.values import Holder, TableNow
from neuraknot_db.schema.effects import BY_NAME, NAME, LockMode

# For each mode, its conflicting modes: https://www.postgresql.org/docs/current/explicit-locking.html
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
SELECT wanted.name, c.oid, c.reltuples::bigint AS rows
  FROM unnest(%(names)s::text[]) AS wanted (name)
  JOIN pg_class c ON c.oid = to_regclass(wanted.name)
"""

# Reading a size takes a lock, and would wait for a session that locks even readers out.
_SIZES = """
SELECT c.oid,
       CASE WHEN c.relkind = 'p'
            THEN (SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree(c.oid))
            ELSE pg_total_relation_size(c.oid) END::bigint AS bytes
  FROM pg_class c
 WHERE c.oid = ANY (%(oids)s) AND c.oid <> ALL (%(locked)s)
"""

_LOCKED = f"""
SELECT DISTINCT {NAME} AS name, c.oid
  FROM pg_locks l
  JOIN pg_class c ON c.oid = l.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid() AND c.relkind IN ('r', 'p')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY name
"""

# A prepared transaction has no process; PostgreSQL says 0 for it elsewhere.
_HOLDERS = """
SELECT relation, mode, coalesce(pid, 0) AS pid
  FROM pg_locks
 WHERE granted AND locktype = 'relation' AND relation = ANY (%(oids)s) AND pid IS DISTINCT FROM pg_backend_pid()
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


# Partitions and inheritance children of tables, at any depth.
_BELOW = f"""
WITH RECURSIVE below (above, oid) AS (
  SELECT wanted.name, i.inhrelid
    FROM unnest(%(names)s::text[]) AS wanted (name) JOIN pg_inherits i ON i.inhparent = to_regclass(wanted.name)
   UNION
  SELECT below.above, i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.oid
)
SELECT below.above, {NAME} AS name, n.nspname = 'public' AS in_public, c.relname
  FROM below
  JOIN pg_class c ON c.oid = below.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f')
 ORDER BY 1, 2
"""


def conflicts(wanted: LockMode, held: LockMode) -> bool:
    """Whether a lock must wait for another session's lock on the same table."""
    if LockMode.ACCESS_EXCLUSIVE in (wanted, held):
        return True
    if (wanted, held) == (LockMode.SHARE, LockMode.SHARE):
        return False  # the only mode that conflicts with weaker ones, but not with itself
    return held > _WAITS_FOR_STRONGER_THAN[wanted]


def survey(
    connection: Connection,
    wanted: Mapping[str, LockMode],
    made_by: Mapping[str, str],
    built_beside: Collection[str] = (),
) -> dict[str, TableNow]:
    """Return the tables as they are now.

    Args:
        connection: its transaction may be read-only.
        wanted: the tables, each with the strongest planned lock.
        made_by: the pending revision that creates a table.
        built_beside: those of the tables for which a statement waits until nobody has an older snapshot.
    """
    names = sorted(wanted)
    reading = dict.fromkeys(built_beside, other_sessions.reading(connection) if built_beside else frozenset[int]())
    rows = {row.name: row for row in connection.exec_driver_sql(_TABLES, {"names": names})}
    holders = _holders(connection, {name: row.oid for name, row in rows.items()}, wanted, reading)
    sizes = _sizes(connection, [row.oid for row in rows.values()])
    return {
        name: TableNow(
            name,
            exists=True,
            # -1 means never analyzed.
            rows=rows[name].rows if rows[name].rows >= 0 else None,
            bytes=sizes.get(rows[name].oid),
            holders=tuple(holders.get(name, ())),
        )
        if name in rows
        else TableNow(name, exists=False, made_by=made_by.get(name), holders=tuple(holders.get(name, ())))
        for name in names
    }


def below(connection: Connection, tables: Collection[str], known: Collection[str]) -> dict[str, list[str]]:
    """Return the partitions and inheritance children that only this database has.

    Args:
        connection: its transaction may be read-only.
        tables: their parents.
        known: tables in schema `public` that existed when it was measured.
    """
    found: dict[str, list[str]] = {}
    for row in connection.exec_driver_sql(_BELOW, {"names": sorted(tables)}):
        if not (row.in_public and row.relname in known):
            found.setdefault(row.above, []).append(row.name)
    return found


def locked(connection: Connection) -> tuple[str, ...]:
    """Return the tables that another session locks, or waits to lock, even for readers."""
    return tuple(row.name for row in raw_sql.execute(connection, _LOCKED))


def _sizes(connection: Connection, oids: Sequence[int]) -> dict[int, int]:
    """Return the sizes of tables whose size can be read."""
    held = [row.oid for row in connection.exec_driver_sql(_LOCKED)]
    try:
        with connection.begin_nested():
            rows = connection.exec_driver_sql(_SIZES, {"oids": oids, "locked": held}).all()
    except DBAPIError as error:
        # A lock on an index or a partition, or one taken meanwhile.
        if not diagnosis.is_lock_timeout(error):
            raise
        return {}
    return {row.oid: row.bytes for row in rows}


def _holders(
    connection: Connection,
    oids: Mapping[str, int],
    wanted: Mapping[str, LockMode],
    reading: Mapping[str, Collection[int]],
) -> dict[str, list[Holder]]:
    modes: dict[tuple[int | None, int], set[LockMode]] = {}
    for row in connection.exec_driver_sql(_HOLDERS, {"oids": list(oids.values())}) if oids else ():
        if row.mode in BY_NAME:  # other modes are not table locks
            modes.setdefault((row.relation, row.pid), set()).add(BY_NAME[row.mode])
    found: dict[str, list[Holder]] = {}
    for session in other_sessions.find(connection, {pid for _, pid in modes}.union(*reading.values())):
        for name, mode in wanted.items():
            held = modes.get((oids.get(name), session.pid), set())
            reads = session.pid in reading.get(name, ())
            if held or reads:
                in_the_way = reads or any(conflicts(mode, each) for each in held)
                found.setdefault(name, []).append(Holder(session, max(held, default=None), in_the_way, reads))
    return found
