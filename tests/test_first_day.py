"""The first day: the README, `make help`, the hooks before a commit, PostgreSQL by compose, what Renovate reads."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
import yaml

from launcher.cli.dependencies import Dependencies
from launcher.cli.main import main
from launcher.rehearsal import stage
from launcher.rehearsal.database import EmbeddedDatabase
from launcher.rehearsal.task import Pace
from tests.db.schemas import old_functions
from tests.projects import PROJECT, ROOT

REVISION = '''"""Notes."""

from alembic import op

revision = "{own}"
down_revision = "004"


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN {column} text")


def downgrade() -> None:
    op.execute("ALTER TABLE users DROP COLUMN {column}")
'''


@pytest.mark.parametrize("name", ["README.md", "README.ja.md"])
def test_the_readme_stays_a_page(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 150


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    """GitHub would not load it."""
    text = (ROOT / "docs" / "rehearse.svg").read_text(encoding="utf-8")
    assert re.findall(r"@font-face|@import|href|url\((?!#)", text) == []


def test_make_help_tells_of_each_target_within_a_terminal() -> None:
    command = ["make", "--no-print-directory", "help"]  # it says where it is when a make runs it
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony
    assert sorted(line.split()[0] for line in told) == sorted(phony[1].split())
    assert [line for line in told if len(line) > 80] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_renovate_understands_how_a_lock_file_is_made(lock: str) -> None:
    """It runs the command in the first lines, if it knows each option and their values stand behind an equals sign."""
    words = re.match(r"(?:#.*\n)+?# {4}(uv pip compile .*)\n", (ROOT / lock).read_text(encoding="utf-8"))
    assert words, "make lock writes those lines"
    names = [word.partition("=")[0] for word in words[1].split()[3:]]
    known = ["pyproject.toml", "--universal", "--python-version", "--generate-hashes", "--extra", "--output-file"]
    assert [name for name in names if name not in known] == []
    assert words[1].endswith(f" --output-file={lock}")


def test_compose_starts_what_contributing_connects_to() -> None:
    server = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["postgres"]
    user, password, name = (server["environment"][f"POSTGRES_{part}"] for part in ("USER", "PASSWORD", "DB"))
    (port,) = server["ports"]
    address = port.removesuffix(":5432")
    assert address.startswith("127.0.0.1:")
    assert f"DATABASE_URL=postgresql://{user}:{password}@{address}/{name}\n" in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.slow
def test_the_hooks_let_no_unsafe_revision_and_no_second_head_into_a_commit(tmp_path: Path) -> None:
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".gitignore").write_text(".venv\n__pycache__\n.ruff_cache\n")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    ours = {"PRE_COMMIT_HOME": str(tmp_path / ".git" / "hooks"), "GIT_CONFIG_GLOBAL": os.devnull}
    names = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(*command: str) -> tuple[int, str]:
        ended = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **ours, **names}, capture_output=True, text=True, check=False
        )
        return ended.returncode, ended.stdout + ended.stderr

    def commit(**revisions: str) -> tuple[int, str]:
        for name, own in revisions.items():
            path = tmp_path / "alembic" / "versions" / f"{own}_{name}.py"
            path.write_text(REVISION.format(own=own, column=name))
        run("git", "add", "--all")
        try:
            return run("git", "commit", "--message", "Try")
        finally:
            run("git", "reset", "--hard")

    run("git", "init", "--quiet")
    assert run(".venv/bin/pre-commit", "install")[0] == 0
    code, said = commit()
    assert code == 0, said
    code, said = commit(notes="005")
    assert (code, "not-measured" in said) == (1, True), said
    code, said = commit(notes="005", hints="005")
    assert (code, "Revision 005 is in two files" in said) == (1, True), said
    code, said = commit(notes="005", hints="006")
    assert (code, "Revision 006 follows 004: its id should be 005" in said) == (1, True), said


@pytest.mark.slow
def test_the_readme_alone_takes_an_old_database_over_migrates_it_and_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    _, taking_over = readme.split("## Taking over")
    back = re.findall(r"^\$ launcher (ecs-migrate .* --rollback)$", readme, re.MULTILINE)
    lines = [*re.findall(r"^\$ launcher (.+)$", taking_over, re.MULTILINE), *back]
    assert [line.split()[0] for line in lines] == ["doctor", "ecs-run", "ecs-run", "ecs-migrate", "ecs-migrate"]

    monkeypatch.setattr(stage, "PACE", Pace(provisioning=0.0, pulling=0.0, deprovisioning=0.0, grace=5.0))
    with (
        tempfile.TemporaryDirectory(prefix="nk-") as scratch,  # a socket's path has 107 characters
        EmbeddedDatabase(Path(sys.executable).parent, Path(scratch) / "pg") as database,
        stage.staged(ROOT, "prod", Path(scratch), database) as set_up,
        closing(psycopg2.connect(host=database.socket, dbname="neuraKnot", user="postgres")) as connection,
    ):
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(old_functions("002"))
        monkeypatch.setenv("NEURAKNOT_TERRAFORM_DIR", str(set_up.directory))
        for line in lines[1:]:  # doctor has something to say of this stack
            with pytest.raises(SystemExit) as ended:
                main(shlex.split(line), replace(Dependencies(), run=set_up.runner, ask=lambda _question: "neuraKnot"))
            assert not ended.value.code, line
        cursor.execute("SELECT version_num FROM alembic_version")
        assert cursor.fetchall() == [("002",)]
