"""`ecs-migrate --rollback`: a task that reads says which run, a person says yes, and one more task goes back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from launcher.rehearsal.program import Container, Program, Script, ScriptedProgram
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launch.test_migrate import in_github
from tests.ecs.launching import Stage, make_stage
from tests.ecs.task.test_watching import at, send

FOUND: dict[str, Any] = {
    "run": {
        "run": "6f1c0000-0000-0000-0000-000000000000",
        "began": "2026-11-27T16:00:00+00:00",
        "by": "hanako",
        "host": "laptop",
        "task_arn": None,
    },
    "told": "upgrade of 2026-11-27 16:00:00 UTC by hanako on laptop",
    "from": "004",
    "to": "002",
    "revisions": ["004", "003"],
    "losses": [
        {"revision": "003", "phrase": "values of users.avatar_url", "rows": 1200, "unknown": None},
        {"revision": "003", "phrase": "rows of b", "rows": None, "unknown": "its query gives no number"},
    ],
}
LOOKS = "neuraknot-db plan --rollback --count"
GOES = "alembic -x confirm=neuraKnot -x from=004 downgrade 002"
TOLD = [
    "   Run       upgrade of 2026-11-27 16:00:00 UTC by hanako on laptop",
    "   Back      from 004 to 002: 004, 003",
    "   Loses     1,200 values of users.avatar_url (003)",
    "   Loses     an unknown number of rows of b (003)",
]


def containers(looking: Mapping[str, Any] | None = None, going: Script | None = None) -> Callable[[Container], Program]:
    """What containers do: `looking` has what differs of the first one's report."""

    def start(container: Container) -> Program:
        report = {"before": "004", "after": "004", "ran": [], "rollback": FOUND, **(looking or {})}
        look = Script(lines=((0.5, "2 revisions from 004 back to 002"),), report=report)
        go = going or Script(report={"ran": ["004", "003"]})
        return ScriptedProgram(look if "--rollback" in container.command else go, container.started, container)

    return start


MakeStage = Callable[..., Stage]


