"""Change the rows of a backfill in batches by primary key, each in one transaction with its position."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import display, excerpt, interrupt, lock, other_sessions, raw_sql
from neuraknot_db.errors import LockUnavailableError, MigrationFailedError, RefusedError
from neuraknot_db.history.tables import PROGRESS
from neuraknot_db.migrate import failures
from neuraknot_db.migrate.autocommit import INTERVALS
from neuraknot_db.migrate.failures import FailurePoint
from neuraknot_db.revisions.backfill import Backfill
from neuraknot_db.settings import Limits

log = logging.getLogger(__name__)

FIRST = 100
"""Rows of the first batch."""

LAG = "10s"
"""How far a standby may be behind."""

_BYTES_BEHIND = 64 << 20
"""The same, where the server knows no time: four files of WAL."""

_POLL = 1.0
_PASSES = 2
"""How often a run goes through the table: again for the rows that the application added behind the position."""

_TABLE = """
SELECT CASE WHEN c.relkind = 'v' THEN 'is a view' WHEN c.relkind = 'm' THEN 'is a materialized view'
            WHEN c.relkind = 'p' THEN 'is partitioned' WHEN c.relkind = 'f' THEN 'is a foreign table'
            WHEN c.relkind <> 'r' THEN 'is no table'
            WHEN EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) THEN 'has tables that inherit from it'
            WHEN k.names IS NULL THEN 'has no primary key'
            WHEN cardinality(k.names) > 1 THEN format('has a primary key of %s columns', cardinality(k.names))
       END AS wrong, k.names[1] AS key, k.type, c.reltuples::bigint AS rows
  FROM pg_class c
 CROSS JOIN LATERAL (SELECT array_agg(quote_ident(a.attname)) AS names,
                            min(format_type(a.atttypid, a.atttypmod)) AS type
                       FROM pg_constraint p
                       JOIN pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = ANY (p.conkey)
                      WHERE p.conrelid = c.oid AND p.contype = 'p') k
 WHERE c.oid = to_regclass({table})
"""

# Up to so many rows that match: behind many that don't, a window is large.
_WINDOW = """
SELECT number, matching, neuraknot_key::text
  FROM (SELECT neuraknot_key, row_number() OVER ahead AS number,
               count(*) FILTER (WHERE neuraknot_matches) OVER ahead AS matching
          FROM (SELECT {key} AS neuraknot_key, (
{where}
) AS neuraknot_matches FROM {table} WHERE {window} ORDER BY {key} LIMIT {rows}) AS rows
        WINDOW ahead AS (ORDER BY neuraknot_key ROWS UNBOUNDED PRECEDING)) AS numbered
 WHERE matching <= {changes}
 ORDER BY number DESC LIMIT 1
"""

_UPDATE = """
WITH neuraknot_changed AS (
UPDATE {table}
SET {set}
WHERE {window} AND (
{where}
) RETURNING {key} AS neuraknot_key, (
{where}
) AS neuraknot_matches)
SELECT count(*), (array_agg(neuraknot_key) FILTER (WHERE neuraknot_matches))::text FROM neuraknot_changed
"""

# What `where` reads beside the row is in RETURNING what it was before the UPDATE.
_STILL = "SELECT count(*) FROM {table} WHERE {key} = ANY ({keys}::{type}[]) AND (\n{where}\n)"

# Whoever waits for a lock of this batch still waits now.
_KEEP = f"""
INSERT INTO {PROGRESS} (revision, position, rows_changed) VALUES ({{revision}}, {{position}}, {{rows}})
ON CONFLICT (revision) DO UPDATE
   SET position = excluded.position, rows_changed = excluded.rows_changed, updated_at = clock_timestamp();
SELECT pg_try_advisory_lock({lock.KEY}),
       EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))
"""

# A standby that has caught up keeps its last lag until it is written to again. One that has just connected has none,
# and one that catches up has that of what it was sent. What this role may not see has no state.
_BEHIND = """
SELECT CASE WHEN state IS NOT NULL
            THEN format('the standby %s is %s behind', coalesce(nullif(application_name, ''), 'with pid ' || pid),
                        CASE WHEN replay_lag > interval '{lag}' THEN date_trunc('second', replay_lag)::text
                             ELSE pg_size_pretty(bytes) END) END,
       'pg_stat_replication', current_user
  FROM pg_stat_replication CROSS JOIN LATERAL (SELECT pg_current_wal_lsn() - replay_lsn AS bytes) b
 WHERE state IS NULL OR (bytes > 0 AND replay_lag > interval '{lag}')
    OR (bytes > {bytes} AND (replay_lag IS NULL OR state = 'catchup'))
