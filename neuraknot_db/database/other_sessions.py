"""Other sessions of the server: who they are and what they do, with one query and one format."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from neuraknot_db.database import raw_sql

_QUERY_READ = 10_000
"""Characters of a query to read: it is cut for display only after its literals are removed."""

_QUERY_SHOWN = 200
_SHOWN = 5
_HIDDEN = "<insufficient privilege>"
_PREPARED = 0
"""The pid that PostgreSQL reports for a prepared transaction, which has no process."""

_SESSIONS = f"""
SELECT pid, coalesce(nullif(application_name, ''), backend_type, 'unknown') AS application,
       coalesce(usename, '') AS username, extract(epoch FROM clock_timestamp() - xact_start)::int AS age,
       coalesce(state, '') AS state, left(coalesce(query, ''), {_QUERY_READ}) AS query,
       backend_start::timestamp(0) || ' UTC' AS since, current_user AS reader
  FROM pg_stat_activity
 WHERE pid = ANY (%(pids)s)
"""


# A statement on a partitioned table locks its partitions, and one on a table locks the tables it refers to. A session
# whose transaction began only now did not block.
_HOLDING = """
SELECT l.pid, array_agg(c.relname::text)
       || array(SELECT r.relname::text
                  FROM unnest(array_agg(c.oid)) o CROSS JOIN pg_partition_ancestors(o) p JOIN pg_class r ON r.oid = p)
       || array(SELECT r.relname::text
                  FROM pg_constraint f JOIN pg_class r ON r.oid = f.conrelid
                 WHERE f.contype = 'f' AND f.confrelid = ANY (array_agg(c.oid))) AS names
  FROM pg_locks l
  JOIN pg_stat_activity a USING (pid)
  JOIN pg_class c ON c.oid = l.relation
 WHERE l.granted AND l.locktype = 'relation' AND l.pid <> pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND coalesce(a.xact_start < clock_timestamp() - coalesce(%(lock_timeout)s::float8 * interval '1 ms',
                                                            current_setting('lock_timeout')::interval) / 4, true)
 GROUP BY l.pid
"""


# Whose snapshot CREATE INDEX and REINDEX CONCURRENTLY wait out: not VACUUM's, nor that of a build whose index has no
# expression and no predicate. Where this role may not see snapshots, any open transaction may have one.
_READING = f"""
SELECT a.pid
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.leader_pid IS NULL AND a.usesysid IS NOT NULL
   AND (a.backend_xmin IS NOT NULL
        OR (a.query = '{_HIDDEN}'
            AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'virtualxid')))
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p JOIN pg_index x ON x.indexrelid = p.index_relid
                    WHERE p.pid = a.pid AND p.command LIKE '% CONCURRENTLY'
                      AND x.indexprs IS NULL AND x.indpred IS NULL)
"""


@dataclass(frozen=True)
class Session:
    """A session.

    Attributes:
        application: its `application_name`, or its kind of process.
        user: empty for one of the server's own processes.
        age: seconds since its transaction began; None if it has none, or if this role may not see it.
        state: as in `pg_stat_activity`.
        query: its current or last query, without literals and in one line.
        since: when it connected; None if this role may not see it.
        hidden: whether this role may not see what it does.
        reader: this role.
    """

    pid: int
    application: str = "unknown"
    user: str = ""
    age: int | None = None
    state: str = ""
    query: str = ""
    since: str | None = None
    hidden: bool = False
    reader: str = ""

    @property
    def is_prepared(self) -> bool:
        """Whether it is a prepared transaction, which no process has."""
        return self.pid == _PREPARED

    def __str__(self) -> str:
        if self.is_prepared:
            return "a prepared transaction: SELECT * FROM pg_prepared_xacts"
        who = f"pid {self.pid}, {self.application} ({self.user or 'the server'})"
        if self.hidden:
            return f"{who}; what it does is not shown to this role"
        age = "in no transaction" if self.age is None else f"in a transaction for {self.age} s"
        return f"{who}, {age}, {self.state or 'at work'}: {self.query[:_QUERY_SHOWN]}"


def find(connection: Connection, pids: Collection[int]) -> list[Session]:
    """Return the sessions with these pids that still exist, the oldest transaction first."""
    from neuraknot_db.database import sql_text  # few runs meet another session

    rows = connection.exec_driver_sql(_SESSIONS, {"pids": list(pids)}).all() if pids else []
    found = [
        Session(
            row.pid,
            row.application,
            row.username,
            row.age,
            row.state,
            "" if row.query == _HIDDEN else sql_text.without_literals(row.query),
            row.since,
            row.query == _HIDDEN,
            row.reader,
        )
        for row in rows
    ]
    found += [Session(_PREPARED)] if _PREPARED in pids else []
    return sorted(found, key=lambda each: (each.age is None, -(each.age or 0), each.pid))


def holding(connection: Connection, statement: str, lock_timeout: float | None = None) -> list[Session]:
    """Return the sessions that lock what a statement names: a guess, where no blocker was seen while it waited.

    Args:
        connection: not in a transaction.
        statement: the statement that failed.
        lock_timeout: its lock timeout in milliseconds; None for the session's own.
    """
    from neuraknot_db.database import sql_text  # few runs meet another session

    words = frozenset(sql_text.names(statement))
    # The error to report is the lock timeout, not a failure of this query.
    with contextlib.suppress(SQLAlchemyError):
        rows = connection.exec_driver_sql(_HOLDING, {"lock_timeout": lock_timeout}).all()
        found = find(connection, [row.pid for row in rows if words.intersection(row.names)])
        connection.rollback()
        return found
    return []


def reading(connection: Connection) -> frozenset[int]:
    """Return the pids of the sessions in this database with a snapshot, which CONCURRENTLY waits for."""
    return frozenset(row.pid for row in raw_sql.execute(connection, _READING))


def told(found: Sequence[Session], *, holding: str = "held by") -> Iterator[str]:
    """Yield lines about sessions that block."""
    for each in found[:_SHOWN]:
        yield f"{holding} {each}"
    if hidden := [each for each in found if each.hidden]:
        yield f"what they do is shown after {grant(hidden[0].reader)}"


def ending(found: Iterable[Session]) -> str:
    """The SQL that ends these sessions."""
    if any(each.is_prepared for each in found):
        return "SELECT gid FROM pg_prepared_xacts, then ROLLBACK PREPARED 'GID'"
    return "SELECT " + ", ".join(f"pg_terminate_backend({each.pid})" for each in found)


def grant(role: str) -> str:
    """The GRANT that shows a role what others do."""
    return f"GRANT pg_read_all_stats TO {raw_sql.quoted(role)}"
