"""Commands that run while a test does something to them, and what they left in the log."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import Connection

from tests.db.conftest import Database, Finished
from tests.db.forking import BIN
from tests.projects import PROJECT

MIGRATOR = "datname = current_database() AND application_name = 'neuraknot-db'"
"""Picks a migration's sessions out of pg_stat_activity."""


EMPTIED = "DROP SCHEMA IF EXISTS neuraknot_db CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public"
"""Makes a database as it was before the first run, which takes a tenth of a downgrade."""


def wait_until(condition: Callable[[], object], *, seconds: float = 30) -> None:
    """Look again and again; a deadline, not a fixed wait."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        pause.wait(0.02)


@dataclass(frozen=True)
class Running:
    """A command that has been started."""

    process: subprocess.Popen[str]
    said: Path

    def ended(self, *, seconds: float = 60) -> Finished:
        """Wait for it to end."""
        out, _ = self.process.communicate(timeout=seconds)
        return Finished(self.process.returncode, out, self.so_far)

    @property
    def so_far(self) -> str:
        """What it has written to standard error."""
        return self.said.read_text(encoding="utf-8")

    def says(self, words: str, *, seconds: float = 30) -> None:
        """Wait for words on standard error."""

        def found() -> bool:
            assert words in self.so_far or self.process.poll() is None, self.so_far
            return words in self.so_far

        wait_until(found, seconds=seconds)


@contextlib.contextmanager
def running(
    database: Database, *arguments: str, said: Path, program: str = "alembic", cwd: Path = PROJECT, **environ: str
) -> Iterator[Running]:
    """Start a command for a database; it is killed in the end if it still runs."""
    with said.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [str(BIN / program), *arguments],
            cwd=cwd,
            env=database.environment(PYTHONUNBUFFERED="1", **environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield Running(process, said)
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def held(database: Database, sql: str, *, application: str = "reports") -> Iterator[Connection]:
    """A session of somebody else's, in a transaction that has executed the SQL and stays open."""
    with database.engine().connect() as connection:
        connection.exec_driver_sql(f"SET application_name = '{application}'")
        connection.exec_driver_sql(sql)
        yield connection


def log_of(database: Database, columns: str = "revision, direction, outcome") -> list[tuple[object, ...]]:
    """The rows of the log, the oldest first, but for those that say that a run was started."""
    return database.run(f"SELECT {columns} FROM neuraknot_db.migration_log WHERE outcome <> 'started' ORDER BY id")


def alive(pid: int) -> bool:
    """Whether a process of ours still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
