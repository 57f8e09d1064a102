"""Servers that speak Japanese, and databases, shells and roles with an encoding of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project, Server, running_15
from tests.db.measuring import measured

COMMENT = "SELECT obj_description('public.users'::regclass)"


@pytest.fixture(scope="module")
def japanese() -> Iterator[Server]:
    """A server whose own encoding is none, and whose messages are translated."""
    with running_15("-E", "SQL_ASCII", "--locale=C.utf8", LANGUAGE="ja") as server:
        yield server


@pytest.mark.slow
def test_a_database_is_made_in_utf8_whatever_the_server_says_and_is_made_of(japanese: Server) -> None:
    new = japanese.database("made")
    for words in ("created the database made\n", "the database made exists\n"):
        done = new.neuraknot_db("create_db")
        assert (done.code, done.err) == (0, words)
    assert new.value("SHOW server_encoding") == "UTF8"
    done = new.alembic("upgrade", "head", NEURAKNOT_ENV="prod")
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize("role", ["postgres", "nobody_there"])
def test_a_login_that_is_refused_in_japanese_is_not_taken_for_a_server_that_is_not_there(
    japanese: Server, role: str
) -> None:
    done = japanese.database("nowhere").as_user(role).alembic("current")
    said(done, 6, f"{japanese.database('nowhere').name} on ", "refused the login")
    assert "can't be reached" not in done.err
    if "存在しません" not in done.err:
        pytest.skip("PostgreSQL 15's translations are not installed")


def test_a_database_without_an_encoding_takes_the_revisions(japanese: Server) -> None:
    japanese.database("postgres").run("CREATE DATABASE raw")
    raw = japanese.database("raw")
    done = raw.alembic("upgrade", "head", NEURAKNOT_ENV="prod")
    assert done.code == 0, done.err
    assert raw.neuraknot_db("verify").code == 0


def encoded(database: Database, how: str) -> dict[str, str]:
    if how == "shell":
        return {"PGCLIENTENCODING": "LATIN1"}
    database.run(f"ALTER DATABASE \"{database.name}\" SET client_encoding = '{how}'")
    return {}


@pytest.mark.parametrize("how", ["shell", "SQL_ASCII", "LATIN1"])
def test_no_encoding_of_the_client_reaches_the_revisions(database: Database, project: Project, how: str) -> None:
    environ = encoded(database, how)
    project.add("005", "SET client_encoding = 'LATIN1'; SET SESSION application_name = 'x'", after="004")
    project.add("006", "COMMENT ON TABLE public.users IS '利用者'", after="005")
    done = database.alembic("upgrade", "head", cwd=project.root, **environ)
    assert done.code == 0, done.err
    assert database.value(f"SELECT encode(convert_to(({COMMENT}), 'UTF8'), 'hex')") == "利用者".encode().hex()


def test_a_database_that_can_not_hold_the_text_is_blamed_not_the_file(
    server: Server, new_database: Callable[..., Database], project: Project
) -> None:
    latin = server.database(f"latin_{server.version}")
    server.database("postgres").run(
        f"CREATE DATABASE {latin.name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
    )
    try:
        project.add("000", "COMMENT ON SCHEMA public IS '会話'", after="none")
        path = project.versions / "000_added.py"
        path.write_text(path.read_text(encoding="utf-8").replace("'none'", "None"), encoding="utf-8")
        for each in project.versions.glob("00[1-4]_*.py"):
            each.unlink()
        done = latin.alembic("upgrade", "head", cwd=project.root)
        said(done, 7, "LATIN1", "The database can't store that text")
        assert "Correct" not in done.err
    finally:
        server.database("postgres").run(f"DROP DATABASE {latin.name}")


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["ascii", "latin-1"])
def test_a_shell_of_another_encoding_breaks_no_output(database_at_head: Database, project: Project, shell: str) -> None:
    project.add("005", "COMMENT ON TABLE public.users IS '利用者'", after="004")
    measured(project.root, database_at_head)
    environ = {"cwd": project.root, "PYTHONIOENCODING": shell}
    for command in (["plan"], ["plan", "base"]):
        done = database_at_head.neuraknot_db(*command, **environ)  # type: ignore[arg-type]
        assert done.code == 0, done.err
    done = database_at_head.neuraknot_db("plan", "--json", **environ)  # type: ignore[arg-type]
    assert "利用者" in str(json.loads(done.out))
    for program in ("alembic", "neuraknot-db"):
        done = database_at_head.program(program, "upgrade", "004:head", "--sql", **environ)  # type: ignore[arg-type]
        assert (done.code, "IS '利用者'" in done.out) == (0, True), done.err
