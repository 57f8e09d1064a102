"""The revisions of this project itself, whichever they are by now: held to rules, not to numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from neuraknot_db.revisions.checksum import checksum
from tests.db.conftest import Database
from tests.db.running import log_of
from tests.projects import PROJECT, REVISIONS, ROOT

REAL, OURS = (ScriptDirectory(str(root / "alembic")) for root in (ROOT, PROJECT))


@pytest.mark.slow
def test_they_go_up_back_and_up_again(database: Database) -> None:
    for target in ("head", "base", "head"):
        done = database.alembic("upgrade" if target == "head" else "downgrade", target, cwd=ROOT)
        assert done.code == 0, done.err
    assert [row[0] for row in log_of(database)] == [*REVISIONS, *reversed(REVISIONS), *REVISIONS]
    done = database.neuraknot_db("verify", cwd=ROOT)
    assert done.code == 0, done.err
    assert done.out.startswith(f"revision {REVISIONS[-1]}: ")


@pytest.mark.slow
def test_they_are_reset_in_one_transaction(at: Callable[[str], Database]) -> None:
    database = at("001")  # what it holds need not be at this project's head
    done = database.neuraknot_db("reset", "--confirm", database.name, cwd=ROOT)
    assert done.code == 0, done.err
    assert database.neuraknot_db("verify", cwd=ROOT).code == 0


@pytest.mark.parametrize("command", [("lint",), ("snapshot", "--check")], ids=" ".join)
def test_they_are_clean_and_what_is_made_of_them_is_fresh(database: Database, command: tuple[str, ...]) -> None:
    done = database.neuraknot_db(*command, cwd=ROOT)
    assert done.code == 0, done.out + done.err


def test_each_is_in_one_line_with_the_next() -> None:
    assert [REAL.get_revision(revision).down_revision for revision in REVISIONS] == [None, *REVISIONS[:-1]]


def test_those_that_the_tests_have_a_copy_of_do_what_the_copy_does() -> None:
    """They were applied: what `tests/project` proves of them holds for the real ones."""
    for ours in OURS.walk_revisions():
        one, other = (Path(found.path).read_bytes() for found in (ours, REAL.get_revision(ours.revision)))
        assert checksum(one) == checksum(other), ours.revision
