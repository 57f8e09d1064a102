"""Standard output and standard error that break: a migration does its work, and data that was lost is told."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.db.conftest import Database, Project, Server
from tests.db.forking import BIN
from tests.db.running import log_of, wait_until
from tests.projects import PROJECT

LOST = "Error: The work is done; its output could not be written: "


@contextmanager
def broken(kind: str) -> Iterator[int]:
    """A file that can't be written to: its reader has gone, its disk is full, or it is a terminal that was closed."""
    if kind == "full":
        number = os.open("/dev/full", os.O_WRONLY)
    elif kind == "gone":
        reading, number = os.pipe()
        os.close(reading)
    else:
        ours, number = os.openpty()
        os.close(ours)
    try:
        yield number
    finally:
        os.close(number)


def run(
    database: Database,
    *command: str,
    out: int = subprocess.PIPE,
    err: int = subprocess.PIPE,
    cwd: Path = PROJECT,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=cwd,
        env=database.environment(**environ),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        text=True,
        timeout=120,
    )


def shell(database: Database, line: str) -> subprocess.CompletedProcess[str]:
    """As a person types it, with the programs on the PATH."""
    return run(database, "/bin/bash", "-c", line, PATH=f"{BIN}:{os.environ['PATH']}")


@pytest.fixture(scope="session")
def server(server_18: Server) -> Server:
    """One is enough: streams are none of a server's business."""
    return server_18


KINDS = ["full", "gone", "closed terminal"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_narration_that_can_not_be_written_changes_nothing(database: Database, kind: str, unbuffered: str) -> None:
    with broken(kind) as number:
        done = run(database, "alembic", "upgrade", "head", out=number, err=number, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0
    assert [row[2] for row in log_of(database)] == ["succeeded"] * 4
    with broken(kind) as number:
        assert run(database, "neuraknot-db", "downgrade", "001", out=number, err=number).returncode == 0
        reset = ("neuraknot-db", "reset", "--confirm", database.name)
        assert run(database, *reset, out=number, err=number).returncode == 0
    assert database.value("SELECT version_num FROM public.alembic_version") == "004"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_keeps_its_code_and_its_row(database_at_head: Database, project: Project, kind: str) -> None:
    project.add("005", "SELECT 1/0", after="004")
    with broken(kind) as number:
        done = run(
            database_at_head,
            *("alembic", "upgrade", "head"),
            out=number,
            err=number,
            cwd=project.root,
            NEURAKNOT_RESULT="json",
        )
    assert done.returncode == 7
    assert log_of(database_at_head, "revision, outcome")[-1] == ("005", "failed")


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_revision_may_print_and_raise_notices_to_nobody(
    database_at_head: Database, project: Project, kind: str, stream: str
) -> None:
    sql = "DO $$ BEGIN FOR i IN 1..2000 LOOP RAISE NOTICE 'one of many lines that nobody reads'; END LOOP; END $$"
    path = project.add("005", sql, after="004")
    lines = (
        f"import sys\n    print('x' * 9999, file=sys.{stream}, flush=True)\n    sys.{stream}.flush()\n    op.execute"
    )
    path.write_text(path.read_text().replace("op.execute", lines, 1))
    with broken(kind) as number:
        done = run(database_at_head, "alembic", "upgrade", "head", out=number, err=number, cwd=project.root)
    assert done.returncode == 0
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "005"


@pytest.mark.slow
def test_a_reader_that_has_had_enough(database: Database) -> None:
    done = shell(database, "set -o pipefail; alembic upgrade 004 2>&1 | head -1")
    assert done.stdout.startswith(database.name)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert [row[2] for row in log_of(database)] == ["succeeded"] * 4
    assert shell(database, "neuraknot-db log | head -1").stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_beforehand(database: Database, closed: str) -> None:
    done = shell(database, f"alembic upgrade head {closed}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert database.value("SELECT version_num FROM public.alembic_version") == "004"
    # What would have taken the number of a closed stream, a connection say, is not written to.
    done = shell(database, f"neuraknot-db downgrade 001 {closed}")
    assert (done.returncode, [row[2] for row in log_of(database)]) == (0, ["succeeded"] * 7), done.stderr
    done = shell(database, f"NEURAKNOT_RESULT=json alembic upgrade 002 {closed}")
    assert done.returncode == (1 if ">&-" in closed.replace("2>&-", "") else 0), done.stderr
    assert database.value("SELECT version_num FROM public.alembic_version") == "002"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("alembic current", ">/dev/full"),
        ("neuraknot-db current", ">&-"),
        ("neuraknot-db log", ">/dev/full"),
        ("neuraknot-db log --json", ">/dev/full"),
        ("neuraknot-db verify", ">/dev/full"),
        ("neuraknot-db plan --json", ">&-"),
        ("neuraknot-db heads", ">/dev/full"),
        ("neuraknot-db --help", ">/dev/full"),
        ("neuraknot-db diagram", ">/dev/full"),
        ("alembic upgrade head --sql", ">/dev/full"),
    ],
)
def test_data_that_could_not_be_written_is_said_and_ends_with_1(
    database_at_head: Database, command: str, where: str
) -> None:
    done = shell(database_at_head, f"{command} {where}")
    assert done.returncode == 1, done.stderr
    assert LOST in done.stderr
    assert "Hint: Run the command again, with its output elsewhere.\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("command", "revision"),
    [(("upgrade", "head"), "004"), (("downgrade", "-1"), "001"), (("reset", "--confirm", "NAME"), "004")],
)
def test_a_report_that_could_not_be_written_ends_with_1_after_the_work(
    database: Database, kind: str, command: tuple[str, ...], revision: str
) -> None:
    assert database.alembic("upgrade", "002").code == 0
    words = [database.name if word == "NAME" else word for word in command]
    with broken(kind) as number:
        done = run(database, "neuraknot-db", *words, out=number, NEURAKNOT_RESULT="json")
    assert done.returncode == 1, done.stderr
    said = {"full": errno.ENOSPC, "gone": errno.EPIPE, "closed terminal": errno.EIO}[kind]
    assert f"{LOST}{os.strerror(said)}.\nHint: `alembic current` says where the database is.\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.value("SELECT version_num FROM public.alembic_version") == revision
    assert json.loads(database.neuraknot_db("log", "--json").out)[-1]["outcome"] == "succeeded"


