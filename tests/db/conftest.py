"""Real servers: the embedded PostgreSQL 18, and 15 where its programs are installed; a database a test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import cache_from_source
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool

from tests.db.forking import BIN, run
from tests.projects import PROJECT, ROOT

POSTGRES_15 = Path(os.environ.get("POSTGRES_15_BIN", "/usr/lib/postgresql/15/bin"))
SUPERUSER = "postgres"


def _memory() -> str | None:
    """Where a server's data is in memory, None where there is not enough of that: files are made much faster there."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 4 << 30 else None


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Database:
    """A database on one of the servers, and the ways to it."""

    host: str
    port: int
    name: str
    server: str
    user: str = SUPERUSER

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}@/{quote(self.name)}?host={quote(self.host)}&port={self.port}"

    def engine(self) -> Engine:
        where = {"host": self.host, "port": self.port}
        return create_engine(
            f"postgresql+psycopg2://{self.user}@/{quote(self.name)}", poolclass=NullPool, connect_args=where
        )

    def connect(self) -> Connection:
        """A connection on which each statement commits by itself."""
        return self.engine().connect().execution_options(isolation_level="AUTOCOMMIT")

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Execute SQL as it stands, and return its rows."""
        with self.connect() as connection:
            result = connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
            return [tuple(row) for row in result] if result.returns_rows else []

    def value(self, sql: str) -> object:
        return self.run(sql)[0][0]

    def as_user(self, user: str) -> Database:
        return replace(self, user=user)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command for this database: nothing else of the machine's."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "DATABASE_URL": self.url, "NEURAKNOT_ENV": "test", **more}

    def alembic(self, *arguments: str, cwd: Path = PROJECT, **environ: str) -> Finished:
        """The plain `alembic` script."""
        return self.program("alembic", *arguments, cwd=cwd, **environ)

    def neuraknot_db(self, *arguments: str, cwd: Path = PROJECT, **environ: str) -> Finished:
        return self.program("neuraknot-db", *arguments, cwd=cwd, **environ)

    def program(self, name: str, *arguments: str, cwd: Path = PROJECT, **environ: str) -> Finished:
        return Finished(*run(name, arguments, cwd=cwd, env=self.environment(**environ)))


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL; `version` is the name that test ids carry."""

    version: str
    host: str
    port: int
    template: str = "template1"

    def database(self, name: str) -> Database:
        return Database(self.host, self.port, name, self.version)


