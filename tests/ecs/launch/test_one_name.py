"""One name, twice: only a plain upgrade inherits an earlier try's success; all else follows it, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from launcher.rehearsal.api import Call
from launcher.rehearsal.program import Script, scripted
from launcher.rehearsal.task import Obstacle
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launch.test_migrate import in_github
from tests.ecs.launching import GOOD, SHOWN, Stage, make_stage
from tests.ecs.task.test_lost_answers import lose
from tests.ecs.task.test_watching import refuse

REFUSED = {
    "reset": "ecs-migrate --reset",
    "downgrade": "ecs-run -- downgrade -1",
    "stamp": "ecs-run -- stamp 003",
    "upgrade by one": "ecs-run -- upgrade +1",
    "upgrade as SQL": "ecs-run -- upgrade head --sql",
    "upgrade by force": "ecs-migrate --force",
    "create the database": "ecs-migrate --create-db",
    "adopt": "ecs-run -- adopt",
    "plan": "ecs-migrate --plan",
}
INHERITED = {
    "ecs-migrate": "ecs-migrate",
    "to a revision": "ecs-migrate --revision 003",
    "by ecs-run": "ecs-run -- upgrade head",
}


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    in_github(monkeypatch)
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def ids(stage: Stage) -> list[str]:
    return [task.id for task in stage.cloud.ecs.tasks.values()]


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 60], ids=["at once", "a minute later"])
@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED.keys())
def test_what_would_do_more_is_refused_and_runs_under_another_name(stage: Stage, line: str, pause: int) -> None:
    command, *arguments = line.split()
    assert stage.launch(command, *arguments).code == 0
    stage.clock.sleep(pause)
    again = stage.launch(command, "--json", *arguments)
    (task,) = ids(stage)
    assert (again.code, again.json["verdict"], again.json["task"]) == (5, "refused", None)
    assert (
        f"it ran already as {task}, which ended with 0. This command did not touch the database."
        in again.json["message"]
    )
    assert "Give `--client-token NEW` to run it again." in again.json["hint"]
    assert stage.launch(command, "--client-token", "NEW", *arguments).code == 0
    assert len(ids(stage)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 60], ids=["at once", "a minute later"])
@pytest.mark.parametrize("line", INHERITED.values(), ids=INHERITED.keys())
def test_an_upgrade_that_would_find_nothing_to_do_inherits_and_says_so_last(
    stage: Stage, line: str, pause: int
) -> None:
    command, *arguments = line.split()
    assert stage.launch(command, *arguments).code == 0
    stage.clock.sleep(pause)
    again = stage.launch(command, *arguments)
    (task,) = ids(stage)
    assert again.code == 0
    assert again.err.splitlines()[-1].startswith("Done. dev is at revision 00")
    assert again.err.splitlines()[-1].endswith(f"That was an earlier try of this run, {task}: nothing was run now.")
    assert "nothing was run now" in stage.launch(command, "--json", *arguments).json["message"]


@pytest.mark.slow
@pytest.mark.parametrize("line", ["ecs-migrate", *(line for line in REFUSED.values() if "--plan" not in line)])
def test_a_live_one_is_followed(stage: Stage, line: str) -> None:
    command, *arguments = line.split()
    assert stage.launch(command, "--detach", *arguments).code == 0
    again = stage.launch(command, *arguments)
    assert again.code == 0, again.err
    assert again.out.splitlines() == SHOWN
    assert "no other is started" in again.err
    assert "nothing was run now" not in again.err
    assert len(ids(stage)) == 1


@pytest.mark.slow
def test_tests_between_two_resets_change_nothing_of_it(stage: Stage) -> None:
    assert stage.launch("ecs-migrate", "--reset").code == 0
    assert stage.launch("ecs-run", "--", "verify").code == 0
    assert stage.launch("ecs-migrate").code == 0
    assert stage.launch("ecs-migrate", "--reset").code == 5


@pytest.mark.slow
@pytest.mark.parametrize("code", [7, 25, 143])
def test_one_that_failed_or_was_stopped_is_refused_all_the_same(stage: Stage, code: int) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=600.0) if code == 143 else _ending(code))
    assert stage.launch("ecs-migrate", "--reset", "--detach").code == 0
    stage.clock.sleep(30)
    stage.launch("status")
    (arn,) = stage.cloud.ecs.tasks
    if code == 143:
        boto3.client("ecs").stop_task(cluster=stage.cloud.stack.cluster, task=arn)
    stage.clock.sleep(60)
    stage.cloud.ecs.start = scripted(GOOD)
    again = stage.launch("ecs-migrate", "--reset")
    assert again.code == 5
    assert f"ended with {code}" in again.err or "ended without an exit code" in again.err
    assert len(ids(stage)) == 1


def _ending(code: int) -> Script:
    return Script(seconds=1.0, exit_code=None if code == 25 else code)


@pytest.mark.slow
def test_one_whose_container_never_started_is_tried_again(stage: Stage) -> None:
    before = stage.cloud.ecs.obstacle
    stage.cloud.ecs.obstacle = lambda _: Obstacle("CannotPullContainerError: no")
    assert stage.launch("ecs-migrate", "--reset").code == 23
    stage.cloud.ecs.obstacle = before
    assert stage.launch("ecs-migrate", "--reset").code == 0


@pytest.mark.slow
def test_an_upgrade_that_left_no_report_is_no_success_to_inherit(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=1.0, report=None))
    assert [stage.launch("ecs-migrate").code for _ in range(2)] == [25, 25]
    assert "nothing was run now" not in stage.launch("ecs-migrate").err


def list_none(stage: Stage) -> None:
    """ListTasks lags behind: it names no task any more."""
    listed = stage.cloud.server.handlers["ecs:ListTasks"]
    stage.cloud.server.handlers["ecs:ListTasks"] = lambda call: {**(listed(call) or {}), "taskArns": []}


# At once it is DEPROVISIONING, and STOPPED a minute later.
@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 60, 600, 1800])
@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED.keys())
def test_one_that_only_its_token_remembers_is_refused_whatever_its_age(stage: Stage, line: str, pause: int) -> None:
    assert stage.launch(*line.split()).code == 0
    stage.clock.sleep(pause)
    list_none(stage)
    command, *arguments = line.split()
    for more in ([], ["--detach"] if command == "ecs-migrate" and "--plan" not in line else []):
        again = stage.launch(command, *more, *arguments)
        assert again.code == 5, again.err
        assert "Under this name a task was started already: by an earlier try of this run" in again.err
        assert "This command did not touch the database." in again.err
    assert len(ids(stage)) == 1


@pytest.mark.slow
def test_an_upgrade_whose_first_try_is_not_listed_yet_is_refused_and_a_moment_later_followed(stage: Stage) -> None:
    """Its launcher died: the next one's deadline is another, so RunTask does not take it for the same request."""
    stage.cloud.ecs.start = scripted(Script(seconds=100.0))
    refuse(stage, "ecs:StopTask", "AccessDeniedException")  # so that it outlives its launcher
    assert stage.launch("ecs-migrate", "--timeout", "20s").code == 25
    listed = stage.cloud.server.handlers["ecs:ListTasks"]
    list_none(stage)
    refused = stage.launch("ecs-migrate")
    assert refused.code == 5
    assert "Once that lists it, the same command follows its own." in refused.err
    stage.cloud.server.handlers["ecs:ListTasks"] = listed
    assert stage.launch("ecs-migrate").code == 0
    assert len(ids(stage)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("pause", [60, 1800])
@pytest.mark.parametrize("line", INHERITED.values(), ids=INHERITED.keys())
def test_an_upgrade_that_only_its_token_remembers_says_nothing_of_the_database_now(
    stage: Stage, line: str, pause: int
) -> None:
    """Two without a deadline are one request; as with another deadline they are not, see the test before."""
    command, *arguments = line.split()
    assert stage.launch(command, "--detach", *arguments).code == 0
    stage.clock.sleep(pause)
    list_none(stage)
    again = stage.launch(command, "--detach", *arguments)
    assert again.code == 0, again.err
    last = again.err.splitlines()[-1]
    assert last.startswith(f"Done. An earlier try of this run, {ids(stage)[0]}, ended so: dev is at revision 00")
    assert last.endswith("Nothing was run now, and whether others came after it is not known.")


@pytest.mark.slow
@pytest.mark.parametrize(("pause", "code"), [(240, 0), (360, 5)])
def test_where_an_answer_was_lost_its_age_tells(stage: Stage, pause: int, code: int) -> None:
    assert stage.launch("ecs-migrate", "--reset", "--detach").code == 0
    stage.clock.sleep(pause)
    list_none(stage)
    lose(stage, 1)
    assert stage.launch("ecs-migrate", "--reset", "--detach").code == code
    lose(stage, 1)
    refused = stage.launch("ecs-migrate", "--reset")  # whose deadline makes it another request
    assert (refused.code, "Under this name a task was started already" in refused.err) == (5, True)
    assert len(ids(stage)) == 1


@pytest.mark.slow
def test_one_that_never_started_did_not_run_already(stage: Stage) -> None:
    stage.cloud.ecs.obstacle = lambda _: Obstacle("CannotPullContainerError: no")
    assert stage.launch("ecs-migrate", "--reset", "--detach").code == 0
    stage.clock.sleep(60)
    list_none(stage)
    again = stage.launch("ecs-migrate", "--reset", "--detach")
    assert again.code == 23
    assert "ran already" not in again.err


@pytest.mark.slow
def test_another_try_that_was_faster_while_the_snapshot_was_made_is_not_doubled(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_github(monkeypatch)
    stage = make_stage(make_cloud(script=GOOD, environment="prod"), clock, tmp_path)
    reset = ("ecs-migrate", "--reset", "--confirm-reset", "prod")
    assert stage.launch(*reset, "--no-snapshot").code == 0
    listed = stage.cloud.server.handlers["ecs:ListTasks"]

    def not_yet(call: Call) -> dict[str, Any]:
        there = "CreateDBSnapshot" in stage.actions
        return {**(listed(call) or {}), **({} if there else {"taskArns": []})}

    stage.cloud.server.handlers["ecs:ListTasks"] = not_yet
    outcome = stage.launch(*reset)
    assert outcome.code == 5, outcome.err
    assert "CreateDBSnapshot" in stage.actions
    assert stage.actions.count("RunTask") == 1
