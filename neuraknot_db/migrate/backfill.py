"""Change the rows of a backfill in batches by primary key, each in one transaction with its position."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis, display, interrupt, lock, other_sessions, raw_sql
from neuraknot_db.errors import LockUnavailableError, MigrationFailedError, RefusedError
from neuraknot_db.history.log import History, Position
from neuraknot_db.history.tables import PROGRESS
from neuraknot_db.migrate import failures
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
_TELL = 5.0
"""Seconds between two lines that tell how far it has come."""
_PASSES = 2
"""How often a run goes through the table: again for the rows that the application added behind the position."""

_TABLE = """
SELECT CASE WHEN c.relkind = 'v' THEN 'is a view' WHEN c.relkind = 'm' THEN 'is a materialized view'
            WHEN c.relkind = 'p' THEN 'is partitioned' WHEN c.relkind = 'f' THEN 'is a foreign table'
            WHEN c.relkind <> 'r' THEN 'is no table'
            WHEN EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) THEN 'has tables that inherit from it'
            WHEN k.names IS NULL THEN 'has no primary key'
            WHEN cardinality(k.names) > 1 THEN format('has a primary key of %s columns', cardinality(k.names))
       END AS wrong, k.names[1] AS key, k.type, c.reltuples::bigint AS rows,
       row_security_active(c.oid) AS hides
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
) IS TRUE AS neuraknot_matches FROM {table} WHERE {window} ORDER BY {key} LIMIT {rows}) AS rows
        WINDOW ahead AS (ORDER BY neuraknot_key ROWS UNBOUNDED PRECEDING)) AS numbered
 WHERE matching <= {changes}
 ORDER BY number DESC LIMIT 1
