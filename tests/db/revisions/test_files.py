"""Files among the revisions that can't be read: each is named, with its cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from neuraknot_db.errors import MigrationFailedError
from neuraknot_db.revisions import files
from tests.db.cli.test_bad_input import said, without_database
from tests.db.conftest import Project

UNREADABLE: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a NUL byte": (
        lambda path: path.write_bytes(b'"""x"""\nrevision = "005"\n\0\n'),
        ("null bytes", "Take the NUL bytes out of it"),
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


HEADERS = {
    # What stands in 005 and 006 instead of their down_revision and depends_on: what is told.
    "a dependency that no file has": ("'004'", "'xyz'", "'005'", "it names xyz, which no file has"),
    "one of two": ("'004'", "('001', 'xyz')", "'005'", "it names xyz, which no file has"),
    "a circle": ("'006'", "None", "'005'", "005 and 006 name each other, in a circle"),
    "a circle with a dependency": ("'004'", "'006'", "'005'", "005 and 006 name each other, in a circle"),
    "itself": ("'005'", "None", "'005'", "Self-loop is detected in revisions (005)"),
    "a number": ("4", "None", "'005'", "its down_revision is 4, which is no string"),
    "a dependency that is a number": ("'004'", "5", "'005'", "its depends_on is 5, which is no string"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_leads_nowhere_is_named_with_its_file(project: Project, what: str) -> None:
    down_revision, depends_on, next_down, words = HEADERS[what]
    for revision, down, needed in (("005", down_revision, depends_on), ("006", next_down, "None")):
        path = project.add(revision, "SELECT 1", after="004", extra=f"depends_on = {needed}")
        path.write_text(re.sub("down_revision = .*", f"down_revision = {down}", path.read_text()))
    with pytest.raises(MigrationFailedError) as caught:
        files.load(ScriptDirectory(str(project.root / "alembic")))
    assert words in caught.value.message
    assert "alembic/versions/005_added.py" in (caught.value.hint or "")


def test_labels_are_strings_of_one_revision_each(project: Project) -> None:
    for labels, words in (("('001',)", "already used"), ("5", "its branch_labels is 5, which is no string")):
        project.add("005", "SELECT 1", after="004", extra=f"branch_labels = {labels}")
        said(without_database("neuraknot-db", "heads", cwd=project.root), 7, "alembic/versions/005_added.py", words)


def test_a_name_with_a_line_break_is_told_in_one_sentence(project: Project) -> None:
    path = project.add("005", "SELECT 1", after="004")
    path.rename(path.with_name("00\n::error::5.py"))
    done = without_database("neuraknot-db", "heads", cwd=project.root)
    said(done, 7, "5.py can't be read as a revision: its name holds a line break.")