@pytest.fixture
def make(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> MakeStage:
    def make(environment: str = "prod", **how: Any) -> Stage:
        return make_stage(make_cloud(start=containers(**how), environment=environment), clock, tmp_path)

    return make


def commands(stage: Stage) -> list[str]:
    """What the containers ran, in order."""
    calls = [call.parameters for call in stage.cloud.server.calls if call.operation == "RunTask"]
    return [" ".join(each["overrides"]["containerOverrides"][0]["command"]) for each in calls]


def images(stage: Stage) -> set[str]:
    """The task definitions that were used."""
    calls = [call.parameters for call in stage.cloud.server.calls if call.operation == "RunTask"]
    return {each["taskDefinition"] for each in calls}


@pytest.mark.slow
def test_production_is_shown_what_goes_asked_and_kept_in_a_snapshot_first(make: MakeStage) -> None:
    stage, asked = make(), list[str]()

    def ask(question: str) -> str:
        asked.append(question)
        assert commands(stage) == [LOOKS]
        assert "CreateDBSnapshot" not in stage.actions
        return "neuraKnot"

    outcome = stage.launch("ecs-migrate", "--rollback", ask=ask)
    assert outcome.code == 0, outcome.err
    assert asked == ["This takes prod back. Type the name of the database (neuraKnot) to go back: "]
    assert commands(stage) == [LOOKS, GOES]
    assert len(images(stage)) == 1
    last = len(stage.actions) - 1 - stage.actions[::-1].index("RunTask")
    assert stage.actions.index("RunTask") < stage.actions.index("CreateDBSnapshot") < last
    lines = outcome.err.splitlines()
    assert [line for line in lines if line in TOLD] == [*TOLD, *TOLD]  # before the question, and in the end
    steps = [line[3:6] for line in lines if line.startswith(" ✓")]
    assert steps == ["1/8", "2/8", *["  +"] * 7, *[f"{number}/8" for number in range(3, 9)]]
    assert lines[-1] == "Done. prod is at revision 002; 004, 003 taken back."


@pytest.mark.slow
def test_elsewhere_nobody_is_asked_and_json_tells_all(make: MakeStage) -> None:
    stage = make("dev")
    outcome = stage.launch("ecs-migrate", "--rollback", "--json")
    assert outcome.code == 0, outcome.err
    assert commands(stage) == [LOOKS, "alembic -x from=004 downgrade 002"]
    assert "CreateDBSnapshot" not in stage.actions
    told = outcome.json
    assert (told["rollback"], told["after"], told["ran"]) == (FOUND, "002", ["004", "003"])
    assert {*told["seconds"]} == {
        "terraform", "service", "look", "image", "log_group", "task_definition", "task", "log", "verdict",
    }  # fmt: skip


@pytest.mark.slow
def test_a_dry_run_looks_and_stops(make: MakeStage) -> None:
    stage = make()
    outcome = stage.launch("ecs-migrate", "--rollback", "--dry-run", "--json")
    assert (outcome.code, commands(stage)) == (0, [LOOKS]), outcome.err
    assert "CreateDBSnapshot" not in stage.actions
    assert (outcome.json["verdict"], outcome.json["rollback"]) == ("dry_run", FOUND)
    assert [line for line in outcome.err.splitlines() if line in TOLD] == TOLD


@pytest.mark.slow
def test_the_way_to_base_without_a_loss(make: MakeStage) -> None:
    found = {**FOUND, "to": None, "losses": []}
    stage = make("dev", looking={"rollback": found}, going=Script(report={"ran": ["001"]}))
    outcome = stage.launch("ecs-migrate", "--rollback")
    assert outcome.code == 0, outcome.err
    assert commands(stage)[1] == "alembic -x from=004 downgrade base"
    assert "Back      from 004 to no revision: 004, 003\n   Loses     nothing that its revisions count\n" in outcome.err


UNREADABLE = [
    None,
    {**FOUND, "from": 4},
    {**FOUND, "to": "-1"},
    {**FOUND, "to": "base --sql"},
    {**FOUND, "losses": ["x"]},
    {name: value for name, value in FOUND.items() if name != "told"},
]


@pytest.mark.slow
@pytest.mark.parametrize("given", UNREADABLE)
def test_a_report_that_names_no_revision_is_refused(make: MakeStage, given: object) -> None:
    stage = make("dev", looking={"rollback": given})
    outcome = stage.launch("ecs-migrate", "--rollback")
    assert (outcome.code, commands(stage)) == (5, [LOOKS]), outcome.err
    assert "The task did not report where to go back to: nothing was changed." in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("code", [4, 5, 6])
def test_what_the_first_task_refuses_ends_it_all(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, code: int
) -> None:
    stage = make_stage(make_cloud(script=Script(exit_code=code, error="Why.")), clock, tmp_path)
    outcome = stage.launch("ecs-migrate", "--rollback")
    assert (outcome.code, commands(stage)) == (code, [LOOKS])
    assert f"Error: The container ended with {code}: Why." in outcome.err


@pytest.mark.slow
def test_a_wrong_name_takes_nothing_back(make: MakeStage) -> None:
    stage = make()
    outcome = stage.launch("ecs-migrate", "--rollback", "--json", ask=lambda _: "neuraknot")
    assert (outcome.code, commands(stage)) == (5, [LOOKS])
    assert "The confirmation of the rollback is 'neuraknot', and the database is 'neuraKnot'." in outcome.err
    assert "CreateDBSnapshot" not in stage.actions
    assert outcome.json["message"].endswith("and the database is 'neuraKnot'. Nothing was taken back.")
    assert (outcome.json["rollback"], outcome.json["task"]) == (FOUND, None)


@pytest.mark.slow
def test_who_interrupts_the_question_is_told_that_nothing_went(make: MakeStage) -> None:
    def ask(question: str) -> str:
        signal.raise_signal(signal.SIGINT)
        return "neuraKnot"

    stage = make()
    outcome = stage.launch("ecs-migrate", "--rollback", ask=ask)
    assert (outcome.code, commands(stage)) == (130, [LOOKS])
    assert "Error: Interrupted by SIGINT; nothing was taken back.\n" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "number", "more"), [("rds:DescribeDBSnapshots", 1, ", but the snapshot "), ("ecs:ListTasks", 3, ".\n")]
)
def test_who_interrupts_the_snapshot_or_what_follows_is_told_that_nothing_went(
    make: MakeStage, action: str, number: int, more: str
) -> None:
    stage = make()

    def ask(_: str) -> str:
        at(stage, action, number, send(signal.SIGINT))
        return "neuraKnot"

    outcome = stage.launch("ecs-migrate", "--rollback", ask=ask)
    assert (outcome.code, commands(stage)) == (130, [LOOKS]), outcome.err
    assert f"Error: Interrupted by SIGINT; nothing was taken back{more}" in outcome.err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "The confirmation of the rollback is missing, and the database is 'neuraKnot'."),
        (["--confirm-rollback", "prod"], "is 'prod', and the database is 'neuraKnot'."),
    ],
)
def test_where_nobody_can_type_an_option_confirms_or_nothing_begins(
    make: MakeStage, given: list[str], words: str
) -> None:
    stage = make()
    outcome = stage.launch("ecs-migrate", "--rollback", *given)
    assert (outcome.code, stage.writes) == (5, [])
    assert words in outcome.err
    assert "--confirm-rollback neuraKnot" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("attempt", ["1", "2"])
