"""The log of what was run: `neuraknot_db.migration_log`, outside of `public`, where no reset erases it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.errors import RefusedError
from neuraknot_db.history import tables
from neuraknot_db.history.tables import PROGRESS, SCHEMA, TABLE

_COLUMNS = (
    "id, revision, direction, outcome, started_at, duration_ms, attempt, lock_wait_ms, error, checksum, source_sha256, "
    "database_user, client_host, tool_version, image, git_commit, task_arn, started_by"
)
_WITH_RUNS = 2
"""The first format whose rows name their run, and that keeps the positions of backfills."""

_HOLDS = f"""
SELECT EXISTS (SELECT FROM {TABLE} WHERE run = %(run)s::uuid AND direction = %(direction)s
                  AND revision IS NOT DISTINCT FROM %(revision)s AND outcome = 'succeeded')
"""

_APPLIED = f"""
SELECT revision, array_remove(array_agg(checksum), NULL), array_remove(array_agg(source_sha256), NULL)
  FROM (SELECT *, max(id) FILTER (WHERE direction <> 'accept') OVER (PARTITION BY revision) AS ran
          FROM {TABLE}
         -- A stamp says where the database is, and neither runs anything nor takes it back.
         WHERE outcome = 'succeeded' AND revision IS NOT NULL AND direction <> 'stamp'
           AND id > (SELECT coalesce(max(id), 0) FROM {TABLE} WHERE direction = 'reset' AND outcome = 'succeeded')
       ) since
 WHERE id >= ran
 GROUP BY revision
HAVING bool_or(direction = 'upgrade')
"""


# A run is ended by a row that says how, or by one that reaches the run's target.
_UNENDED = f"""
SELECT id
  FROM {TABLE} s
 WHERE outcome = 'started'
   AND NOT EXISTS (SELECT FROM {TABLE} r
                    WHERE r.run = s.run AND r.id > s.id
                      AND (r.outcome <> 'succeeded' OR r.after IS NOT DISTINCT FROM s.after))
"""

# Unless something was run since.
_VANISHED = f"""
SELECT direction, started_at::timestamp(0) || ' UTC', coalesce(started_by, database_user), coalesce(client_host, '?')
  FROM {TABLE}
 WHERE id = (SELECT max(id) FROM ({_UNENDED}) u)
   AND NOT EXISTS (SELECT FROM {TABLE} r
                    WHERE r.id > {TABLE.partition(".")[2]}.id
                      AND r.run IS DISTINCT FROM {TABLE.partition(".")[2]}.run)
