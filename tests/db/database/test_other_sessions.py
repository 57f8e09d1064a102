"""What others wrote (queries, names, notices) is shown, and does nothing to the terminal or to GitHub Actions."""

from __future__ import annotations

import json

import pytest

from tests.db.conftest import Database, Project
from tests.db.running import held

EVIL = "\x1b[2J\x1b]0;title\x07\u202egnp.exe\x9b31m"
BRISK = {"NEURAKNOT_LOCK_TIMEOUT": "300ms", "NEURAKNOT_LOCK_TRIES": "2", "NEURAKNOT_LOCK_PAUSE": "100ms"}


def harmless(text: str) -> bool:
    return all(each.isprintable() or each in "\t\n" for each in text)


@pytest.mark.slow
def test_a_query_of_somebody_elses_moves_no_cursor(database_at_head: Database, project: Project) -> None:
    project.add("005", "ALTER TABLE public.users ADD COLUMN note text", after="004")
    name = EVIL.replace("\x9b", "")
    with held(database_at_head, f'SELECT 1 AS "{name}" FROM public.users', application=name.replace("\u202e", "")):
        told = [
            database_at_head.neuraknot_db("plan", cwd=project.root),
            database_at_head.neuraknot_db("plan", "--json", cwd=project.root),
            database_at_head.alembic("upgrade", "head", cwd=project.root, **BRISK),
        ]
    assert [each.code for each in told] == [0, 0, 4]
    assert "gnp.exe" in told[-1].err
    for each in told:
        assert harmless(each.out), each.out
        assert harmless(each.err), each.err
    json.loads(told[1].out)


@pytest.mark.parametrize("how", ["notice", "print", "exception"])
@pytest.mark.parametrize("program", ["alembic", "neuraknot-db"])
def test_what_a_revision_says_moves_no_cursor_and_is_no_command(
    database_at_head: Database, project: Project, how: str, program: str
) -> None:
    words = f"{EVIL}\n::error::b\n  ::set-env name=PATH::/evil\n##[error]x"
    path = project.add("005", "SELECT 1", after="004")
    code = {
        "notice": f"op.execute({f'DO $$BEGIN RAISE NOTICE {chr(39)}{words}{chr(39)}; END$$'!r})",
        "print": f"print({words!r})",
        "exception": f"raise ValueError({words!r})",
    }[how]
    path.write_text(path.read_text().replace("    op.execute('SELECT 1')\n", f"    {code}\n", 1))
    done = database_at_head.program(program, "upgrade", "head", cwd=project.root, GITHUB_ACTIONS="true")
    assert done.code == (7 if how == "exception" else 0), done.err
    shown = done.out + done.err
    assert "[2J" in shown
    assert harmless(shown), shown
    assert not [line for line in shown.splitlines() if line.strip().startswith("::")]
    assert "##[" not in shown


def test_the_name_of_an_environment_is_what_can_be_typed(database: Database) -> None:
    for name in ("\x1b[31mstaging\n::error::b", "::error::b", "a/b"):
        done = database.alembic("upgrade", "head", NEURAKNOT_ENV=name, GITHUB_ACTIONS="true")
        assert (done.code, harmless(done.err)) == (2, True), done.err
        assert "which is not a valid environment name.\nHint: " in done.err
    for argument in ("a\n::error::b", "\x1b[2J", "\u202e"):
        done = database.neuraknot_db("mark", argument)
        assert (done.code, harmless(done.err)) == (2, True)


def test_json_keeps_what_it_escapes(database_at_head: Database, project: Project) -> None:
    project.add("005", "SELECT 1/0", after="004")
    path = project.versions / "005_added.py"
    path.write_text(path.read_text().replace("op.execute('SELECT 1/0')", f"raise ValueError({EVIL!r})"))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 7
    done = database_at_head.neuraknot_db("log", "--json")
    assert harmless(done.out)
    assert EVIL in json.loads(done.out)[-1]["error"]