def test_in_ci_a_second_try_goes_no_further_back(
    make: MakeStage, monkeypatch: pytest.MonkeyPatch, attempt: str
) -> None:
    in_github(monkeypatch)
    stage = make()
    confirmed = ("ecs-migrate", "--rollback", "--confirm-rollback", "neuraKnot")
    assert stage.launch(*confirmed, "--dry-run").code == 0
    assert stage.launch(*confirmed, "--no-snapshot").code == 0
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", attempt)
    again = stage.launch(*confirmed, "--json")
    assert again.code == 5, again.err
    assert "Under this name it ran already as " in again.json["message"]
    assert commands(stage) == [LOOKS, LOOKS, GOES]
    assert stage.launch(*confirmed, "--no-snapshot", "--client-token", "NEW").code == 0
    assert len(commands(stage)) == 5


@pytest.mark.slow
def test_in_ci_a_first_try_that_went_nowhere_is_no_reason_to_refuse(
    make: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_github(monkeypatch)
    stage = make(looking={"rollback": None})
    confirmed = ("ecs-migrate", "--rollback", "--confirm-rollback", "neuraKnot", "--no-snapshot")
    assert stage.launch(*confirmed).code == 5
    stage.cloud.ecs.start = containers()
    assert stage.launch(*confirmed).code == 0
    assert commands(stage) == [LOOKS, LOOKS, GOES]


def test_another_live_task_is_in_the_way(make: MakeStage) -> None:
    stage = make("dev")
    assert stage.launch("ecs-migrate", "--detach").code == 0
    outcome = stage.launch("ecs-migrate", "--rollback")
    assert outcome.code == 4
    assert "is alive" in outcome.err
    assert commands(stage) == ["alembic upgrade head"]


@pytest.mark.parametrize(
    "option", ["--reset", "--plan", "--revision=003", "--create-db", "--force", "--detach", "--attach"]
)
def test_it_goes_with_nothing_else(make: MakeStage, option: str) -> None:
    stage = make("dev")
    outcome = stage.launch("ecs-migrate", "--rollback", option)
    assert (outcome.code, stage.writes) == (2, [])
    assert "exclude each other" in outcome.err
    alone = stage.launch("ecs-migrate", "--confirm-rollback", "neuraKnot")
    assert alone.code == 2
    assert "--confirm-rollback confirms nothing without --rollback." in alone.err


@pytest.mark.slow
def test_both_tasks_run_the_same_image(make: MakeStage, tmp_path: Path) -> None:
    stage = make()

    def ask(question: str) -> str:
        (stage.root / "changed.py").write_text("x = 1\n")
        return "neuraKnot"

    assert stage.launch("ecs-migrate", "--rollback", "--no-snapshot", ask=ask).code == 0
    assert (len(commands(stage)), len(images(stage))) == (2, 1)


@pytest.mark.slow
def test_githubs_page_tells_it(make: MakeStage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_github(monkeypatch)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert make("dev").launch("ecs-migrate", "--rollback").code == 0
    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert page.count("<h3>") == 1
    for line in TOLD:
        assert f"<code>{' '.join(line.split())}</code>" in page
    assert "| look | " in page
