"""A container's exit code 0 is believed of what changes a database only with a report that fits the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.rehearsal import plays
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.program import Script, scripted
from launcher.task.command_line import change, is_plain_upgrade
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Outcome, Stage, make_stage

MOVES = {
    "upgrade": ["ecs-migrate"],
    "reset": ["ecs-migrate", "--reset"],
    "upgrade by ecs-run": ["ecs-run", "--", "upgrade", "head"],
    "upgrade with options": ["ecs-run", "--", "-x", "force=true", "-q", "upgrade", "--tag", "t", "head"],
    "downgrade": ["ecs-run", "--", "-xconfirm=neuraKnot", "downgrade", "-1"],
    "stamp": ["ecs-run", "--", "stamp", "--purge", "003"],
}
CHANGES = {
    "adopt": ["ecs-run", "--", "adopt"],
    "mark": ["ecs-run", "--", "mark", "dev"],
    "create_db": ["ecs-run", "--", "create_db"],
    "ensure_version": ["ecs-run", "--", "ensure_version"],
}
OTHERS = {
    "plan": ["ecs-run", "--", "plan"],
    "current": ["ecs-run", "--", "current"],
    "preview": ["ecs-migrate", "--plan"],
    "SQL": ["ecs-run", "--", "upgrade", "--sql", "head"],
    "SQL, shortened": ["ecs-run", "--", "downgrade", "--sq", "004:003"],
    "help": ["ecs-run", "--", "upgrade", "--help"],
    "help of all": ["ecs-run", "--", "-h", "upgrade", "head"],
    "a word in an option": ["ecs-run", "--", "-x", "confirm=upgrade", "current"],
}
QUIET: dict[str, Any] = {"before": None, "after": None, "ran": []}


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def launched(stage: Stage, report: dict[str, Any] | None, arguments: list[str]) -> Outcome:
    stage.cloud.ecs.start = scripted(Script(lines=plays.BEGINNING, seconds=1.0, report=report))
    return stage.launch(*arguments[:1], "--json", *arguments[1:])


def is_doubted(outcome: Outcome, words: str) -> None:
    assert outcome.code == outcome.json["exit_code"] == 25, outcome.err
    assert outcome.json["verdict"] == "unknown"
    assert outcome.json["message"].startswith("The container ended with 0, but ")
    assert words in outcome.json["message"]
    assert "launcher ecs-run --environment dev -- log" in outcome.json["hint"]
    known = (outcome.json["after"] or "no revision") in outcome.json["hint"]
    assert known or "launcher ecs-run --environment dev -- current" in outcome.json["hint"]
    assert "Done." not in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("arguments", {**MOVES, **CHANGES}.values(), ids={**MOVES, **CHANGES}.keys())
def test_what_changes_a_database_is_believed_with_its_report_only(stage: Stage, arguments: list[str]) -> None:
    assert launched(stage, {}, arguments).code == 0
    is_doubted(launched(stage, None, arguments), "its log ends without its report. So it is not known what became of")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", OTHERS.values(), ids=OTHERS.keys())
def test_what_changes_nothing_is_not_doubted(stage: Stage, arguments: list[str]) -> None:
    assert launched(stage, None, arguments).code == 0
    assert launched(stage, QUIET, arguments).code == 0


@pytest.mark.parametrize("arguments", MOVES.values(), ids=MOVES.keys())
@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({"after": "002", "target": "004"}, "the database is at 002, and the"),
        ({"after": None, "target": "004"}, "the database is at no revision, and the"),
        ({"after": "001", "target": None}, "was to take it to no revision."),
        ({"after": "003", "target": "003, 005"}, "was to take it to 003, 005."),
        ({"command": "plan"}, "its report is of plan, not of the"),
        ({"command": None}, "its report is of no command"),
        ({"outcome": "unknown", "after": None}, "it says itself that the outcome is not known"),
        ({"outcome": "failed", "error": "no"}, "it reports failed: no"),
        ({"exit_code": 7}, "it reports the exit code 7."),
    ],
)
def test_a_report_that_does_not_fit_is_doubted(
    stage: Stage, arguments: list[str], report: dict[str, Any], words: str
) -> None:
    is_doubted(launched(stage, report, arguments), words)


@pytest.mark.slow
def test_two_heads_are_the_same_in_any_order(stage: Stage) -> None:
    report = {"after": "005, 003", "target": "003, 005"}
    assert launched(stage, report, ["ecs-run", "--", "upgrade", "heads"]).code == 0


def test_an_outcome_that_the_container_does_not_know_is_no_success_of_any_command(stage: Stage) -> None:
    is_doubted(launched(stage, {"outcome": "unknown"}, ["ecs-run", "--", "verify"]), "the outcome is not known")


@pytest.mark.parametrize("code", [6, 143])
def test_nor_does_a_failure_say_what_became_of_the_database(stage: Stage, code: int) -> None:
    error = "the answer to COMMIT was lost"
    script = Script(seconds=1.0, exit_code=code, error=error, report={"outcome": "unknown", "after": None})
    stage.cloud.ecs.start = scripted(script)
    outcome = stage.launch("ecs-migrate", "--json")
    assert (outcome.code, outcome.json["exit_code"], outcome.json["verdict"]) == (code, code, "unknown")
    assert outcome.json["message"] == f"The container ended with {code}: {error}"
    assert "-- current" in outcome.json["hint"]


@pytest.mark.parametrize(
    ("arguments", "after", "code"),
    [
        (["ecs-migrate"], "004", 0),
        (["ecs-migrate"], "001", 0),
        (["ecs-migrate"], None, 25),
        (["ecs-migrate", "--reset"], None, 25),
        (["ecs-run", "--", "downgrade", "base"], None, 0),
        (["ecs-run", "--", "stamp", "base"], None, 0),
    ],
)
def test_an_older_image_that_names_no_target(stage: Stage, arguments: list[str], after: str | None, code: int) -> None:
    script = Script(lines=plays.BEGINNING, seconds=1.0, report={"after": after}, names_target=False)
    stage.cloud.ecs.start = scripted(script)
    assert stage.launch(*arguments[:1], "--json", *arguments[1:]).code == code


def test_where_the_log_may_not_be_read_that_is_why(stage: Stage) -> None:
    def refuse(call: Call) -> None:
        if call.operation == "GetLogEvents":
            raise Refusal("AccessDeniedException", "not you")

    stage.cloud.server.faults.append(refuse)
    is_doubted(launched(stage, {}, ["ecs-migrate"]), "may not be read. The caller may not do logs:GetLogEvents")


@pytest.mark.slow
def test_where_the_log_ends_early_that_is_why(stage: Stage) -> None:
    def throttle(call: Call) -> None:
        over = any(task.container_ended for task in stage.cloud.ecs.tasks.values())
        if call.operation == "GetLogEvents" and over:
            raise Refusal("ThrottlingException", "Rate exceeded")

    stage.cloud.server.faults.append(throttle)
    is_doubted(launched(stage, {}, ["ecs-migrate"]), "could not be read to the end. AWS can't serve logs:GetLogEvents")


def test_a_report_that_comes_late_is_waited_for(stage: Stage) -> None:
    plays.logging(delay=20.0)(plays.Scene(stage.cloud, stage.terraform, stage.runner, stage.runner))  # type: ignore[arg-type]
    assert launched(stage, {}, ["ecs-migrate"]).code == 0


@pytest.mark.slow
def test_who_follows_the_task_later_doubts_it_too(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=plays.BEGINNING, seconds=1.0, report=None))
    assert stage.launch("ecs-migrate", "--detach").code == 0
    is_doubted(stage.launch("logs", "--follow", "--json"), "its log ends without its report")


@pytest.mark.slow
def test_a_zero_after_the_time_was_over_is_doubted_all_the_same(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=5.0, heeds_sigterm=False, report=None))
    is_doubted(stage.launch("ecs-migrate", "--timeout", "3s", "--json"), "its log ends without its report")


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("alembic upgrade head", "upgrade"),
        ("alembic -x a=b --raiseerr -c alembic.ini upgrade +1", "upgrade"),
        ("alembic -qxforce=true upgrade head", "upgrade"),
        ("neuraknot-db downgrade -1", "downgrade"),
        ("neuraknot-db stamp --purge heads", "stamp"),
        ("neuraknot-db reset --confirm neuraKnot --environment prod", "reset"),
        ("neuraknot-db adopt --replace-functions", "adopt"),
        ("neuraknot-db mark prod", "mark"),
        ("neuraknot-db create_db", "create_db"),
        ("alembic ensure_version", "ensure_version"),
        ("alembic upgrade head --sql", None),
        ("alembic --version upgrade head", None),
        ("alembic history", None),
        ("alembic -x", None),
        ("alembic", None),
        ("", None),
    ],
)
def test_what_a_command_line_changes(line: str, changed: str | None) -> None:
    assert change(line.split()) == changed


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("alembic upgrade head", True),
        ("neuraknot-db upgrade 003", True),
        ("alembic upgrade +1", False),
        ("alembic upgrade head --sql", False),
        ("alembic -x force=true upgrade head", False),
        ("neuraknot-db downgrade -1", False),
        ("neuraknot-db plan 003", False),
    ],
)
def test_which_upgrade_finds_nothing_to_do_the_second_time(line: str, plain: bool) -> None:
    assert is_plain_upgrade(line.split()) == plain
