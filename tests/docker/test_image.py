"""What is in the image, and what is not."""

from __future__ import annotations

import importlib.metadata
import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import Fargate, docker, inspect
from tests.projects import PROJECT, ROOT

PACKAGES = "venv/lib/python3.13/site-packages/"


@pytest.fixture(scope="module")
def tree(image: str) -> Iterator[tarfile.TarFile]:
    """The container's file system."""
    container = docker("create", image).stdout.strip()
    try:
        exported = subprocess.run(["docker", "export", container], capture_output=True, check=True).stdout
    finally:
        docker("rm", container)
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        yield tar


@pytest.fixture(scope="module")
def paths(tree: tarfile.TarFile) -> frozenset[str]:
    """Every path in the container, without a leading slash."""
    return frozenset(tree.getnames())


def test_the_lock_file_is_what_is_installed(paths: frozenset[str]) -> None:
    pinned = re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    wanted = {f"{name.replace('-', '_')}-{version}.dist-info" for name, version in pinned}
    installed = {path.removeprefix(PACKAGES) for path in paths if re.fullmatch(f"{PACKAGES}[^/]*dist-info", path)}
    assert installed == wanted
    assert not {
        path
        for path in paths
        if re.search(r"(?<!venv)/lib/python[^/]*/(site|dist)-packages/.", "/" + path) and not path.startswith(PACKAGES)
    }


def test_everything_of_ours_that_runs_is_there_compiled_and_nothing_else(paths: frozenset[str]) -> None:
    ours = {path for path in paths if path.startswith("app/")}
    sources = {path for path in ours if path.endswith(".py")}
    package = {
        f"app/{path.relative_to(ROOT)}" for path in (ROOT / "neuraknot_db").rglob("*.py") if "dev" not in path.parts
    }
    revisions = {f"app/{path.relative_to(PROJECT)}" for path in (PROJECT / "alembic").rglob("*.py")}
    assert sources == package | revisions | {"app/sitecustomize.py"}
    for source in sources:
        folder, _, name = source.rpartition("/")
        assert f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-313.pyc" in ours
    snapshots = {f"app/{path.relative_to(PROJECT)}" for path in (PROJECT / "alembic" / "snapshots").glob("*.json")}
    assert {path for path in ours if "/snapshots/" in path} == snapshots


@pytest.mark.parametrize("tool", ["pip", "gcc", "cc", "make", "git", "curl", "docker", "aws"])
def test_a_tool_that_only_helps_an_intruder_is_not_there(fargate: Fargate, tool: str) -> None:
    assert fargate.run("sh", "-c", f"command -v {tool}").code == 127


@pytest.mark.parametrize("module", ["pip", "ensurepip.__main__", "setuptools", "boto3", "typer", "launcher", "pytest"])
def test_a_module_that_nothing_needs_is_not_there(fargate: Fargate, module: str) -> None:
    assert "ModuleNotFoundError" in fargate.run("python", "-c", f"import {module}").err
    assert "ModuleNotFoundError" in fargate.run("/usr/local/bin/python", "-c", f"import {module}").err


def test_the_user_is_a_number_and_can_change_nothing(tree: tarfile.TarFile, image: str) -> None:
    assert inspect(image)["Config"]["User"] == "10001:10001"
    ours = [member for member in tree if member.name.split("/")[0] in {"app", "venv"}]
    assert ours
    for member in ours:
        assert (member.uid, member.gid) == (0, 0), member.name
        assert member.issym() or member.mode & 0o022 == 0, member.name
        assert member.issym() or member.mode & 0o444 == 0o444, member.name
    others = [member.name for member in tree if member.mode & 0o002 and member.isreg()]
    assert others == []


def test_the_configuration_names_no_database_and_no_secret(image: str) -> None:
    configured = {entry.partition("=")[0] for entry in inspect(image)["Config"]["Env"]}
    base = {entry.partition("=")[0] for entry in inspect("python:3.13-slim-bookworm")["Config"]["Env"]}
    assert configured - base == {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def test_without_a_command_it_explains_itself(fargate: Fargate) -> None:
    done = fargate.run()
    assert done.code == 0
    assert "usage: neuraknot-db" in done.out


@pytest.mark.parametrize("command", [("alembic", "history"), ("alembic", "heads"), ("neuraknot-db", "list_templates")])
def test_commands_that_need_no_database_work(fargate: Fargate, command: tuple[str, ...]) -> None:
    assert fargate.run(*command).code == 0


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(hadolint), str(ROOT / "Dockerfile.migrate")], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


def test_the_image_takes_what_the_machine_has_installed(paths: frozenset[str]) -> None:
    """The other tests of this checkout were run with the same versions."""
    for name in ("alembic", "SQLAlchemy", "psycopg2-binary"):
        folder = name.lower().replace("-", "_")
        assert f"{PACKAGES}{folder}-{importlib.metadata.version(name)}.dist-info" in paths
