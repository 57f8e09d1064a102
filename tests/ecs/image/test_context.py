"""The image's tag is the hash of what Docker would be given, and of nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.image.context import files, fingerprint
from tests.projects import ROOT

DOCKERFILE = "Dockerfile.migrate"
TREE = (
    "Dockerfile.migrate", "alembic.ini", "alembic/env.py", "alembic/__pycache__/env.pyc", "alembic/versions/001.py",
    "docs/a.md", "docs/keep/b.md", "secrets.tfvars", "src/deep/er/c.py", "src/d.txt", "x.pyc", "a[1].txt", "é.txt",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_the_same_files_have_the_same_hash_whatever_their_times(root: Path) -> None:
    before = fingerprint(root, DOCKERFILE, "linux/amd64")
    for name in TREE:
        os.utime(root / name, (1, 1))
    assert fingerprint(root, DOCKERFILE, "linux/amd64") == before


def rename(root: Path) -> None:
    (root / "src/d.txt").rename(root / "src/e.txt")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "alembic/versions/001.py").write_text("changed"),
    "Dockerfile": lambda root: (root / DOCKERFILE).write_text("changed"),
    "new file": lambda root: (root / "alembic/versions/002.py").write_text(""),
    "name": rename,
    "executable": lambda root: (root / "alembic/env.py").chmod(0o755),
    "link": lambda root: (root / "link").symlink_to("alembic.ini"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_goes_into_the_image_changes_the_hash(root: Path, change: Callable[[Path], object]) -> None:
    before = fingerprint(root, DOCKERFILE, "linux/amd64")
    change(root)
    assert fingerprint(root, DOCKERFILE, "linux/amd64") != before


def test_a_link_is_not_the_file_that_holds_its_target(root: Path) -> None:
    (root / "x").write_text("alembic.ini")
    as_file = fingerprint(root, DOCKERFILE, "linux/amd64")
    (root / "x").unlink()
    (root / "x").symlink_to("alembic.ini")
    assert fingerprint(root, DOCKERFILE, "linux/amd64") != as_file


def test_the_platform_is_part_of_it(root: Path) -> None:
    assert fingerprint(root, DOCKERFILE, "linux/amd64") != fingerprint(root, DOCKERFILE, "linux/arm64")


IGNORES = {
    "nothing": "",
    "names": "# comment\n\nsecrets.tfvars\n/docs\n",
    "everything but": "*\n!alembic\n!alembic.ini\n!src/deep\n**/__pycache__\n",
    "back again": "docs\n!docs/keep\n",
    "patterns": "**/*.pyc\nsrc/*/er\n?.txt\n",
    "order counts": "!x.pyc\n*.pyc\n!alembic/__pycache__/*.pyc\n",
    "dots and slashes": "./docs/\nsrc/../x.pyc\n",
    "brackets": "a\\[1\\].txt\n[x]*.pyc\n",
    "the Dockerfile itself": "Dockerfile.migrate\n.dockerignore\n",
}


@pytest.mark.docker
@pytest.mark.parametrize("ignore", IGNORES.values(), ids=IGNORES.keys())
def test_the_files_are_those_that_docker_sends(root: Path, ignore: str) -> None:
    (root / ".dockerignore").write_text(ignore)
    (root / DOCKERFILE).write_text("FROM python:3.13-slim-bookworm\nCOPY . /context\n")
    built = subprocess.run(
        ["docker", "build", "--quiet", f"--file={root / DOCKERFILE}", str(root)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    listing = ["find", "/context", "-type", "f", "-printf", "%P\\n"]
    sent = subprocess.run(["docker", "run", "--rm", built.stdout.strip(), *listing], capture_output=True, text=True)
    subprocess.run(["docker", "rmi", "--force", built.stdout.strip()], capture_output=True)
    assert sorted(files(root, DOCKERFILE)) == sorted(sent.stdout.split("\n")[:-1])


def test_what_only_a_checkout_needs_is_not_sent() -> None:
    sent = set(files(ROOT, DOCKERFILE))
    assert (ROOT / "alembic" / "schema.sql").exists()
    assert {"alembic/env.py", "neuraknot_db/settings.py"} <= sent
    assert not {path for path in sent if path.endswith(".sql") or "/dev/" in path}


def test_ignored_folders_are_not_walked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / ".dockerignore").write_text("*\n!alembic\n")
    (root / ".venv").mkdir(mode=0o000)
    walked = [folder for folder, _, _ in os.walk(root)]
    monkeypatch.setattr("launcher.image.context.os.walk", lambda top: _noting(top, seen))
    seen: list[str] = []
    assert set(files(root, DOCKERFILE)) == {name for name in TREE if name.startswith("alembic/")}
    assert len(seen) < len(walked)
    assert not any("docs" in folder for folder in seen)


_walk = os.walk


def _noting(top: Path, seen: list[str]) -> object:
    for entry in _walk(top):
        seen.append(str(entry[0]))
        yield entry
