"""Migrations in a forked process, to be killed at a moment that chance picks, and what must then be there."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from alembic.config import CommandLine

from tests.db.conftest import Database
from tests.db.running import MIGRATOR, wait_until
from tests.projects import PROJECT

REVISIONS = 8

_ENDED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE """

# Each table with its columns and indexes.
_TABLES = """
SELECT format('%s: %s; %s', c.relname,
         (SELECT string_agg(attname || ' ' || atttypid::regtype, ', ' ORDER BY attname) FROM pg_attribute
           WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
         (SELECT string_agg(indexrelid::regclass || ' ' || indisvalid, ', ' ORDER BY indexrelid::regclass::text)
            FROM pg_index WHERE indrelid = c.oid)),
       format('SELECT count(*) FROM %s', c.oid::regclass)
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
 ORDER BY c.relname
"""


def shape(database: Database) -> str:
    """The schema and the numbers of rows, as a text to compare."""
    with database.connect() as connection:
        tables = connection.exec_driver_sql(_TABLES, execution_options={"no_parameters": True}).all()
        return "\n".join(f"{table}; {connection.exec_driver_sql(count).scalar()} rows" for table, count in tables)


def generated_project(folder: Path) -> Path:
    """Revisions that make tables with rows and change those of the one before; returns the path of the ini file."""
    versions = folder / "alembic" / "versions"
    versions.mkdir(parents=True)
    for name in ("alembic.ini", "alembic/env.py"):
        (folder / name).write_text((PROJECT / name).read_text())
    before = None
    for number in range(1, REVISIONS + 1):
        revision = f"{number:03d}"
        up = (
            f"CREATE TABLE public.t{number} AS SELECT g AS id, repeat('x', 50) AS note FROM generate_series(1, 3000) g;"
            f" ALTER TABLE public.t{number} ADD PRIMARY KEY (id);"
        )
        down = f"DROP TABLE public.t{number};"
        if before:
            up += (
                f" ALTER TABLE public.t{number - 1} ADD COLUMN added int; UPDATE public.t{number - 1} SET added = id;"
                f" DELETE FROM public.t{number - 1} WHERE id % 10 = 0"
            )
            down += (
                f" ALTER TABLE public.t{number - 1} DROP COLUMN added;"
                f" INSERT INTO public.t{number - 1} SELECT g, '' FROM generate_series(10, 3000, 10) g"
            )
        (versions / f"{revision}_generated.py").write_text(
            f'"""Table {number}."""\n\nfrom alembic import op\n\nrevision = "{revision}"\ndown_revision = {before!r}\n'
            f"\n\ndef upgrade() -> None:\n    op.execute({up!r})\n"
            f"\n\ndef downgrade() -> None:\n    op.execute({down!r})\n"
        )
        before = revision
    return folder / "alembic.ini"


class Fork:
    """Runs Alembic in a fork of this process, which has imported everything already."""

    def __init__(self, database: Database, config: Path) -> None:
        self._database = database
        self._config = config
        self._said = config.with_name("said")

    @property
    def said(self) -> str:
        """What the last one wrote."""
        return self._said.read_text()

    def revision(self) -> str:
        """Where the database is."""
        if self._database.value("SELECT to_regclass('public.alembic_version')") is None:
            return ""
        return str(self._database.value("SELECT coalesce(max(version_num), '') FROM public.alembic_version"))

    def run(
        self, *arguments: str, after: float | None = None, way: str = "", once: Callable[[], object] = lambda: True
    ) -> int:
        """The exit code; negative for a signal.

        Args:
            arguments: Alembic's.
            after: seconds until it is ended; None to leave it alone.
            once: what these seconds begin with.
            way: how: `kill`, `terminate` and `alarm` send SIGKILL, SIGTERM and what the timer of a deadline sends;
                `backend` ends its session on the server.
        """
        child = os.fork()
        if child == 0:
            self._become(arguments)
        if after is not None:
            wait_until(lambda: once() or os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
            threading.Event().wait(after)
            if way == "backend":
                self._database.run(_ENDED + MIGRATOR)
            else:
                os.kill(child, {"kill": signal.SIGKILL, "alarm": signal.SIGALRM}.get(way, signal.SIGTERM))
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def _become(self, arguments: tuple[str, ...]) -> None:
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            sys.stdout = sys.stderr = self._said.open("w", buffering=1)
            os.environ.update(self._database.environment())
            CommandLine().main(["-c", str(self._config), *arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            os._exit(code)