"""


class Entry(NamedTuple):
    """A row to record: one attempt at one thing.

    Attributes:
        revision: None if it concerns no single one.
        direction: `upgrade`, `downgrade`, `stamp`, `adopt`, `accept`, `reset` or `mark`.
        outcome: `started`, for a whole run; `succeeded`, `failed` or `interrupted`.
        duration_ms: until it was recorded.
        attempt: 1 for the first.
        lock_wait_ms: lock waits of earlier attempts, including the pauses after them.
        error: the message of a failure.
        checksum: of what the revision does.
        source_sha256: of the revision's file.
        before: the revision that the database was at, None for none.
        after: the revision that it is at with this row, None for none.
        backfill: whether it is an upgrade by batches.
    """

    revision: str | None
    direction: str
    outcome: str = "succeeded"
    duration_ms: int = 0
    attempt: int = 1
    lock_wait_ms: int = 0
    error: str | None = None
    checksum: str | None = None
    source_sha256: str | None = None
    before: str | None = None
    after: str | None = None
    backfill: bool = False


class Record(NamedTuple):
    """A stored row of the log."""

    id: int
    revision: str | None
    direction: str
    outcome: str
    started_at: datetime
    duration_ms: int
    attempt: int
    lock_wait_ms: int
    error: str | None
    checksum: str | None
    source_sha256: str | None
    database_user: str
    client_host: str | None
    tool_version: str
    image: str | None
    git_commit: str | None
    task_arn: str | None
    started_by: str | None
    run: str | None
    before: str | None
    after: str | None


class Applied(NamedTuple):
    """What the log holds about an applied revision.

    Attributes:
        checksums: of what was executed, and of each edit accepted since.
        sources: the SHA-256 of each of these files.
    """

    revision: str
    checksums: list[str]
    sources: list[str]


class Position(NamedTuple):
    """Where the batches of a backfill are.

    Attributes:
        backfill: the digest of the backfill.
        behind: the last key that was gone through; None before the first.
        end: the last key of the table when this pass began; None before it.
        gone: the rows of the table that were gone through.
        seconds: what the batches up to there took, of all runs and passes.
    """

    backfill: str
    behind: str | None = None
    end: str | None = None
    gone: int = 0
    seconds: float = 0.0


class History:
    """The log and the settings of one database.

    Attributes:
        exists: whether the tables exist; `create` creates them.
        allowed: whether this role can write the log.
        may_batch: whether it can keep the position of a backfill besides.
        environment: the stored environment marker, None for none.
    """

    def __init__(self, connection: Connection) -> None:
        """Read it, changing nothing.

        Raises:
            RefusedError: the tables belong to a newer version of this tool, were tampered with, or may not be read.
        """
        self._connection = connection
        looked = connection.exec_driver_sql(tables.LOOK).one()
        self._has_schema, self.exists, may_read, self.allowed, owned, self.may_batch, user, database = looked
        self._user, role = user, raw_sql.quoted(user)
        self._format = tables.FORMAT
        ours = f"ON ALL TABLES IN SCHEMA {SCHEMA} TO {role}"
        if self.exists:
            self._grant = f"GRANT SELECT, INSERT {ours}; GRANT UPDATE ON {SCHEMA}.settings TO {role}"
        elif self._has_schema:
            self._grant = f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {role}"
        else:
            self._grant = f"GRANT CREATE ON DATABASE {raw_sql.quoted(database)} TO {role}"
        stored: dict[str, str] = {}
        if self.exists:
            if not may_read:
                raise RefusedError(
                    f"User {user} may not read the log of migrations in the schema {SCHEMA}.",
                    hint=f"As an administrator: GRANT USAGE ON SCHEMA {SCHEMA} TO {role}; GRANT SELECT {ours}",
                )
            shape = set(connection.exec_driver_sql(tables.SHAPE).scalars())
            tables.demand_settings(shape)
            rows = connection.exec_driver_sql(f"SELECT name, value FROM {SCHEMA}.settings")
            stored = {row.name: row.value for row in rows}
            self._format = tables.demand_log(stored, shape)
            if self._format < tables.FORMAT and not owned:
                self.allowed = False
                self._grant = f"{' '.join(tables.TAKE_OVER.split())} {self._grant}"
        self.environment = stored.get("environment")

    def demand_allowed(self, *, batches: bool = False) -> None:
        """Raise if this role can't write the log, or the position of a backfill where there are batches to run.

        Raises:
            RefusedError: it may not create the tables, or not write to them.
        """
        if not self.allowed:
            raise RefusedError(
                f"User {self._user} may not keep the log of migrations in the schema {SCHEMA}.",
                hint=f"As an administrator: {self._grant}",
            )
        if batches and not self.may_batch:
            raise RefusedError(
                f"User {self._user} may not keep the position of a backfill in {PROGRESS}.",
                hint=f"As an administrator: GRANT UPDATE, DELETE ON {PROGRESS} TO {raw_sql.quoted(self._user)}",
            )

    def progress(self) -> dict[str, tuple[Position, int]]:
        """Return the positions of unfinished backfills, and how many rows each has changed, by revision."""
        if not self._has_runs:
            return {}
        rows = self._connection.exec_driver_sql(f"SELECT revision, position, rows_changed FROM {PROGRESS}")
        return {revision: (Position(**json.loads(position)), changed) for revision, position, changed in rows}

    @property
    def _has_runs(self) -> bool:
        return self.exists and self._format >= _WITH_RUNS

    def create(self) -> None:
        """Create missing tables, or upgrade those of an older format, in the connection's transaction.

        Raises:
            RefusedError: this role may not create them, or not write to them.
        """
        self.demand_allowed()
        if not self.exists:
            # IF NOT EXISTS requires the right to create schemas even if there is nothing to create.
            schema = "" if self._has_schema else f"CREATE SCHEMA {SCHEMA};"
            self._connection.exec_driver_sql(f"{schema} {tables.CREATE}")
            self.exists = True
        elif self._format < tables.FORMAT:
            self._connection.exec_driver_sql(tables.TAKE_OVER)
            self._format = tables.FORMAT

    def mark(self, environment: str) -> None:
        """Store the environment's name, in the connection's transaction."""
        self.create()
        self._connection.exec_driver_sql(
            f"INSERT INTO {SCHEMA}.settings VALUES ('environment', %(it)s)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            {"it": environment},
        )
        self.environment = environment

    def holds(self, run: str, entry: Entry) -> bool:
        """Whether a run has a successful row of this revision and direction."""
        if not self._has_runs:
            return False
        values = {"run": run, "direction": entry.direction, "revision": entry.revision}
        return bool(self._connection.exec_driver_sql(_HOLDS, values).scalar_one())

    def applied(self) -> list[Applied]:
        """Return the revisions whose last successful entry since the last reset is an upgrade, ignoring edits."""
        if not self.exists:
            return []
        rows = self._connection.exec_driver_sql(_APPLIED)
        return [Applied(*row) for row in rows]

    def vanished(self) -> str | None:
        """Describe the last run if it never ended: it was killed, or its machine was lost."""
        if not self._has_runs:
            return None
        row = self._connection.exec_driver_sql(_VANISHED).first()
        return "{} of {} by {} on {}".format(*row) if row else None

    def records(self, *, every: bool = False) -> Iterator[Record]:
        """Yield the rows, oldest first; the start of a run only if it never ended, unless `every` row is wanted."""
        if not self.exists:
            return
        run, rows = "NULL, NULL, NULL", "true"
        if self._format >= _WITH_RUNS:
            run, rows = "run::text, before, after", f"{every} OR outcome <> 'started' OR id IN ({_UNENDED})"
        for row in self._connection.exec_driver_sql(f"SELECT {_COLUMNS}, {run} FROM {TABLE} WHERE {rows} ORDER BY id"):
            yield Record(*row)


INSERT = f"""
INSERT INTO {TABLE} (revision, direction, outcome, started_at, duration_ms, attempt, lock_wait_ms, error, checksum,
                     source_sha256, client_host, tool_version, image, git_commit, task_arn, started_by, run, before,
                     after)
VALUES (%(revision)s, %(direction)s, %(outcome)s, clock_timestamp() - %(duration_ms)s * interval '1 ms',
        %(duration_ms)s, %(attempt)s, %(lock_wait_ms)s, %(error)s, %(checksum)s, %(source_sha256)s,
        %(client_host)s, %(tool_version)s, %(image)s, %(git_commit)s, %(task_arn)s, %(started_by)s, %(run)s, %(before)s,
        %(after)s)
"""


def forgetting(entry: Entry) -> str:
    """Return the SQL that forgets, with an entry, the positions of backfills that it makes stale; empty for none.

    What else moves the database may drop what a backfill has filled, and make it anew.
    """
    moves = entry.outcome == "succeeded" and entry.direction != "mark"
    if not moves or (entry.direction == "upgrade" and not entry.backfill):
        return ""
    own = entry.direction in ("upgrade", "accept")
    return tables.FORGET.format(which="revision = %(revision)s" if own else "true")
