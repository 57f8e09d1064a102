"""A planted password is looked for wherever it must not be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import ConfigurationError
from launcher.machine.process import Completed
from launcher.rehearsal.program import Script, scripted
from launcher.terraform.secrets import read_password
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, PASSWORD, Outcome, Stage, make_stage

FORMS = {
    PASSWORD,
    json.dumps(PASSWORD)[1:-1],
    json.dumps(PASSWORD, ensure_ascii=False)[1:-1],
    repr(PASSWORD)[1:-1],
    PASSWORD.replace("%", "%25"),  # as GitHub's commands write it
}


def holds_it(text: str) -> bool:
    return any(form in text for form in FORMS)


class Recorder:
    """A `Runner` that notes what every user of the machine could see in the list of processes."""

    def __init__(self, stage: Stage) -> None:
        self.seen: list[str] = []
        self.typed: list[str] = []
        self._run = stage.runner
        stage.runner = self

    def __call__(self, arguments: Sequence[str], **settings: Any) -> Completed:
        self.seen.append(f"{list(arguments)} {settings.get('environment')}")
        self.typed.append(settings.get("stdin") or "")
        return self._run(arguments, **settings)


def leaks(stage: Stage, outcome: Outcome) -> list[str]:
    """Where the password is, but for the one override that must carry it."""
    calls = [call for call in stage.cloud.server.calls if call.operation != "RunTask"]
    definitions = stage.cloud.stack.ecs.task_definitions.get(stage.cloud.stack.family, {}).values()
    places = {
        "output": outcome.out,
        "narration": outcome.err,
        **{call.operation: json.dumps(dict(call.parameters), ensure_ascii=False) for call in calls},
        **{each.arn: json.dumps(each.container_definitions, ensure_ascii=False) for each in definitions},
    }
    return [name for name, text in places.items() if holds_it(text)]


@pytest.fixture(params=["secrets.tfvars", "DB_PASSWORD", "TF_VAR_db_password"])
def stage(
    make_cloud: MakeCloud,
    clock: FakeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Stage:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path, pushed=False)
    if request.param != "secrets.tfvars":
        (stage.terraform / "secrets.tfvars").unlink()
        monkeypatch.setenv(request.param, PASSWORD)
    return stage


def parameter_of_run_task(stage: Stage) -> Mapping[str, str]:
    override = stage.run_task()["overrides"]["containerOverrides"][0]
    return {entry["name"]: entry["value"] for entry in override["environment"]}


def test_it_is_in_the_one_override_and_nowhere_else(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(stage)
    outcome = stage.launch("ecs-migrate", "--json")
    assert outcome.code == 0, outcome.err
    assert parameter_of_run_task(stage)["DB_PASSWORD"] == PASSWORD
    assert leaks(stage, outcome) == []
    assert not any(holds_it(line) for line in (*recorder.seen, *recorder.typed))


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--dry-run", "--json"]])
def test_a_dry_run_does_not_show_it(stage: Stage, arguments: list[str]) -> None:
    outcome = stage.launch("ecs-migrate", *arguments)
    assert outcome.code == 0
    assert leaks(stage, outcome) == []


@pytest.mark.slow
def test_a_container_that_prints_it_is_not_repeated(stage: Stage) -> None:
    lines, error = ((0.1, f"connecting with {PASSWORD}"),), f"password {PASSWORD} is wrong"
    stage.cloud.ecs.start = scripted(Script(lines=lines, seconds=1.0, exit_code=7, error=error))
    for arguments in ([], ["--json"]):
        outcome = stage.launch("ecs-migrate", *arguments)
        assert outcome.code == 7
        assert leaks(stage, outcome) == []
        assert "***" in outcome.out + outcome.err


def test_github_does_not_get_it_either(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    stage.cloud.ecs.start = scripted(Script(seconds=1.0, exit_code=6, error=f"{PASSWORD} is wrong"))
    outcome = stage.launch("ecs-migrate")
    assert leaks(stage, outcome) == []
    assert summary.read_text()
    assert not holds_it(summary.read_text())


@pytest.mark.slow
def test_the_registrys_password_goes_by_standard_input(stage: Stage) -> None:
    recorder = Recorder(stage)
    assert stage.launch("ecs-migrate").code == 0
    [password] = [typed for typed in recorder.typed if typed]
    assert not any(password in line for line in recorder.seen)


def test_the_registrys_password_is_not_repeated_where_a_login_fails(stage: Stage) -> None:
    run, typed = stage.runner, []

    def helper(arguments: Sequence[str], **settings: Any) -> Completed:
        if list(arguments[:2]) != ["docker", "login"]:
            return run(arguments, **settings)
        typed.append(settings["stdin"])
        return Completed(tuple(arguments), 1, "", f"error storing credentials: out: `{json.dumps(typed[0])}`")

    stage.runner = helper
    outcome = stage.launch("ecs-migrate")
    assert (outcome.code, "out: `***`" in outcome.err.replace('"', "")) == (22, True), outcome.err
    assert typed[0] not in outcome.err + outcome.out


def test_the_callers_own_keys_are_not_shown_by_a_container(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    session = "IQoJb3JpZ2luX2VjE/+=" * 20
    monkeypatch.setenv("AWS_SESSION_TOKEN", session)
    monkeypatch.setenv("PGPASSWORD", "an0ther's")
    lines = ((0.1, f"env: {session}"), (0.2, "PGPASSWORD=an0ther''s"))
    stage.cloud.ecs.start = scripted(Script(lines=lines, seconds=1.0, exit_code=0))
    outcome = stage.launch("ecs-migrate")
    assert "env: ***" in outcome.out
    assert "PGPASSWORD=***" in outcome.out


def test_a_defect_is_shown_without_it(tmp_path: Path) -> None:
    code = (
        "import os, launcher.cli.task_commands as followup; from launcher.cli.main import main\n"
        "def broken(common): raise RuntimeError(repr(os.environ['DB_PASSWORD']))\n"
        "followup.status = broken; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "status"],
        env={**os.environ, "DB_PASSWORD": PASSWORD},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "RuntimeError: '***'" in done.stderr
    assert not holds_it(done.stderr)


def test_no_traceback_holds_it(tmp_path: Path) -> None:
    (tmp_path / "secrets.tfvars").write_text(f"db_password = {PASSWORD}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError):
        read_password(tmp_path)
    try:
        read_password(tmp_path)
    except ConfigurationError:
        assert PASSWORD not in "".join(traceback.format_exception(*sys.exc_info()))
