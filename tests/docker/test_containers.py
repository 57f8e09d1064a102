"""The local ECS's real containers: what they are given, how they end, and an image that is not there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.machine.process import run
from launcher.rehearsal.database import EmbeddedDatabase
from launcher.rehearsal.engine import in_containers
from launcher.rehearsal.program import Container, Program, PullError
from tests.docker.conftest import REPOSITORY, docker

HOST = "database.internal"
TASK = "arn:aws:ecs:ap-northeast-1:123456789012:task/cluster/test-containers"
FOREVER = "print('up', flush=True)\nwhile True: pass"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedDatabase]:
    with EmbeddedDatabase(Path(sys.executable).parent, tmp_path_factory.mktemp("pg") / "data") as embedded:
        yield embedded


@pytest.fixture
def start(database: EmbeddedDatabase, image: str) -> Iterator[Callable[..., Program]]:
    """Starts `python -c SOURCE` in a container, as the task definition's other fields have it."""
    begin = in_containers(run, HOST, database)

    def make(source: str, environment: dict[str, str] | None = None, **definition: Any) -> Program:
        definition = {"image": image, "cpu": "256", "memory": "512", **definition}
        return begin(Container(TASK, ("python", "-c", source), environment or {}, time.time(), definition))

    yield make
    docker("rm", "--force", "neuraknot-rehearsal-test-containers", check=False)


def ended(program: Program, *, after: str | None = None) -> tuple[int | None, list[str]]:
    """Wait for a line, or for the end; the code, if there is one, and what was printed."""
    printed: list[str] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        printed += [line for _, line in program.lines(time.time())]
        end = program.ended(time.time())
        if end is not None:
            return end[1], printed
        if after is not None and after in printed:
            return None, printed
    raise AssertionError(f"neither ended nor said so: {printed}")


def test_it_has_fargates_size_and_rights_and_reaches_the_database(start: Callable[..., Program]) -> None:
    source = (
        "import os, psycopg2\n"
        "print(open('/sys/fs/cgroup/memory/memory.limit_in_bytes').read().strip()"
        " if os.path.exists('/sys/fs/cgroup/memory') else open('/sys/fs/cgroup/memory.max').read().strip())\n"
        "print([line.split()[1] for line in open('/proc/1/status') if line.startswith('CapBnd')][0])\n"
        "print(os.getuid(), os.access('/', os.W_OK), os.statvfs('/').f_flag & os.ST_RDONLY)\n"
        "print(psycopg2.connect(host=os.environ['DB_HOST'], user='postgres', dbname='postgres').server_version)\n"
    )
    program = start(
        source,
        {"DB_HOST": HOST},
        readonlyRootFilesystem=True,
        linuxParameters={"capabilities": {"drop": ["ALL"]}},
    )
    code, printed = ended(program)
    assert code == 0, printed
    assert printed[:3] == [str(512 * 1024 * 1024), "0" * 16, "10001 False 1"]
    assert printed[3].startswith("18")


def test_stopping_it_is_sigterm(start: Callable[..., Program]) -> None:
    program = start(FOREVER)
    ended(program, after="up")
    program.terminate(time.time())
    code, _ = ended(program)
    assert code == 143


def test_killing_it_ends_the_container_and_not_only_its_client(start: Callable[..., Program]) -> None:
    program = start(FOREVER)
    ended(program, after="up")
    program.kill(time.time())
    code, _ = ended(program)
    assert code == 137
    assert docker("ps", "--quiet", "--filter=name=neuraknot-rehearsal-test-containers").stdout == ""


def test_an_image_that_is_not_there_keeps_it_from_starting(start: Callable[..., Program]) -> None:
    with pytest.raises(PullError, match=r"manifest unknown|not found"):
        start(FOREVER, image=f"{REPOSITORY}@sha256:{'0' * 64}")
