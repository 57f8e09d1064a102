"""A large UPDATE as a backfill and as one statement, an application beside it; and the backfill killed again and again.

`BACKFILL_ROWS=200000 python -m benchmarks backfill` is done in a minute.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import psycopg2

from benchmarks.peers import BIN, Server, measured, our_project, server

ROWS = int(os.environ.get("BACKFILL_ROWS", "5000000"))
KILLED = int(os.environ.get("BACKFILL_KILLS", max(10, ROWS // 25_000)))
REQUESTS = {
    "UPDATE": "UPDATE public.messages SET content = content WHERE id = %s",
    "SELECT": "SELECT * FROM public.messages WHERE id = %s",
}
CONNECTIONS, EVERY = 2, 0.02
"""The application's for each kind, and the seconds between two requests, due whether the last one is done or not."""

SEED = 20261127
FILLED = "filled"
HEAD = '"""{0}."""\n\nfrom alembic import op\n\nrevision = "{0}"\ndown_revision = "{1}"\nstatement_timeout = "2h"\n\n\n'
ADD = 'def upgrade():\n    op.execute("ALTER TABLE public.messages ADD COLUMN hash text, ADD COLUMN times integer")\n'
BACK = '\n\ndef downgrade():\n    op.execute("SELECT 1")\n'
ONE = 'def upgrade():\n    op.execute("UPDATE public.messages SET hash = md5(content) WHERE hash IS NULL")\n'
MANY = """from neuraknot_db.revisions.backfill import Backfill

backfill = Backfill(table="public.messages", set="hash = md5(content)", where="hash IS NULL")
"""

FILL = """
SET session_replication_role = replica;
DROP INDEX public.idx_messages_conversation, public.idx_messages_sender;
INSERT INTO public.messages (id, conversation_id, sender_type, sender_id, content)
SELECT gen_random_uuid(), gen_random_uuid(), 'user', gen_random_uuid(), 'message ' || number || repeat(' and', 8)
  FROM generate_series(1, {}) number;
CREATE INDEX idx_messages_conversation ON public.messages (conversation_id, created_at DESC);
CREATE INDEX idx_messages_sender ON public.messages (sender_type, sender_id);
"""
COUNTING = """
CREATE FUNCTION count_times() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN NEW.times := coalesce(OLD.times, 0) + 1; RETURN NEW; END$$;
CREATE TRIGGER count_times BEFORE UPDATE ON public.messages FOR EACH ROW EXECUTE FUNCTION count_times();
"""


def run() -> Iterator[str]:
    """Yield a line for each figure."""
    with server() as running, tempfile.TemporaryDirectory() as folder:
        projects = {name: _project(Path(folder) / name, body) for name, body in (("one", ONE), ("many", MANY))}
        waits: dict[str, dict[str, list[float]]] = {}
        seconds: dict[str, float] = {}
        _fill(running, projects["many"])
        for name, project in projects.items():
            running.execute(f"CREATE DATABASE {name} TEMPLATE {FILLED} STRATEGY file_copy")
            with _application(running.url(name)) as waits[name]:
                seconds[name] = measured(project, running.url(name), "upgrade", "head").seconds
            running.execute(f"DROP DATABASE {name} WITH (FORCE)")
        ratio = f"{seconds['many'] / seconds['one']:.2f} x one UPDATE's time"
        yield f"{ROWS:,} rows                     {ratio}   {_told(seconds)}"
        yield f"rows a second of the backfill     {ROWS / seconds['many']:12,.0f}"
        for kind in REQUESTS:
            found = {name: _quantiles(each[kind]) for name, each in waits.items()}
            for what in ("p50", "p99", "max"):
                pair = {name: each[what] for name, each in found.items()}
                times = pair["one"] / pair["many"]
                yield f"the application's {kind}s, {what}   {times:12,.1f} times shorter        {_told(pair)}"
        yield _killed(running, projects["many"], seconds["many"])


