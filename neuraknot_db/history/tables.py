"""The tables in the schema `neuraknot_db`: created, upgraded from an older version, and recognised by their shape."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping

from neuraknot_db.errors import RefusedError

SCHEMA, TABLE = "neuraknot_db", "neuraknot_db.migration_log"
PROGRESS = "neuraknot_db.backfill_progress"
FORMAT = 2
"""The format of the tables; a newer one is left alone, the previous one is upgraded."""

_BACKFILL_PROGRESS = """
CREATE TABLE neuraknot_db.backfill_progress (
    revision     text PRIMARY KEY,
    position     text NOT NULL,
    rows_changed bigint NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""

CREATE = f"""
CREATE TABLE neuraknot_db.settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);
CREATE TABLE neuraknot_db.migration_log (
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
    started_by    text,
    run           uuid,
    before        text,
    after         text
);{_BACKFILL_PROGRESS}INSERT INTO neuraknot_db.settings VALUES ('format', '{FORMAT}');
"""

TAKE_OVER = f"""
ALTER TABLE neuraknot_db.migration_log ADD COLUMN run uuid, ADD COLUMN before text, ADD COLUMN after text;
{_BACKFILL_PROGRESS.strip()}
UPDATE neuraknot_db.settings SET value = '{FORMAT}' WHERE name = 'format';
"""
"""From format 1 to format 2."""

# As a block: a role needs the right to delete only where there is something to delete.
FORGET = """
DO $neuraknot_db$BEGIN
    IF EXISTS (SELECT FROM neuraknot_db.backfill_progress WHERE {which}) THEN
        DELETE FROM neuraknot_db.backfill_progress WHERE {which};
    END IF;
END$neuraknot_db$"""

_SETTINGS = frozenset({"settings r", "settings.name text !", "settings.value text !", "settings PRIMARY KEY (name)"})
_LOG_OF_FORMAT_1 = frozenset(
    {
        "migration_log r",
        "migration_log PRIMARY KEY (id)",
        "migration_log.id bigint ! identity a",
        "migration_log.database_user text ! default",
        "migration_log.started_at timestamp with time zone !",
        "migration_log.attempt integer !",
        *(f"migration_log.{name} bigint !" for name in ("duration_ms", "lock_wait_ms")),
        *(f"migration_log.{name} text !" for name in ("direction", "outcome", "tool_version")),
        *(f"migration_log.{name} text" for name in ("revision", "error", "checksum", "source_sha256", "client_host")),
        *(f"migration_log.{name} text" for name in ("image", "git_commit", "task_arn", "started_by")),
    }
)
_SHAPES = {
    1: _LOG_OF_FORMAT_1,
    2: _LOG_OF_FORMAT_1
    | {"migration_log.run uuid", "migration_log.before text", "migration_log.after text"}
    | {
        "backfill_progress r",
        "backfill_progress PRIMARY KEY (revision)",
        "backfill_progress.revision text !",
        "backfill_progress.position text !",
        "backfill_progress.rows_changed bigint !",
        "backfill_progress.updated_at timestamp with time zone ! default",
    },
}

# Whether the schema and the tables exist, and may be read, written, and upgraded from an older format: any role can
# read this in the catalogs.
LOOK = """
SELECT n.oid IS NOT NULL,
       t.oids IS NOT NULL,
       has_schema_privilege(n.oid, 'USAGE')
       AND (SELECT bool_and(has_table_privilege(o, 'SELECT')) FROM unnest(t.oids) o),
       CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            WHEN t.oids IS NULL THEN has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE')
            ELSE (SELECT bool_and(has_table_privilege(o, 'INSERT')
                                  AND (o <> settings OR has_table_privilege(o, 'UPDATE'))) FROM unnest(t.oids) o) END,
       t.owned AND has_schema_privilege(n.oid, 'CREATE'),
       coalesce(has_table_privilege(t.progress, 'UPDATE') AND has_table_privilege(t.progress, 'DELETE'), true),
       current_user, current_database()
  FROM (SELECT to_regnamespace('neuraknot_db')::oid AS oid) n
 CROSS JOIN LATERAL (SELECT array_agg(c.oid) AS oids, min(c.oid) FILTER (WHERE c.relname = 'settings') AS settings,
                            min(c.oid) FILTER (WHERE c.relname = 'backfill_progress') AS progress,
                            bool_and(pg_has_role(c.relowner, 'USAGE')) AS owned
                       FROM pg_class c
                      WHERE c.relnamespace = n.oid
                        AND c.relname IN ('migration_log', 'settings', 'backfill_progress')) t
"""

# A line for each table, column, constraint, rule and trigger. NOT NULL is a constraint in PostgreSQL 18, but not in
# 15.
SHAPE = """
WITH ours AS (
    SELECT oid, relname, relkind FROM pg_class
     WHERE relnamespace = 'neuraknot_db'::regnamespace
       AND relname IN ('migration_log', 'settings', 'backfill_progress')
)
SELECT concat_ws(' ', relname, relkind) FROM ours
UNION ALL
SELECT concat_ws(' ', relname || '.' || attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN '!' END,
                 'identity ' || nullif(attidentity::text, ''), CASE WHEN atthasdef THEN 'default' END)
  FROM ours JOIN pg_attribute ON attrelid = oid
 WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT concat_ws(' ', relname, pg_get_constraintdef(k.oid))
  FROM ours JOIN pg_constraint k ON k.conrelid = ours.oid
 WHERE k.contype <> 'n'
UNION ALL
-- Of a view the relation's kind says enough.
SELECT concat_ws(' ', relname, 'rule', rulename) FROM ours JOIN pg_rewrite ON ev_class = ours.oid WHERE relkind <> 'v'
UNION ALL
-- Those of a foreign key of somebody else's are internal.
SELECT concat_ws(' ', relname, 'trigger', tgname) FROM ours JOIN pg_trigger ON tgrelid = ours.oid WHERE NOT tgisinternal
"""


def demand_settings(shape: Collection[str]) -> None:
    """Raise if the settings are not as we created them.

    Args:
        shape: the result of SHAPE.

    Raises:
        RefusedError: they were tampered with.
    """
    _demand(_SETTINGS, {line for line in shape if re.match(r"settings\b", line)})


def demand_log(stored: Mapping[str, str], shape: Collection[str]) -> int:
    """Raise if the log is not ours, or of an unknown version.

    Args:
        stored: the settings.
        shape: the result of SHAPE.

    Returns:
        Its format.

    Raises:
        RefusedError: it belongs to a newer version of this tool, or was tampered with.
    """
    text, marker = stored.get("format"), stored.get("environment")
    found = int(text) if text and re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else 0
    if found > FORMAT:
        raise RefusedError(
            f"The log of migrations has format {found}, written by a newer version of this tool; this one knows"
            f" {FORMAT}.",
            hint="Use the newer version: the checkout or the image that migrated this database last.",
        )
    if text != str(found) or found not in _SHAPES:
        _demand({f"format {FORMAT}"}, {f"format {text}"}, marker)
    _demand(_SHAPES[found], {line for line in shape if not re.match(r"settings\b", line)}, marker)
    return found


def _demand(wanted: Collection[str], found: Collection[str], marker: str | None = None) -> None:
    if set(wanted) == set(found):
        return
    missing, extra = (
        ", ".join(sorted(lines)) or "nothing" for lines in (set(wanted) - set(found), set(found) - set(wanted))
    )
    # The marker is lost with the settings: without it, NEURAKNOT_ENV alone says what is production.
    again = f"neuraknot-db mark {shlex.quote(marker)}" if marker else "mark its environment: neuraknot-db mark NAME"
    raise RefusedError(
        f"The log of migrations ({TABLE}) was tampered with: it lacks {missing}, and has {extra} instead.",
        hint=f"Restore it from a backup, or set it aside: ALTER SCHEMA {SCHEMA} RENAME TO neuraknot_db_old,"
        f" then {again}",
    )
