"""What happens on a bad day, here and with plain Alembic and dbmate: ten at once, a blocked ALTER, killed processes."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from benchmarks.peers import BIN, Server, our_project, plain_project, server

AT_ONCE, ROUNDS = 10, 3
BLOCKED_FOR = 12.0
"""Seconds that somebody's transaction stays open in the way of the ALTER."""

KILLED = 40
SEED = 20261123
ALTER = "ALTER TABLE public.users ADD COLUMN note text"


@dataclass(frozen=True)
class Peer:
    """A tool with its revisions in a folder.

    Attributes:
        name: in the report, and of its scratch database.
        upgrade: the command that applies what is pending, given the database's URL.
    """

    name: str
    folder: Path
    upgrade: Callable[[str], list[str]]

    def start(self, running: Server) -> subprocess.Popen[bytes]:
        """The upgrade as a process of its own."""
        url = running.url(self.name)
        environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "DATABASE_URL": url}
        return subprocess.Popen(
            self.upgrade(url),
            cwd=self.folder,
            env={**environ, "NEURAKNOT_ENV": "test"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def run() -> Iterator[str]:
    """Yield a line for each figure."""
    with server() as running, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alembic = [str(BIN / "alembic"), "upgrade", "head"]
        ours = Peer("ours", our_project(folder / "ours"), lambda _: alembic)
        plain = Peer("plain", plain_project(folder / "plain"), lambda _: alembic)
        peers = {"neuraknot-db": ours, "plain Alembic": plain}
        dbmate = _dbmate(folder)
        if dbmate is not None:
            peers["dbmate"] = Peer("dbmate", _dbmate_project(folder / "dbmate", ours), _dbmate_command(dbmate, running))
        else:
            yield "dbmate: not measured, since npm could not install it"
        for title, peer in peers.items():
            succeeded = f"{_at_once(running, peer)} of {AT_ONCE * ROUNDS} exit with 0"
            yield f"ten at once                    {title:<14} {succeeded}"
        yield _killed(running, ours)
        for title, peer in peers.items():
            _seconds(running, peer)
            _add_alter(peer)
            yield f"the application's longest wait {title:<14} {_blocked(running, peer):.1f} s"


def _at_once(running: Server, peer: Peer) -> int:
    succeeded = 0
    for _ in range(ROUNDS):
        running.empty(peer.name)
        started = [peer.start(running) for _ in range(AT_ONCE)]
        succeeded += sum(process.wait() == 0 for process in started)
    return succeeded


def _blocked(running: Server, peer: Peer) -> float:
    """Seconds that a query of the application waited at the most, while an ALTER waited for a reader to end."""
    with _connected(running, peer) as reader, _connected(running, peer) as application:
        reader.cursor().execute("BEGIN; SELECT count(*) FROM public.users")
        migration = peer.start(running)
        deadline = time.monotonic() + BLOCKED_FOR
        longest, freed = 0.0, threading.Timer(BLOCKED_FOR, lambda: reader.cursor().execute("ROLLBACK"))
        freed.start()
        while time.monotonic() < deadline or migration.poll() is None:
            started = time.monotonic()
            application.cursor().execute("SELECT 1 FROM public.users LIMIT 1")
            longest = max(longest, time.monotonic() - started)
            freed.join(0.01)
        if migration.wait():
            raise RuntimeError(f"{peer.name}: the ALTER did not go through once the reader had ended")
        freed.join()
    return longest


def _killed(running: Server, peer: Peer) -> str:
    """Kill the upgrade at a moment that chance picks; then it must go on, each time."""
    chance, survived, ended_early = random.Random(SEED), 0, 0
    whole = min(_seconds(running, peer) for _ in range(3))
    for _ in range(KILLED):
        running.empty(peer.name)
        process = peer.start(running)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.3, 0.95) * whole)
        process.send_signal(signal.SIGKILL)
        ended_early += process.wait() != 0
        survived += peer.start(running).wait() == 0
    killed = f"{ended_early} of {KILLED}; the next run reached head {survived} times"
    return f"killed at any moment           neuraknot-db   {killed}"


def _seconds(running: Server, peer: Peer) -> float:
    running.empty(peer.name)
    started = time.monotonic()
    if peer.start(running).wait():
        raise RuntimeError(f"{peer.name}: the upgrade of an empty database failed")
    return time.monotonic() - started


@contextlib.contextmanager
def _connected(running: Server, peer: Peer) -> Iterator[psycopg2.extensions.connection]:
    connection = psycopg2.connect(f"postgresql://postgres@/{peer.name}?host={running.host}")
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def _add_alter(peer: Peer) -> None:
    """One pending revision more, which alters a table in use."""
    if peer.name == "dbmate":
        (peer.folder / "db" / "migrations" / "005_alter.sql").write_text(f"-- migrate:up\n{ALTER};\n-- migrate:down\n")
        return
    (peer.folder / "alembic" / "versions" / "005_alter.py").write_text(
        f'from alembic import op\n\nrevision = "005"\ndown_revision = "004"\n\n\n'
        f"def upgrade():\n    op.execute({ALTER!r})\n\n\ndef downgrade():\n    pass\n"
    )


def _dbmate(folder: Path) -> Path | None:
    """Where npm installed dbmate into a scratch folder."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    scratch = folder / "npm"
    scratch.mkdir()
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "dbmate"]
    done = subprocess.run(command, cwd=scratch, check=False, capture_output=True, timeout=120)
    program = scratch / "node_modules" / ".bin" / "dbmate"
    return program if done.returncode == 0 and program.exists() else None


def _dbmate_project(folder: Path, ours: Peer) -> Path:
    """The same revisions as dbmate's SQL files."""
    migrations = folder / "db" / "migrations"
    migrations.mkdir(parents=True)
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://postgres@localhost/none"}
    before = "base"
    for revision in ("001", "002", "003", "004"):
        command = [str(BIN / "alembic"), "-q", "upgrade", "--sql", f"{before}:{revision}"]
        script = subprocess.run(command, cwd=ours.folder, env=environ, check=True, capture_output=True, text=True)
        # dbmate has a transaction and a table of versions of its own.
        lines = [line for line in script.stdout.splitlines() if line not in {"BEGIN;", "COMMIT;"}]
        sql = "\n".join(lines).replace("alembic_version", "another_version")
        (migrations / f"{revision}_same.sql").write_text(f"-- migrate:up\n{sql}\n-- migrate:down\n")
        before = revision
    return folder


def _dbmate_command(program: Path, running: Server) -> Callable[[str], list[str]]:
    """Its `up`, without the dump of the schema that it would make for the repository."""

    def command(url: str) -> list[str]:
        database = url.partition("?")[0].rsplit("/", 1)[-1]
        address = f"postgres://postgres@/{database}?socket={running.host}"
        return [str(program), "--no-dump-schema", "--url", address, "up"]

    return command