"""

_UPDATE = """
WITH neuraknot_changed AS (
{statement} AND {window} RETURNING {key} AS neuraknot_key, (
{where}
) IS TRUE AS neuraknot_matches)
SELECT count(*), (array_agg(neuraknot_key) FILTER (WHERE neuraknot_matches))::text FROM neuraknot_changed
"""

# Under its own name the text of the key would be what is sorted.
_LAST = "SELECT {key}::text AS neuraknot_key FROM {table} ORDER BY {key} DESC LIMIT 1"

_LEFT = "SELECT EXISTS (SELECT FROM {table} WHERE (\n{where}\n))"

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
                             ELSE pg_size_pretty(bytes) END) END AS what,
       'pg_stat_replication' AS view, current_user AS reader
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


class Batches:
    """The batches of one backfill, in one run.

    Attributes:
        committed: whether this run has committed one.
    """

    def __init__(self, connection: Connection, revision: str, backfill: Backfill, limits: Limits, path: object) -> None:
        """Look at the table, and stand where an earlier run has come.

        Args:
            connection: the run's session.
            revision: the revision that declares it.
            backfill: the backfill.
            limits: of the revision.
            path: the revision's file, as a person would type it here.

        Raises:
            RefusedError: batches can't go through such a table.
        """
        table = look(connection, backfill.table)
        if table is None or table.wrong:
            wrong = table.wrong if table else "does not exist"
            raise RefusedError(
                f"Revision {revision} can't change {backfill.table} in batches, which {wrong}: it was not begun.",
                hint=f"Batches go by the primary key, of one column, through one table. Name such a one in {path}, for"
                " partitions a backfill each; or write its one UPDATE as upgrade().",
            )
        if table.hides:
            raise RefusedError(
                f"Row-level security may hide rows of {backfill.table} from this role, which would stay as they are:"
                f" revision {revision} was not begun.",
                hint=f"Migrate as the owner of {backfill.table}, or as a role with BYPASSRLS.",
            )
        self.committed = False
        self._connection, self._revision, self._backfill, self._limits = connection, revision, backfill, limits
        self._key, self._type, self._estimate = table.key, table.type, table.rows
        self._told_hidden = False
        self._position, self._changed = History(connection).progress().get(revision, (Position(backfill.digest), 0))
        self._committing = 0
        if self._position.end is not None:
            log.info("  %s goes on behind %s rows changed", revision, f"{self._changed:,}")

    @property
    def rows(self) -> str:
        """How many rows the batches that are committed have changed, in words; empty for none."""
        if self._committing:  # whether a COMMIT without an answer was done is not known
            return f"{self._changed:,} or {self._committing:,}"
        return f"{self._changed:,}" if self._changed else ""

    def run(self, point: Callable[[], FailurePoint]) -> None:
        """Go through the table, outside of a transaction before and after.

        Args:
            point: where the run is, for an error.

        Raises:
            MigrationFailedError: rows still match after they were changed.
            LockUnavailableError: a standby lags for too long, or another run has the lock of this one.
            DBAPIError: a statement failed; the batches before it stay.
        """
        self._point, self._size, self._changes = point, FIRST, FIRST
        self._asked("EXPLAIN {statement}")  # without a row in the table, no batch would show what is wrong with it
        for again in range(_PASSES):
            if again:
                log.info("  %s goes through once more: there are rows that match its where", self._revision)
            if again or self._position.end is None:
                self._position = self._position._replace(behind=None, end=self._asked(_LAST), gone=0)
            self._began, self._at_first = time.monotonic(), self._position.gone
            self._tell_at = self._began + _TELL
            while self._batch():
                self._tell()
            if not self._asked(_LEFT):
                return
        log.warning(
            "%s: %s rows match its where still, or again, as where the application adds them: they stay as they are."
            " `ensures` in the revision can refuse that",
            self._revision,
            f"{self._asked('{counting}'):,}",
        )

    def _batch(self) -> bool:
        """Change the rows of the next window; return whether there was one."""
        self._wait_for_standbys()
        began = time.monotonic()
        with self._transaction():
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
            self._committing = total if changed else 0
        self._changed, self._position, self.committed, self._committing = total, position, True, 0
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
            interrupt.check()
            found = raw_sql.execute(self._connection, _BEHIND.format(lag=LAG, bytes=_BYTES_BEHIND)).all()
            self._connection.rollback()
            hidden, behind = ([row for row in found if bool(row.what) is known] for known in (False, True))
            if hidden and not self._told_hidden:
                self._told_hidden = True
                grant = other_sessions.grant(hidden[0].reader)
                log.info("  whether a standby lags is not known without %s: it is not waited for", grant)
            if not behind:
                return
            if time.monotonic() - began >= self._limits.patience:
                point = self._point()
                raise LockUnavailableError(
                    f"{point.doing} waited {display.duration(1000 * self._limits.patience)}, since {behind[0].what}; it"
                    f"{point.undone.removeprefix(' and')}.",
                    hint=f"{point.at} See SELECT * FROM {behind[0].view}; once that is over, run the command again: it"
                    " goes on from there.",
                )
            if not told:
                log.info("  %s waits: %s", self._revision, behind[0].what)
                told = True
            time.sleep(_POLL)

    def _endless(self, left: int) -> MigrationFailedError:
        point = self._point()
        return MigrationFailedError(
            f"{point.doing} failed{point.undone}: {display.counted(left, 'row')} of a batch still"
            f" {'matches' if left == 1 else 'match'} where after the change, and would be changed again and again.",
            hint=f"{point.at} Let set make false what where asks for, such as name IS NULL, and run the command again.",
        )

    def _tell(self) -> None:
        """Log how far it has come, each few seconds."""
        now = time.monotonic()
        if now < self._tell_at:
            return
        self._tell_at = now + _TELL
        gone = self._position.gone
        pace, left = (gone - self._at_first) / (now - self._began), "share not known"
        if self._estimate > 0:
            share, rest = min(gone / self._estimate, 0.99), max(self._estimate - gone, 0)
            left = f"{100 * share:.0f} %, {display.duration(1000 * rest / pace)} left"
        log.info("  %s: %s rows changed, %s, %s rows/s", self._revision, f"{self._changed:,}", left, f"{pace:,.0f}")

    def _asked(self, query: str) -> Any:
        """Return the one value of a query, in a transaction of its own."""
        with self._transaction():
            return self._execute(query).scalar()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run a transaction; an error shows its author's one UPDATE, since what was sent holds keys of rows."""
        try:
            with self._connection.begin():
                yield
        except DBAPIError as error:
            if diagnosis.is_error(error):
                self._committing = 0
            if sent := error.statement:
                shown, where = self._backfill.statement, f"(\n{self._backfill.where}\n)"
                before = sent.find(where) - shown.find(where) if where in sent else len(sent)
                error.statement, error.sent_before = shown, before  # type: ignore[attr-defined]
            raise

    def _execute(self, query: str, *, end: str | None = None, **more: object) -> raw_sql.Result:
        """Send a query for the rows behind the position, up to an end."""
        bounds = [(">", self._position.behind), ("<=", end or self._position.end)]
        found = [f"{self._key} {sign} {raw_sql.literal(key)}::{self._type}" for sign, key in bounds if key is not None]
        more |= {"window": " AND ".join(found) or "true", "key": self._key, "type": self._type}
        more |= {"statement": self._backfill.statement, "counting": self._backfill.counting}
        return raw_sql.execute(self._connection, query.format(**vars(self._backfill), **more))
