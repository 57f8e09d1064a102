"""Backfills: rows changed in batches by an upgrade, and by one UPDATE wherever else a revision is run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project

USERS = (
    "INSERT INTO public.users (cognito_user_id, email, display_name)"
    " SELECT g, g, 'Anna ' || g FROM generate_series(1, {}) g"
)
TRIM: dict[str, Any] = {
    "table": "users",
    "set": "display_name = 'Bea', status = CASE WHEN email IS DISTINCT FROM '' THEN status END -- 100% ':x'",
    "where": "display_name LIKE 'Anna %'  -- (",
}
CHANGED = "SELECT count(*) FROM public.users WHERE display_name = 'Bea'"


def test_an_upgrade_changes_the_rows(database_at_head: Database, project: Project) -> None:
    database_at_head.run(USERS.format(20))
    project.add_backfill("005", after="004", **TRIM)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.value(CHANGED) == 20
    back = database_at_head.alembic("-x", f"confirm={database_at_head.name}", "downgrade", "-1", cwd=project.root)
    assert back.code == 0, back.err


def test_a_script_holds_one_update(database: Database, project: Project) -> None:
    project.add_backfill("005", after="004", **TRIM)
    done = database.alembic("upgrade", "004:005", "--sql", cwd=project.root)
    assert done.code == 0, done.err
    assert f"UPDATE users\nSET {TRIM['set']}\nWHERE (\n{TRIM['where']}\n)\n;" in done.out
    assert "lock_timeout = '250'" not in done.out  # nobody tries again


@pytest.mark.parametrize(
    ("change", "extra", "code", "message"),
    [
        ({}, "def upgrade():\n    pass", 5, "has a backfill and an upgrade() as well"),
        ({}, "transactional = False", 2, "is a backfill, and says transactional = False"),
        ({}, "backfill = 'UPDATE users'", 2, "backfill of revision 005 is 'UPDATE users'."),
        ({"where": "  "}, "", 7, "where of the Backfill is '  ', and no SQL"),
        ({"where": "true) OR (true"}, "", 7, "where of the Backfill is no part of one UPDATE"),
        ({"where": "true; DROP TABLE users"}, "", 7, "where of the Backfill is no part of one UPDATE"),
        ({"set": "display_name = 'Bea"}, "", 7, "set of the Backfill is no part of one UPDATE"),
        ({"set": "email = x.a FROM x"}, "", 7, "set of the Backfill is no part of one UPDATE"),
        ({"set": "email = 'a' RETURNING id"}, "", 7, "set of the Backfill is no part of one UPDATE"),
        ({"table": "users u"}, "", 7, "table of the Backfill is 'users u', and no table's name"),
        ({"table": "only users"}, "", 7, "table of the Backfill is 'only users', and no table's name"),
        ({"where": "pg_advisory_unlock_all() IS NULL"}, "", 5, "gives up the lock that keeps other migrations out"),
        ({}, "batch_duration = '0'", 2, "batch_duration of revision 005 is '0'"),
        ({"table": 7}, "", 7, "table of the Backfill is 7, and no SQL"),
        ({"each": 1000}, "", 7, "unexpected keyword argument 'each'"),
    ],
)
def test_what_is_no_backfill(
    database_at_head: Database, project: Project, change: dict[str, Any], extra: str, code: int, message: str
) -> None:
    before = database_at_head.value(SCHEMA)
    project.add_backfill("005", after="004", extra=extra, **TRIM | change)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, code, message)
    assert database_at_head.value(SCHEMA) == before
