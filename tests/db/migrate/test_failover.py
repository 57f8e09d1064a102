"""The server goes down in the middle of a revision, with every session, and comes back."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from tests.db.conftest import Database, Project
from tests.db.running import MIGRATOR, log_of, running, wait_until


def answers(database: Database) -> bool:
    with contextlib.suppress(DBAPIError):
        return database.value("SELECT 1") == 1
    return False


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the server's processes belong to another user")
def test_what_was_in_progress_is_rolled_back_and_the_next_run_goes_on(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "CREATE TABLE public.five (id int)", after="004")
    path = project.add("006", "CREATE TABLE public.six (id int); SELECT pg_sleep(60)", after="005")
    with running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration:
        sleeping = f"SELECT pid FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event = 'PgSleep'"
        wait_until(lambda: database_at_head.run(sleeping))
        # A backend that dies this way takes the whole server through recovery: all that was in its memory is suspect.
        os.kill(int(str(database_at_head.value(sleeping))), signal.SIGKILL)
        done = migration.ended()
    wait_until(lambda: answers(database_at_head))
    assert done.code == 6, done.err
    assert "Hint: The database is at 005. Run the command again." in done.err
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "005"
    assert database_at_head.value("SELECT to_regclass('public.six')") is None
    assert log_of(database_at_head)[-1] == ("006", "upgrade", "failed")

    path.write_text(path.read_text().replace("; SELECT pg_sleep(60)", ""))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    assert database_at_head.value("SELECT to_regclass('public.six') IS NOT NULL")
