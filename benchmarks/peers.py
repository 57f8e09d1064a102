"""Plain Alembic with the same revisions, a server for both, and processes measured whole and in turns."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "tests" / "project"
"""The four revisions as they are frozen there: figures of another day compare with those of today."""
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds from start to exit, and its peak memory in MiB."""

    seconds: float
    mebibytes: float


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL with nothing but scratch databases."""

    host: str

    def url(self, database: str) -> str:
        """Where both find a scratch database."""
        return f"postgresql+psycopg2://postgres@/{database}?host={self.host}"

    def execute(self, sql: str) -> None:
        """Run SQL outside of the scratch databases."""
        connection = psycopg2.connect(f"postgresql://postgres@/postgres?host={self.host}")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
        connection.close()

    def empty(self, database: str) -> None:
        """Make the database anew."""
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {database}")


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """The embedded PostgreSQL, in a scratch folder; in memory where there is such a place.

    Its fsyncs cost both sides the same, and vary by more than the sides differ.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory if memory.is_dir() else None) as home:
        command = [str(BIN / "neuraknot-db"), "serve", "--data", home]
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        try:
            yield Server(running.stdout.readline().strip().partition("?host=")[2])
        finally:
            running.terminate()
            running.wait()


def our_project(folder: Path, *, generated: int = 0) -> Path:
    """A copy of this Alembic project, with so many revisions of one small table more."""
    folder.mkdir()
    shutil.copy(PROJECT / "alembic.ini", folder)
    shutil.copytree(PROJECT / "alembic", folder / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    _generate(folder / "alembic" / "versions", generated)
    return folder


def plain_project(folder: Path, *, generated: int = 0, transaction_per_migration: bool = False) -> Path:
    """What `alembic init` makes, with the same revisions, and the URL from DATABASE_URL."""
    folder.mkdir()
    subprocess.run([str(BIN / "alembic"), "init", "alembic"], cwd=folder, check=True, capture_output=True)
    shutil.copytree(PROJECT / "alembic" / "versions", folder / "alembic" / "versions", dirs_exist_ok=True)
    env = folder / "alembic" / "env.py"
    text = env.read_text()
    wanted = (
        'config = context.config\nimport os\nconfig.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"])\n'
    )
    text = text.replace("config = context.config\n", wanted)
    if transaction_per_migration:
        text = text.replace(
            "connection=connection, target_metadata=target_metadata",
            "connection=connection, target_metadata=target_metadata, transaction_per_migration=True",
        )
    env.write_text(text)
    _generate(folder / "alembic" / "versions", generated)
    return folder


def _generate(versions: Path, number: int) -> None:
    shutil.rmtree(versions / "__pycache__", ignore_errors=True)
    previous = "004"
    for index in range(5, 5 + number):
        (versions / f"{index:04d}_generated.py").write_text(
            f'"""Table {index}."""\n\nfrom alembic import op\n\nrevision = "{index:04d}"\n'
            f'down_revision = "{previous}"\nbranch_labels = None\ndepends_on = None\n\n\n'
            f'def upgrade() -> None:\n    op.execute("CREATE TABLE public.t{index} (id uuid PRIMARY KEY, note text)")\n'
            f'\n\ndef downgrade() -> None:\n    op.execute("DROP TABLE public.t{index}")\n'
        )
        previous = f"{index:04d}"


def measured(project: Path, url: str, *arguments: str, program: str = "alembic") -> Cost:
    """Run `alembic`, or another program, in a project as a process of its own, and wait for it."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "DATABASE_URL": url}
    environment["NEURAKNOT_ENV"] = "test"
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(BIN / program), *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)} in {project}: {said.decode()}")
    return Cost(time.perf_counter() - started, usage.ru_maxrss / 1024)


def compared(name: str, ours: Sequence[Cost], plain: Sequence[Cost]) -> str:
    """A line: the medians, and the median of the ratios of neighbours in time."""
    ratio = statistics.median(our.seconds / their.seconds for our, their in zip(ours, plain, strict=True))
    medians = [statistics.median(cost.seconds for cost in costs) * 1000 for costs in (ours, plain)]
    memory = max(cost.mebibytes for cost in ours)
    return (
        f"{name:<44} {ratio:5.2f} x plain Alembic   ({medians[0]:,.0f} ms against {medians[1]:,.0f} ms, "
        f"median of {len(ours)}; peak {memory:.0f} MiB)"
    )