UNION ALL
SELECT format('WAL piles up for the replication slot %s (%s)', slot_name, wal_status), 'pg_replication_slots', NULL
  FROM pg_replication_slots
 WHERE wal_status IN ('extended', 'unreserved')
"""


def look(connection: Connection, table: str) -> Any:
    """Return what is `wrong` with a table for batches or None, its `key` and its `type`, and an estimate of its `rows`.

    None if it does not exist.
    """
    return raw_sql.execute(connection, _TABLE.format(table=raw_sql.literal(table))).first()


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


class Batches:
    """The batches of one backfill, in one attempt.

    Attributes:
        rows: how many rows those that are committed have changed, in words; empty for none.
        committed: whether this attempt has committed one.
    """

    def __init__(self, connection: Connection, revision: str, backfill: Backfill, limits: Limits) -> None:
        """Prepare them.

        Args:
            connection: the run's session.
            revision: the revision that declares it.
            backfill: the backfill.
            limits: of the revision.
        """
        self.rows = ""
        self.committed = False
        self._connection = connection
        self._revision = revision
        self._backfill = backfill
        self._limits = limits
        self._position = Position(backfill.digest)
        self._changed = 0
        self._size, self._changes = FIRST, FIRST
        self._told_hidden = False

    def begin(self, progress: tuple[str, int] | None, path: object) -> None:
        """Look at the table, and go on from where an earlier run has come.

        Args:
            progress: the position that it has stored, and how many rows it has changed.
            path: the revision's file, as a person would type it here.

        Raises:
            RefusedError: batches can't go through such a table.
        """
        table = look(self._connection, self._backfill.table)
        wrong = "does not exist" if table is None else table.wrong
        if table is None or wrong:
            raise RefusedError(
                f"Revision {self._revision} can't change {self._backfill.table} in batches, which {wrong}: it was not"
                " begun.",
                hint=f"Batches go by the primary key, of one column, through one table. Name such a one in {path}, for"
                " partitions a backfill each; or write its one UPDATE as upgrade().",
            )
        self._key, self._type, self._estimate = table.key, table.type, table.rows
        if progress:
            self._position, self._changed = Position(**json.loads(progress[0])), progress[1]
            self.rows = f"{self._changed:,}"
            log.info("  %s goes on behind %s rows changed", self._revision, self.rows)

    def run(self, point: Callable[[], FailurePoint]) -> None:
        """Go through the table, outside of a transaction before and after.

        Args:
            point: where the run is, for an error.

        Raises:
            MigrationFailedError: rows still match after they were changed.
            LockUnavailableError: a standby lags for too long, or another run has the lock of this one.
            DBAPIError: a statement failed; the batches before it stay.
        """
        self._point = point
        try:
            self._go_through()
        except DBAPIError as error:
            self._hide_keys(error)
            raise

    def _go_through(self) -> None:
        table = self._backfill.table
        left = f"FROM {table} WHERE (\n{self._backfill.where}\n)"
        for number in range(1, _PASSES + 1):
            if number > 1 or self._position.end is None:
                last = f"SELECT {self._key}::text AS neuraknot_key FROM {table} ORDER BY {self._key} DESC LIMIT 1"
                taken = self._position.seconds
                self._position = Position(self._backfill.digest, end=self._asked(last), seconds=taken)
            self._began, self._at_first, self._changed_before = time.monotonic(), self._position.gone, self._changed
            self._intervals = chain(INTERVALS, repeat(INTERVALS[-1]))
            self._tell_at = self._began + next(self._intervals)
            while self._position.end is not None and self._batch():
                self._tell()
            if not self._asked(f"SELECT EXISTS (SELECT {left})"):
                return
        log.warning(
            "%s: %s rows match its where still, or again, as if the application added them meanwhile: they stay as"
            " they are. `ensures` in the revision can refuse that",
            self._revision,
            f"{self._asked(f'SELECT count(*) {left}'):,}",
        )

    def _batch(self) -> bool:
        """Change the rows of the next window; return whether there was one."""
        interrupt.check()
        self._wait_for_standbys()
        began, before = time.monotonic(), self.rows
        with self._connection.begin():
            window = self._execute(_WINDOW, rows=self._size, changes=self._changes).first()
            if window is None:
                return False
            number, matching, behind = window
            changed, still = self._execute(_UPDATE, end=behind).one()
            if still and (left := self._execute(_STILL, keys=raw_sql.literal(still)).scalar_one()):
                raise self._endless(left)
            seconds = self._position.seconds + time.monotonic() - began
            position = self._position._replace(behind=behind, gone=self._position.gone + number, seconds=seconds)
            total = self._changed + changed
            revision, text = map(raw_sql.literal, (self._revision, json.dumps(position._asdict())))
            kept, blocked = self._execute(_KEEP, revision=revision, position=text, rows=total).one()
            if not kept:
                raise failures.unlocked(self._point())
            # Whether a COMMIT without an answer was done is not known.
            self.rows = f"{before or 0} or {total:,}" if changed else before
        self.rows, self._changed, self._position = f"{total:,}" if total else "", total, position
        self.committed = True
        took = time.monotonic() - began
        self._resize(took, number, matching, blocked=blocked)
        if blocked:
            time.sleep(took)
        return True

    def _resize(self, took: float, rows: int, matching: int, *, blocked: bool) -> None:
        """Let the next batch take as long as it should: as many rows to go through, and as many to change."""
        factor = min(self._limits.batch_duration / 1000 / took, 0.5 if blocked else 2.0)
        if factor < 1 or matching >= self._changes:
            self._changes = max(int(self._changes * factor), 1)
        if factor < 1 or rows >= self._size:
            self._size = max(int(self._size * factor), 1)

    def _wait_for_standbys(self) -> None:
        """Wait while a standby lags, or WAL piles up; `patience` at most."""
        began, told = time.monotonic(), False
        while True:
            query = _BEHIND.format(lag=LAG, bytes=_BYTES_BEHIND)
            found = raw_sql.execute(self._connection, query).all()
            self._connection.rollback()
            behind, hidden = [row for row in found if row[0]], [row[2] for row in found if not row[0]]
            if hidden and not self._told_hidden:
                self._told_hidden = True
                grant = other_sessions.grant(other_sessions.Session(0, reader=hidden[0]))
                log.info("  whether a standby lags is not known without %s: it is not waited for", grant)
            if not behind:
                return
            what, view, _ = behind[0]
            if time.monotonic() - began >= self._limits.patience:
                point = self._point()
                raise LockUnavailableError(
                    f"{point.doing} waited {display.duration(1000 * self._limits.patience)}, since {what}; it"
                    f"{point.undone.removeprefix(' and')}.",
                    hint=f"{point.at} See SELECT * FROM {view}; once that is over, run the command again: it goes on"
                    " from there.",
                )
            if not told:
                log.info("  %s waits: %s", self._revision, what)
                told = True
            time.sleep(_POLL)

    def _endless(self, left: int) -> MigrationFailedError:
        point = self._point()
        return MigrationFailedError(
            f"{point.doing} failed{point.undone}: {display.counted(left, 'row')} of a batch still"
            f" {'matches' if left == 1 else 'match'} where after the change, and would be changed again and again.",
            hint=f"{point.at} Let set make false what where asks for, such as name IS NULL, and run the command again.",
        )

    def _hide_keys(self, error: DBAPIError) -> None:
        """Let an error be one of the one UPDATE that its author knows: what was sent holds keys of rows."""
        sent, statement = error.statement or "", self._backfill.statement
        position = int(excerpt.position_of(error) or 1) - 1
        parts = [(sent.find(part), part) for part in (self._backfill.table, self._backfill.set, self._backfill.where)]
        begin, part = next(
            (each for each in parts if 0 <= each[0] <= position < each[0] + len(each[1])), (position, "")
        )
        error.sent_before = begin - statement.find(part)  # type: ignore[attr-defined]
        error.statement = statement

    def _tell(self) -> None:
        """Log how far it has come, each few seconds."""
        now = time.monotonic()
        if now < self._tell_at:
            return
        self._tell_at = now + next(self._intervals)
        took, gone = now - self._began, self._position.gone
        share = min(gone / self._estimate, 0.99) if self._estimate > 0 else None
        pace = (gone - self._at_first) / took
        left = "share not known" if share is None else f"{100 * share:.0f} %"
        if share is not None and pace:
            left += f", {display.duration(1000 * max(self._estimate - gone, 0) / pace)} left"
        speed = f"{(self._changed - self._changed_before) / took:,.0f} rows/s"
        log.info("  %s: %s rows changed, %s, %s", self._revision, self.rows, left, speed)

    def _asked(self, query: str) -> Any:
        """Return the one value of a query, in a transaction of its own."""
        with self._connection.begin():
            return raw_sql.execute(self._connection, query).scalar()

    def _execute(self, query: str, *, end: str | None = None, **more: object) -> raw_sql.Result:
        """Send a query for the rows behind the position, up to an end."""
        bounds = [(">", self._position.behind), ("<=", end or self._position.end)]
        window = " AND ".join(
            f"{self._key} {sign} {raw_sql.literal(key)}::{self._type}" for sign, key in bounds if key is not None
        )
        ours = {"key": self._key, "type": self._type, "window": window}
        return raw_sql.execute(self._connection, query.format(**vars(self._backfill), **ours, **more))
