"""A launcher that is killed stops nothing any more: its task ends by itself, and the next run goes through."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.image.tag import content_tag
from launcher.models import DEADLINE
from launcher.rehearsal.database import EmbeddedDatabase
from launcher.rehearsal.stage import Stage, staged
from launcher.rehearsal.stand_in_docker import digest_of
from tests.db.conftest import Database, Project
from tests.db.forking import BIN
from tests.db.running import log_of, wait_until
from tests.projects import PROJECT

SOON = "from launcher import models; models.STARTING = 2.0; from launcher.__main__ import main; main()"
"""The launcher, which adds 2 s and not 2 min to the timeout of a run."""

ENDED = 15.0
"""Seconds: five until a process ends itself, and what a busy machine adds."""


@pytest.fixture
def place(project: Project) -> Iterator[tuple[Stage, Database]]:
    (project.root / "Dockerfile.migrate").write_text("FROM scratch\n")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nk-")))  # short, for a socket's path
        database = stack.enter_context(EmbeddedDatabase(BIN, scratch / "pg"))
        stage = stack.enter_context(staged(project.root, "dev", scratch, database))
        yield stage, Database(database.socket, 5432, "neuraKnot", "18")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copy(PROJECT / "alembic.ini", tmp_path)
    shutil.copytree(PROJECT / "alembic", tmp_path / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    return Project(tmp_path)


def launcher(stage: Stage, root: Path, *arguments: str) -> subprocess.Popen[str]:
    where = {"NEURAKNOT_ROOT": str(root), "NEURAKNOT_TERRAFORM_DIR": str(stage.directory)}
    command = [sys.executable, "-c", SOON, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, **where}, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def push(stage: Stage, root: Path) -> None:
    tag = content_tag(root, "linux/amd64")
    stage.cloud.stack.put_image(tag, digest_of(tag))


@pytest.mark.slow
def test_its_task_is_over_at_the_deadline_and_the_next_run_goes_through(
    place: tuple[Stage, Database], project: Project
) -> None:
    stage, database = place
    project.add("005", "CREATE TABLE public.five (); SELECT pg_sleep(600)", after="004")
    push(stage, project.root)
    killed = launcher(stage, project.root, "ecs-migrate", "--timeout", "10s")
    try:
        wait_until(lambda: database.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == 1)
    finally:
        killed.kill()
        killed.communicate()
    (task,) = stage.cloud.ecs.tasks.values()
    (override,) = task.request["overrides"]["containerOverrides"]
    (deadline,) = (int(each["value"]) for each in override["environment"] if each["name"] == DEADLINE)
    alive, _ = launcher(stage, project.root, "status", "--json").communicate()
    assert [each["deadline"] for each in json.loads(alive)["alive"]] == [deadline]

    wait_until(lambda: task.status == "STOPPED", seconds=60)
    assert task.exit_code == 24
    assert task.container_ended is not None
    assert -1 < task.container_ended - deadline < ENDED
    assert "StopTask" not in [call.operation for call in stage.cloud.server.calls]
    assert database.run("SELECT version_num, to_regclass('public.five') FROM alembic_version") == [("004", None)]
    assert log_of(database)[-1] == ("005", "upgrade", "interrupted")

    late = launcher(stage, project.root, "logs", "--json", "--follow", task.id)
    result = json.loads(late.communicate()[0])
    assert (late.returncode, result["verdict"], result["after"]) == (24, "timed_out", "004")
    assert "UTC passed; revision 005 was rolled back." in result["message"]
    assert "What was run: launcher ecs-run --environment dev -- log" in result["hint"]
    assert result["hint"].endswith("launcher ecs-migrate --environment dev --timeout 1m")

    project.add("005", "CREATE TABLE public.five ()", after="004")
    push(stage, project.root)
    again = launcher(stage, project.root, "ecs-migrate", "--timeout", "5m")
    _, said = again.communicate()
    assert again.returncode == 0, said
    assert database.run("SELECT version_num, to_regclass('public.five')::text FROM alembic_version") == [
        ("005", "five")
    ]
