"""When a task has to be over: said once, to the container, and wherever the task is shown."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import pytest

from launcher.models import STARTING, TIMEOUT
from launcher.rehearsal.program import Script, scripted
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launch.test_migrate import in_github
from tests.ecs.launch.test_rollback import containers
from tests.ecs.launching import GOOD, Stage, make_stage
from tests.ecs.task.test_lost_answers import lose
from tests.ecs.task.test_watching import refuse


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def told(stage: Stage) -> list[str | None]:
    """What each RunTask says of it."""
    calls = [call.parameters for call in stage.cloud.server.calls if call.operation == "RunTask"]
    overrides = (call["overrides"]["containerOverrides"][0]["environment"] for call in calls)
    return [{each["name"]: each["value"] for each in one}.get("NEURAKNOT_DEADLINE") for one in overrides]


@pytest.mark.parametrize(("given", "seconds"), [((), TIMEOUT), (("--timeout", "90s"), 90.0)])
def test_it_is_the_timeout_and_the_time_to_start_from_the_first_try_on(
    stage: Stage, given: tuple[str, ...], seconds: float
) -> None:
    lose(stage, 2)
    outcome = stage.launch("ecs-migrate", "--json", *given)
    assert outcome.code == 0, outcome.err
    first = next(call.at for call in stage.cloud.server.calls if call.operation == "RunTask")
    assert told(stage) == [str(math.ceil(first + seconds + STARTING))] * 3
    assert outcome.json["task"]["deadline"] == int(told(stage)[0] or 0)
    assert len(stage.cloud.ecs.tasks) == 1


def test_who_sets_no_limit_passes_none(stage: Stage) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=600.0))
    outcome = stage.launch("ecs-migrate", "--detach", "--json")
    assert (outcome.code, told(stage), outcome.json["task"]["deadline"]) == (0, [None], None)
    assert " until " not in stage.launch("status").err
    dry = stage.launch("ecs-migrate", "--detach", "--dry-run", "--json")
    assert dry.json["deadline"] is None
    assert "deadline         none, with --detach" in stage.launch("ecs-run", "--detach", "--dry-run", "--", "log").out


@pytest.mark.slow
def test_another_try_of_the_run_finds_the_first_ones_task_though_its_deadline_is_another(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_github(monkeypatch)
    stage.cloud.ecs.start = scripted(Script(seconds=100.0))
    refuse(stage, "ecs:StopTask", "AccessDeniedException")  # so that it outlives its launcher
    first = stage.launch("ecs-migrate", "--timeout", "20s", "--json")
    assert first.code == 25
    (deadline,) = told(stage)
    shown = f"until {datetime.fromtimestamp(int(deadline or 0)):%Y-%m-%d %H:%M:%S}"
    assert shown in stage.launch("status").out
    assert [each["deadline"] for each in stage.launch("status", "--json").json["alive"]] == [int(deadline or 0)]
    again = stage.launch("ecs-migrate", "--timeout", "10m", "--json")
    assert (again.code, again.json["task"]["arn"]) == (0, first.json["task"]["arn"])
    assert again.json["task"]["deadline"] == int(deadline or 0)
    assert told(stage) == [deadline]
    assert shown not in stage.launch("status").out  # it is over


@pytest.mark.slow
def test_each_task_of_a_rollback_has_its_own_and_more_time_does_not_mean_forward(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    out_of_time = Script(seconds=1.0, exit_code=24, report={"outcome": "interrupted", "after": "003"})
    stage = make_stage(make_cloud(start=containers(going=out_of_time), environment="prod"), clock, tmp_path)

    def ask(question: str) -> str:
        clock.sleep(3600)  # a person thinks, and RDS takes its time for the snapshot
        return "neuraKnot"

    outcome = stage.launch("ecs-migrate", "--rollback", "--timeout", "1m", ask=ask)
    begun = [call.at for call in stage.cloud.server.calls if call.operation == "RunTask"]
    assert begun[1] - begun[0] > 3600
    assert told(stage) == [str(math.ceil(each + 60 + STARTING)) for each in begun]
    assert outcome.code == 24
    assert "more time: launcher ecs-migrate --environment prod --rollback --timeout 2m" in outcome.err


def test_it_is_in_the_plan(stage: Stage) -> None:
    then = math.ceil(stage.clock.time + 600 + STARTING)
    dry = ("ecs-migrate", "--timeout", "10m", "--dry-run")
    assert stage.launch(*dry, "--json").json["deadline"] == then
    shown = f"deadline         {datetime.fromtimestamp(then):%Y-%m-%d %H:%M:%S}  [if it starts now]"
    assert shown in stage.launch(*dry).out


@pytest.mark.parametrize("text", ["8761h", "9" * 400 + "h"])
def test_a_time_beyond_a_year_is_no_timeout(stage: Stage, text: str) -> None:
    outcome = stage.launch("ecs-migrate", "--timeout", text)
    assert outcome.code == 2
    assert "is longer than a year" in outcome.err
    assert "Write it as 90s, 30m or 2h" in outcome.err
