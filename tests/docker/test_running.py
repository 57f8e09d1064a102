"""The image does its work as ECS runs it: over TLS, with nothing writable and no privilege."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import PASSWORD, Fargate, TlsServer, docker

CERTIFICATE = "/app/certificates/root.pem"

UNTIL_ONE_WAITS = """
DO $$ BEGIN
    FOR attempt IN 1..600 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock');
        PERFORM pg_sleep(0.05), pg_stat_clear_snapshot();
    END LOOP;
END $$
"""


def test_upgrade_and_back_over_demanded_tls(fargate: Fargate, tls_server: TlsServer, database: str) -> None:
    environment = tls_server.environment(database, NEURAKNOT_RESULT="json")
    done = fargate.run("alembic", "upgrade", "head", environment=environment)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["ran"] == ["001", "002", "003", "004"]
    assert tls_server.value(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 9
    done = fargate.run("neuraknot-db", "verify", environment=environment)
    assert done.code == 0, done.err
    done = fargate.run("neuraknot-db", "reset", "--confirm", database, environment=environment)
    assert done.code == 0, done.err
    done = fargate.run("neuraknot-db", "downgrade", "-1", environment=environment)
    assert done.code == 0, done.err
    assert tls_server.value(database, "SELECT version_num FROM alembic_version") == "003"


def test_every_command_that_looks_or_records_works(fargate: Fargate, tls_server: TlsServer, database: str) -> None:
    environment = tls_server.environment(database)
    assert fargate.run("neuraknot-db", "upgrade", "003", environment=environment).code == 0
    for command in ("current", "plan", "plan --json", "log", "log --json", "verify --json", "mark ci"):
        done = fargate.run("neuraknot-db", *command.split(), environment=environment)
        assert done.code == 0, f"{command}: {done.err}"
        assert done.out or command == "mark ci"


@pytest.mark.parametrize(
    ("host", "sslmode", "certificate", "code"),
    [
        ("127.0.0.1", "verify-full", "root", 0),
        ("localhost", "verify-full", "root", 0),
        ("127.0.0.1", "verify-full", "stranger", 6),
        ("127.0.0.1", "disable", "root", 6),
    ],
)
def test_certificates_are_verified(
    fargate: Fargate, tls_server: TlsServer, database: str, host: str, sslmode: str, certificate: str, code: int
) -> None:
    environment = tls_server.environment(database, DB_HOST=host, DB_SSLMODE=sslmode, DB_SSLROOTCERT=CERTIFICATE)
    mounted = f"--volume={getattr(tls_server, certificate)}:{CERTIFICATE}:ro"
    done = fargate.run("alembic", "upgrade", "head", options=(mounted,), environment=environment)
    assert done.code == code, done.err
    assert ("certificate verify failed" in done.err) == (certificate == "stranger")


def test_a_wrong_host_name_is_found_out(fargate: Fargate, tls_server: TlsServer, database: str) -> None:
    environment = tls_server.environment(
        database, DB_HOST="ip6-localhost.test", DB_SSLMODE="verify-full", DB_SSLROOTCERT=CERTIFICATE
    )
    options = (f"--volume={tls_server.root}:{CERTIFICATE}:ro", "--add-host=ip6-localhost.test:127.0.0.1")
    done = fargate.run("alembic", "upgrade", "head", options=options, environment=environment)
    assert done.code == 6
    assert "does not match host name" in done.err


def test_a_wrong_password_is_not_told(fargate: Fargate, tls_server: TlsServer, database: str) -> None:
    wrong = PASSWORD + "x"
    environment = tls_server.environment(database, DB_PASSWORD=wrong)
    done = fargate.run("alembic", "upgrade", "head", environment=environment)
    assert done.code == 6
    assert wrong not in done.out + done.err


def test_nothing_is_compiled_when_it_runs(fargate: Fargate, tls_server: TlsServer, database: str) -> None:
    environment = tls_server.environment(database, PYTHONVERBOSE="1")
    done = fargate.run("alembic", "upgrade", "head", environment=environment)
    told = [line for line in done.err.splitlines() if not line.startswith(("import ", "# "))]
    assert done.code == 0, told
    compiled = [line for line in done.err.splitlines() if line.startswith("# code object from /")]
    assert "sqlalchemy" in done.err
    assert compiled == []


def test_a_running_statement_is_cancelled_by_sigterm(fargate: Fargate, tls_server: TlsServer, database: str) -> None:
    environment = tls_server.environment(database)
    assert fargate.run("alembic", "upgrade", "003", environment=environment).code == 0
    with contextlib.closing(tls_server.connect(database)) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE ai_agents")
        running = fargate.start("alembic", "upgrade", "head", environment=environment)
        tls_server.value("postgres", UNTIL_ONE_WAITS.format(database=database))
        fargate.signal("TERM")
        output, _ = running.communicate(timeout=15)
    assert running.returncode == 143, output
    assert "Terminated" in output
    assert tls_server.value(database, "SELECT version_num FROM alembic_version") == "003"


@pytest.mark.skipif(os.geteuid() != 0, reason="the server's processes belong to another user")
def test_it_ends_in_time_where_the_server_has_stopped_answering(
    fargate: Fargate, tls_server: TlsServer, database: str
) -> None:
    environment = tls_server.environment(database, NEURAKNOT_RESULT="json")
    assert fargate.run("alembic", "upgrade", "003", environment=environment).code == 0
    with contextlib.closing(tls_server.connect(database)) as holder, holder.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE ai_agents")
        running = fargate.start("alembic", "upgrade", "head", environment=environment, stderr=subprocess.PIPE)
        tls_server.value("postgres", UNTIL_ONE_WAITS.format(database=database))
        waiting = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
        backend = int(str(tls_server.value("postgres", waiting)))
        stopped = [backend, int(Path(tls_server.socket, "data", "postmaster.pid").read_text().split()[0])]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            docker("stop", "--time=12", fargate.names[-1])
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        out, err = running.communicate(timeout=15)
    assert running.returncode == 143, err
    assert "is committed is not known" in err
    result = json.loads(out.splitlines()[-1])
    assert (result["outcome"], result["after"], result["exit_code"]) == ("unknown", None, 143)
    assert tls_server.value(database, "SELECT version_num FROM alembic_version") == "003"


@pytest.fixture
def deaf_server() -> Iterator[socket.socket]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("program", ["alembic", "neuraknot-db"])
def test_sigterm_ends_a_process_that_is_still_connecting(
    fargate: Fargate, deaf_server: socket.socket, program: str
) -> None:
    port = str(deaf_server.getsockname()[1])
    running = fargate.start(program, "upgrade", "head", environment={"DB_HOST": "127.0.0.1", "DB_PORT": port})
    connection, _ = deaf_server.accept()
    fargate.signal("TERM")
    output, _ = running.communicate(timeout=8)  # libpq alone would go on for ten seconds
    connection.close()
    assert running.returncode == 143, output
    assert "Terminated" in output


def test_sigterm_ends_a_process_that_is_still_importing(fargate: Fargate) -> None:
    program = "print('up', flush=True)\nwhile True: pass"
    running = fargate.start("python", "-c", program)
    assert running.stdout is not None
    assert running.stdout.readline() == "up\n"
    fargate.signal("TERM")
    running.communicate(timeout=8)
    assert running.returncode == 143


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("alembic", "upgrade", "head"), "No database is named in the environment."),
        (("neuraknot-db", "current"), "No database is named in the environment."),
        *(
            (("neuraknot-db", name), f"{name} needs a checkout")
            for name in ("serve", "lint", "diagram", "snapshot", "renumber")
        ),
    ],
)
def test_what_only_a_checkout_has_is_missed_in_a_sentence(
    fargate: Fargate, command: tuple[str, ...], sentence: str
) -> None:
    done = fargate.run(*command)
    assert done.code == 2
    assert sentence in done.err
    assert "Traceback" not in done.err