@pytest.mark.slow
def test_a_pipe_that_does_not_wait_loses_nothing(database_at_head: Database) -> None:
    """As another program may have made it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen(
        [str(BIN / "neuraknot-db"), "upgrade", "head", "--sql"],
        cwd=PROJECT,
        env=database_at_head.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        script = file.read()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert script.endswith(b"COMMIT;\n\n")


NOTICES = "DO $$ BEGIN FOR i IN 1..3000 LOOP RAISE NOTICE 'a line of some length, number %', i; END LOOP; END $$"


@contextmanager
def stalled(database: Database, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An upgrade whose two streams are one pipe that is full, and that nobody reads."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    os.write(writing, b"x" * select.PIPE_BUF)
    command = [str(BIN / "alembic"), "upgrade", "head"]
    how = {"cwd": root, "env": database.environment(), "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(command, stdout=writing, stderr=writing, **how)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        os.close(writing)


@pytest.mark.slow
def test_a_reader_that_has_stopped_keeps_nobody_waiting(database_at_head: Database, project: Project) -> None:
    project.add("005", f"LOCK TABLE public.users; {NOTICES}", after="004")
    with stalled(database_at_head, project.root) as process:
        assert process.wait(60) == 0
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "succeeded")


@pytest.mark.slow
def test_last_words_that_nobody_reads_are_ended_by_a_signal(database_at_head: Database, project: Project) -> None:
    project.add("005", f"LOCK TABLE public.users; {NOTICES}; SELECT 1/0", after="004")
    with stalled(database_at_head, project.root) as process:
        wait_until(lambda: log_of(database_at_head)[-1] == ("005", "upgrade", "failed"))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert database_at_head.value("SELECT count(*) FROM pg_locks WHERE relation = 'public.users'::regclass") == 0
