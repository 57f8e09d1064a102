"""The application waits no longer than the plan had said, on a revision that locks three tables."""

from __future__ import annotations

import json
import subprocess
import threading
import time

import pytest

from tests.db.conftest import Database, Project
from tests.db.forking import BIN
from tests.db.measuring import measured

REVISION = '''"""Three tables at once.

Revision ID: 005
"""
from alembic import op

revision = "005"
down_revision = "004"
lock_timeout = "700ms"


def upgrade() -> None:
    for table in ("users", "ai_agents", "messages"):
        op.execute(f"ALTER TABLE public.{table} ADD COLUMN extra text")


def downgrade() -> None:
    pass
'''


@pytest.mark.slow
def test_the_application_waits_no_longer_than_the_plan_had_said(database_at_head: Database, project: Project) -> None:
    (project.versions / "005_test.py").write_text(REVISION)
    measured(project.root, database_at_head)
    told = json.loads(database_at_head.neuraknot_db("plan", "--json", cwd=project.root).out)["revisions"][0]
    assert (told["lock_waits"], told["longest_wait_ms"]) == (3, 2100)

    application = Application(database_at_head)
    with database_at_head.engine().connect() as reader, application:
        reader.exec_driver_sql("SELECT FROM public.messages")
        upgrade = subprocess.Popen(
            [BIN / "neuraknot-db", "upgrade", "head"],
            cwd=project.root,
            env=database_at_head.environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert upgrade.stderr is not None
        # It fails once, for the reader of the third table; then that one ends.
        said = next(line for line in upgrade.stderr if "no lock in time" in line)
        reader.rollback()
        rest = upgrade.stderr.read()
        assert upgrade.wait(60) == 0, said + rest
    upgrade.stderr.close()
    # It did wait for the lock, or this would prove nothing.
    assert 0.6 < application.longest <= told["longest_wait_ms"] / 1000 + 0.5


class Application:
    """Reads the first of the tables all the while.

    Attributes:
        longest: the seconds that its slowest query took.
    """

    def __init__(self, database: Database) -> None:
        self.longest = 0.0
        self._connection = database.connect()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._connection.exec_driver_sql("SELECT 1")
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            started = time.monotonic()
            self._connection.exec_driver_sql("SELECT count(*) FROM public.users")
            self.longest = max(self.longest, time.monotonic() - started)
            self._ended.wait(0.005)
