"""`plan` tells what a backfill has before it: rows, batches, how long, and behind what it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from neuraknot_db.history.log import Position
from neuraknot_db.revisions.backfill import Backfill
from tests.db.conftest import Database, Project
from tests.db.plan.test_plan import planned

TRIM = {"table": "public.users", "set": "display_name = 'Bea'", "where": "display_name <> 'Bea'"}
USERS = """
INSERT INTO users (cognito_user_id, email, display_name)
SELECT n, n, CASE WHEN n > 800 THEN 'Bea' ELSE 'Anna' END FROM generate_series(1, 1000) n;
ANALYZE users
"""


def backfill(database: Database, project: Project, *arguments: str, **parts: str) -> dict[str, Any]:
    """What it says of a backfill in 005."""
    project.add_backfill("005", after="004", extra='batch_duration = "10ms"', **TRIM | parts)
    (revision,) = planned(database, *arguments, cwd=project.root)["revisions"]
    assert revision["lock_timeout_ms"] == 10  # for as long as a batch takes
    found: dict[str, Any] = revision["backfill"]
    return found


def store(database: Database, **more: Any) -> None:
    """Store a position, as a run leaves it that was killed."""
    position = json.dumps(Position(Backfill(**TRIM).digest, behind="a", end="b", **more)._asdict())
    database.run(f"INSERT INTO neuraknot_db.backfill_progress VALUES ('005', '{position}', 300)")


@pytest.mark.parametrize(
    ("arguments", "position", "expected"),
    [
        ((), {}, {"rows_left": 1000, "counted": False, "batches": 5, "duration_ms": 50, "rows_per_second": None}),
        (("--count",), {}, {"rows_left": 800, "counted": True, "batches": 4, "duration_ms": 40}),
        ((), {"gone": 400, "seconds": 0.2}, {"rows_changed": 300, "rows_per_second": 2000, "duration_ms": 300}),
        (("--count",), {"gone": 400, "seconds": 0.2}, {"rows_left": 800, "rows_per_second": 1500, "duration_ms": 533}),
        ((), {"gone": 400}, {"rows_changed": 300, "rows_per_second": None, "duration_ms": 30}),
    ],
)
def test_rows_batches_and_how_long(
    database_at_head: Database,
    project: Project,
    arguments: tuple[str, ...],
    position: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    database_at_head.run(USERS)
    if position:
        store(database_at_head, **position)
    found = backfill(database_at_head, project, *arguments)
    assert found | expected == found
    assert (found["table"], found["rows"], found["refused"]) == ("public.users", 1000, None)


def test_it_is_told_and_not_that_all_rows_are_locked(database_at_head: Database, project: Project) -> None:
    database_at_head.run(USERS)
    store(database_at_head, gone=400, seconds=0.2)
    backfill(database_at_head, project)
    told = [database_at_head.neuraknot_db("plan", *each, cwd=project.root).out for each in ((), ("--markdown",))]
    for text in (" ".join(each.split()) for each in told):
        assert "goes on behind 300 rows that were changed before; up to about 600 rows to change" in text
        assert "in about 30 batches, about 300 ms at 2,000 rows a second, as before" in text
        assert "a transaction for each batch" in text
        assert "Each batch keeps the rows that it changes locked until its own commit, some 10 ms." in text


@pytest.mark.parametrize(
    ("parts", "arguments", "expected"),
    [
        ({"where": "display_name < (1 / 0)::text"}, (), {"unknown": None, "rows": None, "duration_ms": None}),
        ({"where": "display_name < (1 / 0)::text"}, ("--count",), {"unknown": "division by zero", "counted": False}),
        ({"table": "v"}, (), {"refused": "is a view"}),
        ({"table": "later"}, ("--count",), {"refused": None, "unknown": 'relation "later" does not exist'}),
    ],
)
def test_what_is_not_known_and_what_would_not_be_begun(
    database_at_head: Database,
    project: Project,
    parts: dict[str, str],
    arguments: tuple[str, ...],
    expected: dict[str, Any],
) -> None:
    database_at_head.run("CREATE VIEW v AS SELECT * FROM users; INSERT INTO users VALUES (DEFAULT, '1', '1', '1')")
    found = backfill(database_at_head, project, *arguments, **parts)
    assert found | expected == found
    assert database_at_head.neuraknot_db("plan", *arguments, cwd=project.root).code == 0


def test_a_reader_needs_no_right_to_keep_its_position(at: Callable[[str], Database], project: Project) -> None:
    database = at("head")
    project.add_backfill("005", after="004", **TRIM)
    database.run("CREATE ROLE looking LOGIN; GRANT pg_read_all_data TO looking")
    try:
        assert planned(database.as_user("looking"), "--as-reader", cwd=project.root)["refused"] is None
    finally:
        database.run("DROP ROLE looking")
