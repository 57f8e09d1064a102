"""Files among the revisions that can't be read: each is named, with its cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.db.cli.test_bad_input import said, without_database
from tests.db.conftest import Project

UNREADABLE: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a NUL byte": (
        lambda path: path.write_bytes(b'"""x"""\nrevision = "005"\n\0\n'),
        ("null bytes", "Save it as UTF-8"),
    ),
    "UTF-16": (lambda path: path.write_text('revision = "005"\n', encoding="utf-16"), ("005_added.py",)),
    "Latin-1": (lambda path: path.write_bytes(b'"""caf\xe9"""\n'), ("line 1",)),
    "a syntax error": (lambda path: path.write_text("revision = \n"), ("SyntaxError", "line 1")),
    "nothing": (lambda path: path.write_text(""), ("it holds no `revision = ...`",)),
    "a KeyError": (lambda path: path.write_text("x = {}['nothing']\n"), ("KeyError", "line 1")),
    "no down_revision": (lambda path: path.write_text('revision = "005"\n'), ("has no attribute 'down_revision'",)),
    "a link that leads nowhere": (lambda path: path.symlink_to("/nowhere"), ("it is a link that leads nowhere",)),
    "a folder": (lambda path: path.mkdir(), ("it is a folder",)),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_can_not_be_read_is_named(project: Project, what: str) -> None:
    make, words = UNREADABLE[what]
    make(project.versions / "005_added.py")
    done = without_database("neuraknot-db", "heads", cwd=project.root)
    said(done, 7, "alembic/versions/005_added.py", *words)


def test_a_name_in_capitals_is_named(project: Project) -> None:
    (project.versions / "005_ADDED.PY").write_text("")
    done = without_database("neuraknot-db", "heads", cwd=project.root)
    said(done, 7, "005_ADDED.PY can't be read as a revision: its name does not end with .py.")


def test_a_link_to_a_file_elsewhere_is_a_revision(project: Project, tmp_path: Path) -> None:
    path = project.add("005", "SELECT 1", after="004")
    path.rename(tmp_path / "elsewhere.py")
    path.symlink_to(tmp_path / "elsewhere.py")
    assert without_database("neuraknot-db", "heads", cwd=project.root).out == "005 (head)\n"


def test_a_revision_without_a_function_is_no_defect_of_ours(project: Project) -> None:
    path = project.add("005", "SELECT 1", after="004")
    path.write_text(path.read_text().replace("def upgrade", "def upgarde"))
    done = without_database("neuraknot-db", "upgrade", "004:005", "--sql", cwd=project.root)
    said(done, 7, "has no attribute 'upgrade'", "Write it as `def upgrade() -> None:` in its file.")