def _project(folder: Path, body: str) -> Path:
    project = our_project(folder)
    versions = project / "alembic" / "versions"
    (versions / "005_add.py").write_text(HEAD.format("005", "004") + ADD + BACK)
    (versions / "006_fill.py").write_text(HEAD.format("006", "005") + body + BACK)
    return project


def _fill(running: Server, project: Path) -> None:
    """Make a database at 005, to copy: with as many rows, vacuumed and analyzed as an application's would be."""
    running.empty(FILLED)
    measured(project, running.url(FILLED), "upgrade", "005")
    with _connected(running.url(FILLED)) as cursor:
        for each in (FILL.format(ROWS), "VACUUM ANALYZE public.messages"):
            cursor.execute(each)


@contextlib.contextmanager
def _connected(url: str) -> Iterator[psycopg2.extensions.cursor]:
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    try:
        yield connection.cursor()
    finally:
        connection.close()


@contextlib.contextmanager
def _application(url: str) -> Iterator[dict[str, list[float]]]:
    """Read and change single rows that chance picks, meanwhile; gives how long after they were due requests ended."""
    took: dict[str, list[float]] = {kind: [] for kind in REQUESTS}
    with _connected(url) as cursor:
        cursor.execute("SELECT id FROM public.messages TABLESAMPLE BERNOULLI (%s)", [min(100, 2_000_000 / ROWS)])
        ids = [row[0] for row in cursor.fetchall()]
    ended: list[float] = []

    def ask(kind: str, number: int) -> None:
        chance = random.Random(SEED + number)
        with _connected(url) as cursor:
            due = time.monotonic() + EVERY * number / CONNECTIONS
            while not ended or due < ended[0]:
                time.sleep(max(0.0, due - time.monotonic()))
                cursor.execute(REQUESTS[kind], [chance.choice(ids)])
                took[kind].append(time.monotonic() - due)
                due += EVERY

    threads = [threading.Thread(target=ask, args=each) for each in product(REQUESTS, range(CONNECTIONS))]
    for each in threads:
        each.start()
    try:
        yield took
    finally:
        ended.append(time.monotonic())
        for each in threads:
            each.join()


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    parts = statistics.quantiles(seconds, n=100)
    return {"p50": parts[49], "p99": parts[98], "max": max(seconds)}


def _told(pair: dict[str, float]) -> str:
    one, many = (f"{each:,.1f} s" if each >= 1 else f"{each * 1000:,.1f} ms" for each in (pair["one"], pair["many"]))
    return f"({many} against {one})"


def _killed(running: Server, project: Path, seconds: float) -> str:
    """Kill the upgrade at moments that chance picks until it has been killed often enough, and let the last one end."""
    running.execute(f"CREATE DATABASE killed TEMPLATE {FILLED} STRATEGY file_copy")
    url, chance, killed, within, changed = running.url("killed"), random.Random(SEED), 0, 0, 0
    start = 0.9 * min(measured(project, url, "current").seconds for _ in range(3))
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "DATABASE_URL": url}
    with _connected(url) as cursor:
        cursor.execute(COUNTING)
        while True:
            process = subprocess.Popen(
                [str(BIN / "alembic"), "upgrade", "head"],
                cwd=project,
                env={**environ, "NEURAKNOT_ENV": "test"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            each = seconds * (1 - changed / ROWS) / (KILLED - killed) if killed < KILLED else None
            wait = each and start + chance.uniform(0, 1.5 * each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait)
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            cursor.execute("SELECT coalesce(max(rows_changed), 0) FROM neuraknot_db.backfill_progress")
            changed = cursor.fetchall()[0][0]
            within += changed > 0
        if process.returncode:
            raise RuntimeError(f"the backfill ended with exit code {process.returncode}")
        cursor.execute("SELECT coalesce(times, 0), count(*) FROM public.messages GROUP BY 1 ORDER BY 1")
        times = dict(cursor.fetchall())
    told = "each row was changed exactly once" if times == {1: ROWS} else f"rows by number of changes: {times}"
    return f"killed {killed} times, {within} behind a first batch; then it ended: {told}"
