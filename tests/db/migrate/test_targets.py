"""Where a command leads: a sentence and a hint where it leads nowhere, whichever command it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from launcher.errors import UsageError
from launcher.image import revisions
from launcher.task import command_line
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project
from tests.projects import PROJECT

NOWHERE = {
    # By the target: the sentence, from revision 003.
    "head+1": "There is no revision head+1.",
    "heads+1": "There is no revision heads+1.",
    "base-1": "There is no revision base-1.",
    "004-9": "There is no revision 004-9.",
    "002+7": "There is no revision 002+7.",
    "nope": "There is no revision nope.",
    "00": "There is no revision 00.",
    "current": "There is no revision current.",
    "a@b": "There is no revision",
    "@head": "There is no revision @head.",
    "@": "There is no revision @.",
    "003+1x": "There is no revision 003+1x.",
    "": "No revision is named.",
    " ": "No revision is named.",
}


def let_through(*arguments: str) -> bool:
    """Whether the launcher would start a task for this."""
    try:
        command_line.check(arguments)
        revisions.demand(PROJECT, command_line.revisions(("neuraknot-db", *arguments)))
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("command", ["upgrade", "downgrade", "plan", "stamp"])
def test_a_target_that_is_nowhere(at: Callable[[str], Database], command: str) -> None:
    database = at("003")
    for target, sentence in NOWHERE.items():
        said(database.neuraknot_db(command, target), 2, sentence)
        assert database.value("SELECT version_num FROM alembic_version") == "003"
        assert not let_through(command, target), target


@pytest.mark.parametrize(
    ("command", "target"), [("upgrade", "+7"), ("downgrade", "-7"), ("plan", "+7"), ("plan", "-7")]
)
def test_a_target_that_is_too_far(at: Callable[[str], Database], command: str, target: str) -> None:
    done = at("003").alembic(command, target) if command != "plan" else at("003").neuraknot_db(command, target)
    assert done.code == 2, done.err
    assert f"There is no way to {target} from 003." in done.err
    assert not let_through(command, target)


def test_a_downgrade_forward_is_told_apart(at: Callable[[str], Database]) -> None:
    done = at("002").alembic("downgrade", "head")
    assert done.code == 2
    assert "head is not below 002, where the database is: there is no way back to it." in done.err
    assert "alembic upgrade head" in done.err


@pytest.mark.parametrize(
    ("target", "direction", "ran"),
    [
        ("head", "upgrade", ["003", "004"]),
        ("heads", "upgrade", ["003", "004"]),
        ("head-1", "upgrade", ["003"]),
        ("002+1", "upgrade", ["003"]),
        ("+2", "upgrade", ["003", "004"]),
        ("002", "upgrade", []),
        ("002-1", "downgrade", ["002"]),
        ("base+1", "downgrade", ["002"]),
        ("-2", "downgrade", ["002", "001"]),
        ("base", "downgrade", ["002", "001"]),
    ],
)
def test_plan_leads_where_the_command_does(
    at: Callable[[str], Database], target: str, direction: str, ran: list[str]
) -> None:
    database = at("002")
    plan = json.loads(database.neuraknot_db("plan", "--json", target).out)
    assert (plan["direction"], [each["revision"] for each in plan["revisions"]]) == (direction, ran)
    done = database.neuraknot_db(direction, target, NEURAKNOT_RESULT="json")
    assert done.code == 0, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert (result["ran"], result["after"]) == (ran, plan["target"])
    assert let_through(direction, target)
    assert let_through("plan", target)


NO_RANGES = (":", "::", ":001", "001:", "001:002:003")
NO_REVISIONS = {"": "No revision is named."} | dict.fromkeys(
    ("@", "-99", "+", "nope@head", "nope@-1", "@base", "004@", "head-", ":", "é", "9" * 5000)
)


@pytest.mark.parametrize("command", ["show", "edit", "merge -m x", "revision -m x --head", "lint"])
def test_a_command_without_a_database_knows_what_is_no_revision(
    database: Database, project: Project, command: str
) -> None:
    before = sorted(project.versions.glob("*.py"))
    for text, sentence in NO_REVISIONS.items():
        if (command, text) != ("lint", ":"):
            words = command.split()
            arguments = [*words[:-1], f"--head={text}"] if words[-1] == "--head" else [*words, "--", text]
            said(database.neuraknot_db(*arguments, cwd=project.root), 2, sentence or f"There is no revision {text}.")
    said(database.neuraknot_db("revision", "-m", "x", "--depends-on=base", cwd=project.root), 2, "no revision base.")
    assert sorted(project.versions.glob("*.py")) == before


def test_what_is_no_range_of_revisions_is_told(database: Database) -> None:
    for command, example in (
        ("upgrade --sql", "alembic upgrade base:head --sql"),
        ("downgrade --sql", "alembic downgrade head:base --sql"),
        ("stamp --sql", "alembic stamp base:head --sql"),
    ):
        for text in (*NO_RANGES, *["001"] * command.startswith("down")):
            done = database.neuraknot_db(*command.split(), text)
            assert not let_through(*command.split(), text)
            said(done, 2, f"There is no range of revisions {text}.", example)
    # The plain script reads `A:B:C` before we do.
    for text in NO_RANGES[2:4]:
        said(database.alembic("upgrade", text, "--sql"), 2, f"There is no range of revisions {text}.")
    for start in ("nope", "@", "@base", "-99"):
        done = database.alembic("upgrade", "--sql", "--", f"{start}:head")
        said(done, 2, f"There is no revision {start}.")
        assert done.out == ""
    for text in ("::", "/", "003", "001:002:003", "003@head:", "head:base", "-99:", ":head-9"):
        done = database.neuraknot_db("history", f"-r{text}")
        said(done, 2, f"There is no range of revisions {text}.", "alembic history -r base:head")
    said(database.neuraknot_db("history", "-r@:"), 2, "There is no revision @.")
    said(database.neuraknot_db("lint", "head:base"), 2, "neuraknot-db lint base:head")
    assert database.neuraknot_db("history", "-r-1:").out.startswith("003 -> 004 (head)")


def test_what_is_not_there_is_not_stamped_as_base(at: Callable[[str], Database]) -> None:
    database = at("003")
    for text in ("-99", "nope@-1", "@-1"):
        said(database.neuraknot_db("stamp", "--purge", "--", text), 2, f"There is no revision {text}.")
    assert database.value("SELECT version_num FROM alembic_version") == "003"


def test_two_heads_are_told(database_at_head: Database, project: Project) -> None:
    for revision in ("005", "006"):
        project.add(revision, "SELECT 1", after="004")
    for command in ("upgrade", "plan"):
        done = database_at_head.neuraknot_db(command, "head", cwd=project.root)
        assert (done.code, "There are two heads or more" in done.err) == (2, True)


def test_a_check_away_from_head_says_what_to_type(at: Callable[[str], Database]) -> None:
    database = at("003")
    for program in ("alembic", "neuraknot-db"):
        done = database.program(program, "current", "--check-heads")
        assert done.code == 3
        assert done.err == "Error: The database is not at the newest revision.\nHint: alembic upgrade head\n"
    assert database.alembic("upgrade", "head").code == 0
    assert database.alembic("current", "--check-heads").code == 0


def test_a_range_without_sql_is_told(at: Callable[[str], Database]) -> None:
    done = at("003").neuraknot_db("upgrade", "003:head")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: A range of revisions is for --sql only.")
