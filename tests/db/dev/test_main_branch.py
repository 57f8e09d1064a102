"""Which revisions are new since the main branch: git knows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from neuraknot_db.dev.main_branch import names, new_revisions
from tests.db.conftest import Project


def git(project: Project, *arguments: str) -> None:
    who = ("-c", "user.name=me", "-c", "user.email=me@example.jp", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *who, *arguments], cwd=project.root, check=True, capture_output=True)


@pytest.fixture
def merged(project: Project) -> Project:
    """A project whose four revisions are on the main branch."""
    git(project, "init")
    git(project, "add", "--all")
    git(project, "commit", "-m", "All")
    return project


def new(project: Project, behind: str | None = None) -> tuple[list[str], str]:
    found, why = new_revisions(ScriptDirectory(str(project.root / "alembic")), behind)
    return [each.revision for each in found], why


def test_new_are_those_that_were_added_or_edited_on_the_branch_committed_or_not(merged: Project) -> None:
    git(merged, "switch", "-c", "mine")
    merged.add("005", "SELECT 1", after="004")
    git(merged, "add", "--all")
    git(merged, "commit", "-m", "Mine")
    merged.add("006", "SELECT 1", after="005")
    [edited] = merged.versions.glob("004_*.py")
    edited.write_text(edited.read_text() + "\n# edited\n")
    assert new(merged) == (["004", "005", "006"], "new since main")
    assert edited.name in names(merged.versions)
    assert "005_added.py" not in names(merged.versions)


def test_what_was_merged_meanwhile_is_not_new(merged: Project) -> None:
    git(merged, "switch", "-c", "mine")
    merged.add("005", "SELECT 1", after="004")
    git(merged, "add", "--all")
    git(merged, "commit", "-m", "Mine")
    git(merged, "switch", "main")
    (merged.root / "other.txt").write_text("of another branch")
    git(merged, "add", "--all")
    git(merged, "commit", "-m", "Theirs")
    git(merged, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(merged, "switch", "mine")
    assert new(merged) == (["005"], "new since origin/main")


def test_without_a_new_one_or_without_git_it_is_all(merged: Project, tmp_path: Path) -> None:
    every = ["001", "002", "003", "004"]
    assert new(merged) == (every, "all revisions: none is new since main")
    assert new(merged, "003") == (["004"], "those after 003: none is new since main")
    assert new(merged, "of another project") == (every, "all revisions: none is new since main")
    git(merged, "switch", "--orphan", "shallow")
    git(merged, "checkout", "main", ".")
    git(merged, "commit", "-m", "As a clone without history has it")
    assert new(merged) == (every, "all revisions: git knows of no commit that main has too here")
    git(merged, "switch", "main")
    git(merged, "branch", "-m", "trunk")
    assert new(merged) == (every, "all revisions: git knows of no main branch here")
    (tmp_path / ".git").rename(tmp_path / "not-git")
    assert new(merged) == (every, "all revisions: git knows of no main branch here")
    assert "001_initial_schema.py" not in names(merged.versions)
