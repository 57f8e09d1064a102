"""A pooler strands session locks: it is recognised, and refused before anything is done."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database
from tests.db.running import wait_until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@pytest.fixture(params=["session", "transaction"])
def pooled(database: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """The database behind PgBouncer."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pgb-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ini = folder / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\n{database.name} = host={database.host} port={database.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {request.param}\n"
        )
        # The user who may use the server's socket, and who is not root, which PgBouncer refuses.
        owner = pwd.getpwuid(Path(database.host).stat().st_uid).pw_name
        user = ["runuser", "-u", owner, "--"] if os.geteuid() == 0 else []
        running = subprocess.Popen([*user, PGBOUNCER, "-q", str(ini)], stderr=subprocess.DEVNULL, cwd="/")
        try:
            wait_until(lambda: _answers(port))
            yield Database("127.0.0.1", port, database.name, database.server)
        finally:
            running.terminate()
            running.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_pooler_is_refused_and_nothing_is_changed(database: Database, pooled: Database) -> None:
    before = database.value(SCHEMA)
    for program in ("alembic", "neuraknot-db"):
        said(pooled.program(program, "upgrade", "head"), 5, "pooler", "DATABASE_URL or DB_HOST name PostgreSQL itself")
    assert database.value(SCHEMA) == before
    # The application gets the same session of the server's.
    names = ("lock_timeout", "statement_timeout", "search_path", "client_connection_check_interval")
    assert [pooled.value(f"SHOW {name}") for name in names] == [database.value(f"SHOW {name}") for name in names]
    assert database.alembic("upgrade", "head").code == 0