def _as_postgres() -> list[str]:
    """PostgreSQL does not run as root: another user does it then."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


@contextmanager
def running_15(*initdb: str, more: str = "", **environ: str) -> Iterator[Server]:
    """A PostgreSQL 15 of its own, made with these options of initdb, and run with more and in this environment."""
    if not (POSTGRES_15 / "initdb").exists():
        pytest.skip(f"PostgreSQL 15 is not installed in {POSTGRES_15}")
    with tempfile.TemporaryDirectory(prefix="pg15-", dir=_memory()) as folder:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = f"{folder}/data"
        make = [str(POSTGRES_15 / "initdb"), "-D", data, "-U", SUPERUSER, "-A", "trust", "-N", *initdb]
        subprocess.run([*_as_postgres(), *make], check=True, capture_output=True, cwd="/")
        options = f"-k {folder} -p 5432 -c listen_addresses= -c fsync=off -c max_connections=200"
        options += f" -c max_prepared_transactions=2 {more}"
        control = [*_as_postgres(), str(POSTGRES_15 / "pg_ctl"), "-D", data, "-w"]
        start = [*control, "-o", options, "-l", f"{folder}/log", "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd="/", env={**os.environ, **environ})
        try:
            yield Server("15", folder, 5432)
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def standby_of(server: Server) -> Iterator[Server]:
    """A streaming standby of a PostgreSQL 15, which tells every second how far it is."""
    with tempfile.TemporaryDirectory(prefix="pg15-", dir=_memory()) as folder:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = f"{folder}/data"

        def run(program: str, *arguments: str) -> None:
            command = [*_as_postgres(), str(POSTGRES_15 / program), "-D", data, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

        run("pg_basebackup", "-h", server.host, "-p", str(server.port), "-U", SUPERUSER, "-R", "-c", "fast")
        options = f"-k {folder} -p 5432 -c listen_addresses= -c fsync=off -c max_connections=200"
        options += " -c max_prepared_transactions=2 -c wal_receiver_status_interval=1"
        run("pg_ctl", "-w", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield Server("15", folder, 5432)
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def server_15() -> Iterator[Server]:
    with running_15("-E", "UTF8") as server:
        yield server


@pytest.fixture(scope="session")
def server_18(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="pg18-", dir=_memory()))
    running = subprocess.Popen(
        [str(BIN / "neuraknot-db"), "serve", "--data", str(home)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert running.stdout is not None
    address = running.stdout.readline().strip()
    server = Server("18", address.partition("?host=")[2], 5432)
    server.database("postgres").run("ALTER SYSTEM SET fsync = off")
    server.database("postgres").run("SELECT pg_reload_conf()")
    try:
        yield server
    finally:
        running.terminate()
        running.wait(30)
        running.stdout.close()
        shutil.rmtree(home)


_numbers = count()


@pytest.fixture(scope="session", params=["15", "18"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    found: Server = request.getfixturevalue(f"server_{request.param}")
    return found


@cache
def _template(server: Server, revision: str) -> str:
    """The name of a database at a revision, without rows, to make others from."""
    template = server.database(f"template_at_{revision}_{next(_numbers)}")
    server.database("postgres").run(f'CREATE DATABASE "{template.name}"')
    done = template.alembic("upgrade", revision)
    assert done.code == 0, done.err
    return template.name


@pytest.fixture
def new_database(server: Server) -> Iterator[Callable[..., Database]]:
    """Makes databases, empty or from a template, that go with the test."""
    maintenance = server.database("postgres")
    made: list[str] = []

    def make(template: str = "template1", name: str | None = None) -> Database:
        name = name or f"test_{os.getpid()}_{next(_numbers)}"
        # By files: through the log, as it is by default, takes five times as long.
        maintenance.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        made.append(name)
        return server.database(name)

    yield make
    for name in made:
        maintenance.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def database(new_database: Callable[..., Database]) -> Database:
    """An empty database."""
    return new_database()


@pytest.fixture
def at(server: Server, new_database: Callable[..., Database]) -> Callable[[str], Database]:
    """Makes databases at a revision, without rows."""
    return lambda revision: new_database(_template(server, revision))


@pytest.fixture
def database_at_head(at: Callable[[str], Database]) -> Database:
    """A database at head, without rows."""
    return at("head")


@dataclass(frozen=True)
class Project:
    """A copy of the Alembic project, to add revisions to or to break."""

    root: Path

    @property
    def versions(self) -> Path:
        return self.root / "alembic" / "versions"

    def add(self, revision: str, upgrade: str, downgrade: str = "SELECT 1", *, after: str, extra: str = "") -> Path:
        """Write a revision whose SQL is given."""
        path = self.versions / f"{revision}_added.py"
        # Python takes its byte code for this file's where size and second are the same.
        Path(cache_from_source(str(path))).unlink(missing_ok=True)
        path.write_text(
            f'"""Added {revision}."""\n\nfrom alembic import op\n\n'
            f"revision = {revision!r}\ndown_revision = {after or None!r}\n{extra}\n\n"
            f"def upgrade() -> None:\n    op.execute({upgrade!r})\n\n\n"
            f"def downgrade() -> None:\n    op.execute({downgrade!r})\n",
            encoding="utf-8",
        )
        return path

    def add_backfill(self, revision: str, *, after: str, extra: str = "", **parts: object) -> Path:
        """Write a revision that declares a backfill."""
        path = self.add(revision, "", after=after)
        body = path.read_text(encoding="utf-8")
        upgrade, given = body.index("def upgrade"), ", ".join(f"{name}={part!r}" for name, part in parts.items())
        declared = f"from neuraknot_db.revisions.backfill import Backfill\n\nbackfill = Backfill({given})\n{extra}\n\n"
        path.write_text(body[:upgrade] + declared + body[body.index("def downgrade") :], encoding="utf-8")
        return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copy(PROJECT / "alembic.ini", tmp_path)
    shutil.copytree(PROJECT / "alembic", tmp_path / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    return Project(tmp_path)


@pytest.fixture
def empty(project: Project) -> Project:
    """A project without revisions."""
    for folder in ("versions", "snapshots"):
        shutil.rmtree(project.root / "alembic" / folder)
        (project.root / "alembic" / folder).mkdir()
    return project
