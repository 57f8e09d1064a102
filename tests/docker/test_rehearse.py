"""`launcher rehearse --docker`: the whole pipeline with the real image, twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.image.tag import content_tag
from tests.docker.conftest import PLATFORM, docker
from tests.projects import REVISIONS

RAN = f"at revision {REVISIONS[-1]}; {', '.join(REVISIONS)} ran"


def rehearse(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", "rehearse", "--docker", f"--root={root}", *arguments]
    environment = {**os.environ, "TF_CLI_CONFIG_FILE": "/dev/null"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def events(since: float) -> str:
    """The images that were tagged or pushed since then, as the engine tells it."""
    span = (f"--since={since:.3f}", f"--until={time.time():.3f}")
    return docker("events", *span, "--filter=event=push", "--filter=event=tag", "--format={{json .}}").stdout


def test_the_second_rehearsal_builds_nothing(real_sources: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(real_sources, root)
    with (root / "alembic.ini").open("a") as file:
        file.write(f"\n# {os.urandom(8).hex()}\n")  # a tag that no earlier run has left in the registry
    started = time.time()
    first = rehearse(root)
    assert first.returncode == 0, first.stderr
    assert re.search(r"content-\w+ is pushed", first.stderr)
    assert RAN in first.stderr
    assert "ai_chat_sessions" in first.stdout
    assert content_tag(root, PLATFORM) in events(since=started)
    between = time.time()
    second = rehearse(root)
    assert second.returncode == 0, second.stderr
    assert " is pushed" not in second.stderr
    assert RAN in second.stderr
    assert content_tag(root, PLATFORM) not in events(since=between)
    assert docker("ps", "--all", "--quiet", "--filter=name=neuraknot-rehearsal").stdout == ""


def test_failures_are_played_without_docker(sources: Path) -> None:
    done = rehearse(sources, "--fail", "cannot-pull")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_without_an_engine_there_is_nothing_to_rehearse_with(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    done = rehearse(sources)
    assert done.returncode == 22
    assert "Docker is not running" in done.stderr
