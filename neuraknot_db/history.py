"""The log of what was run: `neuraknot_db.migration_log`, outside of `public`, so that a reset does not erase it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy.engine import Connection

from neuraknot_db import __version__, settings
from neuraknot_db.errors import RefusedError
from neuraknot_db.settings import Origin

SCHEMA, TABLE = "neuraknot_db", "neuraknot_db.migration_log"
FORMAT = "1"
"""The format of both tables; a newer one is left alone."""

_METADATA_TIMEOUT = 1.0

_CREATE = f"""
CREATE SCHEMA IF NOT EXISTS neuraknot_db;
CREATE TABLE IF NOT EXISTS neuraknot_db.settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);
CREATE TABLE IF NOT EXISTS neuraknot_db.migration_log (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision      text,
    direction     text NOT NULL,
    outcome       text NOT NULL,
    started_at    timestamptz NOT NULL,
    duration_ms   bigint NOT NULL,
    attempt       integer NOT NULL,
    lock_wait_ms  bigint NOT NULL,
    error         text,
    checksum      text,
    source_sha256 text,
    database_user text NOT NULL DEFAULT session_user,
    client_host   text,
    tool_version  text NOT NULL,
    image         text,
    git_commit    text,
    task_arn      text,
    started_by    text
);
INSERT INTO neuraknot_db.settings VALUES ('format', '{FORMAT}') ON CONFLICT DO NOTHING;
"""

_LOOK = """
SELECT to_regnamespace('neuraknot_db') IS NOT NULL,
       CASE WHEN to_regnamespace('neuraknot_db') IS NULL THEN false
            WHEN NOT has_schema_privilege(to_regnamespace('neuraknot_db')::oid, 'USAGE') THEN false
            ELSE to_regclass('neuraknot_db.migration_log') IS NOT NULL END,
       CASE WHEN to_regnamespace('neuraknot_db') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            WHEN NOT has_schema_privilege(to_regnamespace('neuraknot_db')::oid, 'USAGE') THEN false
            WHEN to_regclass('neuraknot_db.migration_log') IS NULL
            THEN has_schema_privilege(to_regnamespace('neuraknot_db')::oid, 'CREATE')
            ELSE has_table_privilege(to_regclass('neuraknot_db.migration_log')::oid, 'SELECT')
             AND has_table_privilege(to_regclass('neuraknot_db.migration_log')::oid, 'INSERT') END,
       current_user, current_database()
"""

_PRESENT = """
SELECT to_regclass('neuraknot_db.settings') IS NOT NULL,
       has_table_privilege('neuraknot_db.migration_log', 'SELECT')
       AND coalesce(has_table_privilege(to_regclass('neuraknot_db.settings')::oid, 'SELECT'), true),
       ARRAY(SELECT attname::text FROM pg_attribute
              WHERE attrelid = 'neuraknot_db.migration_log'::regclass AND attnum > 0 AND NOT attisdropped)
"""

_COLUMNS = (
    "id, revision, direction, outcome, started_at, duration_ms, attempt, lock_wait_ms, error, checksum, source_sha256, "
    "database_user, client_host, tool_version, image, git_commit, task_arn, started_by"
)

_INSERT = f"""
INSERT INTO {TABLE} (revision, direction, outcome, started_at, duration_ms, attempt, lock_wait_ms, error, checksum,
                     source_sha256, client_host, tool_version, image, git_commit, task_arn, started_by)
VALUES (%(revision)s, %(direction)s, %(outcome)s, clock_timestamp() - %(duration_ms)s * interval '1 ms',
        %(duration_ms)s, %(attempt)s, %(lock_wait_ms)s, %(error)s, %(checksum)s, %(source_sha256)s,
        %(client_host)s, %(tool_version)s, %(image)s, %(git_commit)s, %(task_arn)s, %(started_by)s)
"""

_APPLIED = f"""
SELECT revision, checksum, source_sha256
  FROM (SELECT DISTINCT ON (revision) revision, direction, checksum, source_sha256
          FROM {TABLE}
         WHERE outcome = 'succeeded' AND revision IS NOT NULL
           AND id > (SELECT coalesce(max(id), 0) FROM {TABLE} WHERE direction = 'reset' AND outcome = 'succeeded')
         ORDER BY revision, id DESC) last
 WHERE direction IN ('upgrade', 'accept')
"""


@dataclass(frozen=True)
class Entry:
    """What is recorded of one attempt at one thing.

    Attributes:
        revision: None where it concerns no single one.
        direction: `upgrade`, `downgrade`, `stamp`, `adopt`, `accept`, `reset` or `mark`.
        outcome: `succeeded`, `failed` or `interrupted`.
        duration_ms: until it was recorded.
        attempt: 1 for the first.
        lock_wait_ms: the pauses after earlier attempts that found no lock.
        error: the sentence, for a failure.
        checksum: of the SQL that was executed.
        source_sha256: of the revision's file.
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


