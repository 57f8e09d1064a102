"""The command line as people see it: help, variables, and where a value is said to come from."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import app
from launcher.cli.run_options import duration
from launcher.environment.tls import SSLMODES
from launcher.errors import UsageError
from launcher.machine.process import Completed, run
from neuraknot_db.settings import SSLMODES as THE_DATABASES
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, in_terminal, make_stage

COMMANDS = ["ecs-migrate", "ecs-run", "status", "logs", "stop", "doctor", "iam-policy", "rehearse"]


def launcher(*arguments: str, columns: int = 200) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)}
    command = [sys.executable, "-m", "launcher", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_commands_are_those_of_the_design() -> None:
    assert [command.name for command in app.registered_commands] == COMMANDS
    told = launcher("--help").stdout
    assert all(command in told for command in COMMANDS)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_variable_of_every_value(command: str, columns: int) -> None:
    told = launcher(command, "--help", columns=columns).stdout
    assert "…" not in told
    of_a_stack = (
        ("--profile", "AWS_PROFILE"),
        ("--region", "AWS_REGION"),
        ("--cluster", "NEURAKNOT_CLUSTER"),
        ("--db-password-secret", "NEURAKNOT_DB_PASSWORD_SECRET"),
        ("--db-sslrootcert", "NEURAKNOT_DB_SSLROOTCERT"),
    )
    for option, variable in (("--environment", "NEURAKNOT_ENV"), ("--root", "NEURAKNOT_ROOT"), *of_a_stack):
        # A rehearsal has no stack but its own.
        shown = command != "rehearse" or (option, variable) not in of_a_stack
        assert (option in told) == (variable in told) == shown


def test_help_needs_no_more_than_its_own_modules() -> None:
    """What a run needs takes longer to import than all the rest."""
    late = {"boto3", "hcl2", "launcher.models", "rich.console"}
    code = f"import sys; from launcher.cli import main; print(sorted({late} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5H", 5400), (" 5s ", 5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["0", "0m", "-5", "", "m", "5d", "5 minutes", "1e9"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        duration(text, "--timeout")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "arguments", "source"),
    [
        ({}, ["--cluster", "{cluster}"], "--cluster"),
        ({"NEURAKNOT_CLUSTER": "{cluster}"}, [], "NEURAKNOT_CLUSTER"),
        ({"NEURAKNOT_CLUSTER": "other"}, ["--cluster", "{cluster}"], "--cluster"),
        ({"NEURAKNOT_CLUSTER": ""}, [], "terraform output ecs_cluster_name"),
    ],
)
def test_an_option_comes_before_a_variable_and_both_before_terraform(
    variables: dict[str, str],
    arguments: list[str],
    source: str,
    make_cloud: MakeCloud,
    clock: FakeClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    cluster = stage.cloud.stack.cluster
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(cluster=cluster))
    filled = [argument.format(cluster=cluster) for argument in arguments]
    outcome = stage.launch("ecs-migrate", "--dry-run", "--json", *filled)
    assert outcome.json["values"]["cluster"] == {"value": cluster, "source": source}


@pytest.mark.slow
def test_the_certificate_reaches_the_container(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SSLMODES == THE_DATABASES
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    monkeypatch.setenv("NEURAKNOT_DB_SSLROOTCERT", "/app/certificates/rds.pem")
    outcome = stage.launch("ecs-migrate", "--dry-run", "--json", "--db-sslmode", "verify-full")
    assert outcome.json["values"]["db_sslrootcert"] == {
        "value": "/app/certificates/rds.pem",
        "source": "NEURAKNOT_DB_SSLROOTCERT",
    }
    assert stage.launch("ecs-migrate", "--db-sslmode", "verify-full").code == 0
    [definition] = stage.cloud.stack.ecs.task_definitions[stage.cloud.stack.family].values()
    assert '"DB_SSLROOTCERT", "value": "/app/certificates/rds.pem"' in json.dumps(definition.container_definitions)


@pytest.mark.slow
def test_terraform_is_told_of_the_profile(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    before_it = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    before_it |= {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}
    for name in before_it - os.environ.keys():
        monkeypatch.setenv(name, "x")
    told: list[tuple[str | None, set[str]]] = []

    def noting(arguments: Sequence[str], **how: Any) -> Completed:
        if arguments[0] == "terraform":
            environment = how.get("environment") or {}
            told.append((environment.get("AWS_PROFILE"), before_it & environment.keys()))
        return run(arguments, **how)

    stage.runner = noting
    for command in ("ecs-migrate", "status", "doctor", "iam-policy"):
        stage.launch(command, "--profile", "nobody")
    stage.launch("status")
    assert told == [("nobody", set())] * 4 + [(None, set())]


@pytest.mark.parametrize("option", ["--public-ip", "--no-public-ip"])
def test_a_public_address_can_be_had_and_refused(
    option: str, make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    shown = stage.launch("ecs-migrate", "--dry-run", "--json", option).json["values"]["assign_public_ip"]
    assert shown == {"value": not option.startswith("--no"), "source": option}


@pytest.mark.slow
def test_a_command_that_is_proposed_has_what_was_given_and_can_be_pasted(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    monkeypatch.setenv("NEURAKNOT_PROJECT", "neuraKnot")
    given = ["--region", "ap-northeast-1", "--cluster", stage.cloud.stack.cluster, "--db-name", "a \\1 b's"]
    hint = stage.launch("ecs-migrate", "--detach", "--json", *given, "--no-public-ip").json["hint"]
    proposed = shlex.split(hint.partition(": launcher ")[2])
    task = proposed[-1]
    environment = ["--environment", stage.cloud.stack.options.environment]
    assert proposed == ["logs", *environment, *given[:4], "--no-public-ip", *given[4:], "--follow", task]
    again = stage.launch(*proposed)
    assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "command", "words"),
    [
        (["ecs-migrate", "--json", "--bogus"], "ecs-migrate", "No such option: --bogus"),
        (["ecs-migrate", "--json", "--db-port", "many"], "ecs-migrate", "--db-port"),
        (["ecs-run", "--json"], "ecs-run", "Missing argument"),
        (["nothing", "--json"], "launcher", "No such command"),
        (["--bogus", "status", "--json"], "launcher", "No such option: --bogus"),
    ],
)
def test_programs_are_told_of_a_line_that_is_not_understood(arguments: list[str], command: str, words: str) -> None:
    told = json.loads(launcher(*arguments).stdout)
    assert (told["exit_code"], told["command"]) == (2, command)
    assert words in told["message"]
    people = launcher(*(argument for argument in arguments if argument != "--json"))
    assert (people.returncode, people.stdout) == (2, "")
    assert f"Error: {told['message']}\nHint: " in people.stderr


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_steps_tick_and_lines_stay_whole(
    columns: int, make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    """In a terminal of its own, with real time: the task of this script takes no second."""
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    stage.outputs({"rds_host": None})
    command = [sys.executable, "-m", "launcher", "ecs-migrate", "--terraform-dir", str(stage.terraform)]
    shown = in_terminal([*command, "--root", str(stage.root)], columns)
    assert "\x1b[31m✗\x1b[0m 2/8" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "✓ 1/8 Terraform" in plain
    assert "rds_host is" in plain.replace("\r\n", "")
