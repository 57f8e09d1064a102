"""What looks at a backfill, or runs it as one UPDATE, finds that UPDATE in the line that declares it."""

from __future__ import annotations

import re

import pytest

from tests.db.conftest import Database, Project
from tests.db.measuring import measured

TRIM = {"table": "users", "set": "display_name = trim(display_name)", "where": "display_name <> trim(display_name)"}
QUERIES = """-- Seen at revision 004, on PostgreSQL 18, since 2026-11-27.

UPDATE users SET display_name = $1 WHERE id = $2;
"""
USER = "INSERT INTO users (cognito_user_id, email, display_name) VALUES ('a', 'a', ' Anna ')"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["18"], indirect=True)
def test_every_command_copes_with_one(database_at_head: Database, project: Project) -> None:
    database_at_head.run(USER)
    project.add_backfill("005", after="004", **TRIM)
    (project.root / "alembic" / "queries.sql").write_text(QUERIES)
    for command, told in (
        ("snapshot", r"005\.effects\.json"),
        ("snapshot --check", "as they should be"),
        ("lint 005", "nothing found"),
        ("lint 005 --markdown", "005_added.py</code>: a transaction for each batch"),
        ("test 005", "005 on PostgreSQL 15: back and up again"),
        ("compat check 005", "no break found"),
        ("renumber --check", "one head"),
        ("show 005", "Added 005"),
        ("history", r"004 -> 005 \(head\)"),
        ("heads", r"005 \(head\)"),
        ("diagram", "revision 005"),
        ("upgrade head", "at 005: 1 revision"),
        ("current", r"005 \(head\)"),
        ("verify", "revision 005: the schema is what it should be"),
        ("plan -1", "take back: Added 005"),
        ("downgrade -1", "taken back: Added 005"),
        ("log", "downgrade 005 +succeeded"),
        ("stamp 005", "at 005"),
        (f"reset --confirm {database_at_head.name}", "Added 005"),
    ):
        done = database_at_head.neuraknot_db(*command.split(), cwd=project.root, NEURAKNOT_ENV="dev")
        assert done.code == 0, (command, done.err)
        assert re.search(told, done.out + done.err), (command, done.out + done.err)


def test_its_update_is_measured_in_its_line(database: Database, project: Project) -> None:
    path = project.add_backfill("005", after="004", extra='batch_duration = "1s"', **TRIM)
    (statement,) = measured(project.root, database)["005"].upgrade.statements
    assert path.read_text().splitlines()[statement.line - 1].startswith("backfill = ")
    assert statement.sql.startswith("UPDATE users SET display_name = trim(display_name) WHERE (")
    assert [effect.relation for effect in statement.effects] == ["users"]


def test_a_reset_in_which_it_fails_names_its_line(database_at_head: Database, project: Project) -> None:
    path = project.add_backfill("005", after="004", **TRIM | {"set": "nickname = 'x'"})
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    assert done.code == 7, done.err
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("backfill = "))
    assert f"005_added.py, line {line}" in done.err