@dataclass(frozen=True)
class Record:
    """A row of the log, as it is stored."""

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


@dataclass(frozen=True)
class Applied:
    """What is known of a revision that the log says was applied."""

    revision: str
    checksum: str | None
    source_sha256: str | None


class History:
    """The log and the settings of one database.

    Attributes:
        exists: whether the tables are there; `create` makes them.
        environment: the stored environment marker, None for none.
    """

    def __init__(self, connection: Connection) -> None:
        """Look, changing nothing.

        Raises:
            RefusedError: the tables are of a newer version of this tool, were tampered with, or may not be read.
        """
        self._connection = connection
        has_schema, self.exists, self._allowed, user, database = connection.exec_driver_sql(_LOOK).one()
        grant = f"USAGE, CREATE ON SCHEMA {SCHEMA}" if has_schema else f'CREATE ON DATABASE "{database}"'
        if self.exists:
            grant = f"SELECT, INSERT ON ALL TABLES IN SCHEMA {SCHEMA}"
        self._refusal = RefusedError(
            f"User {user} may not keep the log of migrations in the schema {SCHEMA}.",
            hint=f'As an administrator: GRANT {grant} TO "{user}"',
        )
        stored: dict[str, str] = {}
        if self.exists:
            has_settings, may_read, columns = connection.exec_driver_sql(_PRESENT).one()
            if not may_read:
                raise self._refusal
            if has_settings:
                rows = connection.exec_driver_sql(f"SELECT name, value FROM {SCHEMA}.settings")
                stored = {row.name: row.value for row in rows}
            _demand_format(stored.get("format"), columns)
        self.environment = stored.get("environment")
        self._origin: dict[str, str | None] | None = None

    def demand_allowed(self) -> None:
        """Go on only if this role can keep the log.

        Raises:
            RefusedError: it may not make the tables, or not write to them.
        """
        if not self._allowed:
            raise self._refusal

    def create(self) -> None:
        """Make the tables, in the connection's transaction, if they are missing.

        Raises:
            RefusedError: this role may not make them, or not write to them.
        """
        self.demand_allowed()
        if not self.exists:
            self._connection.exec_driver_sql(_CREATE)
            self.exists = True

    def mark(self, environment: str) -> None:
        """Store the environment's name, in the connection's transaction."""
        self.create()
        self._connection.exec_driver_sql(
            f"INSERT INTO {SCHEMA}.settings VALUES ('environment', %(it)s)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            {"it": environment},
        )
        self.environment = environment

    def record(self, entry: Entry) -> None:
        """Write a row, in the connection's transaction."""
        if self._origin is None:
            self._origin = _described(settings.origin())
        values = {name.name: getattr(entry, name.name) for name in fields(entry)}
        password = self._connection.engine.url.password
        if entry.error and password:
            values["error"] = entry.error.replace(password, "***")
        self._connection.exec_driver_sql(_INSERT, {**values, **self._origin})

    def applied(self) -> list[Applied]:
        """The revisions whose last successful entry since the last reset is an upgrade, or an accepted edit."""
        if not self.exists:
            return []
        rows = self._connection.exec_driver_sql(_APPLIED)
        return [Applied(*row) for row in rows]

    def records(self) -> Iterator[Record]:
        """The rows, the oldest first."""
        if self.exists:
            for row in self._connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM {TABLE} ORDER BY id"):
                yield Record(*row)


def _demand_format(found: str | None, columns: list[str]) -> None:
    if found is not None and found.isdigit() and int(found) > int(FORMAT):
        raise RefusedError(
            f"The log of migrations has format {found}, written by a newer version of this tool; this one knows"
            f" {FORMAT}.",
            hint="Use the newer version: the checkout or the image that migrated this database last.",
        )
    if found != FORMAT or set(columns) != {field.name for field in fields(Record)}:
        raise RefusedError(
            f"The log of migrations ({TABLE}) was tampered with: its format is {found}, its columns are"
            f" {', '.join(columns)}.",
            hint=f"Restore it from a backup, or set it aside: ALTER SCHEMA {SCHEMA} RENAME TO neuraknot_db_old",
        )


def _described(origin: Origin) -> dict[str, str | None]:
    return {
        "client_host": socket.gethostname(),
        "tool_version": __version__,
        "image": origin.image,
        "git_commit": origin.git_commit,
        "started_by": origin.started_by,
        "task_arn": _task_arn(origin.task_metadata_uri),
    }


def _task_arn(uri: str | None) -> str | None:
    """What ECS says of this task; never worth a failure."""
    if uri is None or not uri.startswith("http://"):
        return None
    # It takes longer to import than a revision takes to run.
    import urllib.request

    try:
        with urllib.request.urlopen(f"{uri}/task", timeout=_METADATA_TIMEOUT) as answer:  # noqa: S310 - http, see above
            arn = json.load(answer)["TaskARN"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return arn if isinstance(arn, str) else None
