"""The command line as people see it: help, variables, and where a value is said to come from."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from launcher.cli.main import app
from launcher.cli.run_options import duration
from launcher.environment.tls import SSLMODES
from launcher.errors import UsageError
from launcher.machine.process import Completed, run
from launcher.rehearsal.plays import start_task
from launcher.task import command_line
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
    assert not re.search(r"<\w+>|<list", told)  # not what Python calls it
    # A rehearsal has no stack but its own, and where tasks run says nothing of networks and databases.
    has = {"rehearse": 0, "status": 1, "logs": 1, "stop": 1}.get(command, 2)
    for least, option, variable in (
        (0, "--environment", "NEURAKNOT_ENV"),
        (0, "--root", "NEURAKNOT_ROOT"),
        (1, "--profile", "AWS_PROFILE"),
        (1, "--region", "AWS_REGION"),
        (1, "--cluster", "NEURAKNOT_CLUSTER"),
        (2, "--account", "NEURAKNOT_ACCOUNT"),
        (2, "--subnets", "NEURAKNOT_SUBNETS"),
        (2, "--task-role", "NEURAKNOT_TASK_ROLE"),
        (2, "--db-password-secret", "NEURAKNOT_DB_PASSWORD_SECRET"),
        (2, "--db-sslrootcert", "NEURAKNOT_DB_SSLROOTCERT"),
    ):
        assert (option in told) == (variable in told) == (has >= least)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_a_command_line(command: str) -> None:
    parser: Any = get_command(app)
    examples = re.findall(r"^  (launcher .*)", parser.commands[command].epilog, re.MULTILINE)
    assert 1 <= len(examples) <= 3
    for example in examples:
        _, name, *words = shlex.split(example.partition(" > ")[0])
        assert name == command
        values = parser.commands[name].make_context(name, words).params
        if command == "ecs-run":
            assert command_line.check(values["arguments"])


def test_the_version_is_the_installed_package_s() -> None:
    told = launcher("--version")
    assert (told.returncode, told.stdout) == (0, f"launcher {version('neuraknot-db')}\n")


def test_a_copy_of_the_source_has_no_version() -> None:
    code = (
        "import sys, launcher.cli.main as cli; sys.path[:] = [each for each in sys.path if 'site-packages' not in each]"
    )
    code += "; cli.main(['--version'])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("launcher, not installed")


@pytest.mark.slow
def test_a_shell_completes_commands_and_options() -> None:
    """As bash does on the tab key, by the script that --show-completion prints."""
    program = Path(sys.executable).with_name("launcher")
    script = f"""
    PATH={program.parent}:$PATH
    eval "$(launcher --show-completion)"
    for line in "launcher ecs-m" "launcher stop --env" "launcher stop --db"; do
        COMP_WORDS=($line) COMPREPLY=()
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _launcher_completion launcher
        echo ${{COMPREPLY[@]}}
    done
    """
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["ecs-migrate", "--environment", ""], done.stderr


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
    assert proposed == ["logs", *environment, *given[:4], "--follow", task]  # and nothing that it does not take
    again = stage.launch(*proposed)
    assert again.code == 0, again.err


@pytest.mark.slow
def test_doctor_proposes_only_what_a_command_takes(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    start_task(stage.cloud, started_by="somebody")
    given = ["--cluster", stage.cloud.stack.cluster]
    told = stage.launch("doctor", *given, "--db-name", "neuraKnot").out
    place = shlex.join(["--environment", stage.cloud.stack.options.environment, *given])
    assert f"launcher logs {place} --follow   # or launcher stop {place}\n" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "sentence", "hint"),
    [
        (
            "launcher ecs-migrate --dry-run",
            20,
            "There is no Terraform root ",
            "Run it in a checkout, or name that with",
        ),
        ("launcher rehearse", 20, "There is no Dockerfile.migrate in ", "Rehearse in a checkout of the project, or"),
        ("neuraknot-db upgrade head", 2, "There is no alembic.ini here.", "Run this in the root of the checkout, or"),
    ],
)
def test_outside_of_a_checkout_the_installed_programs_say_so(
    command: str, code: int, sentence: str, hint: str, tmp_path: Path
) -> None:
    program, *arguments = command.split()
    path = str(Path(sys.executable).with_name(program))
    ended = subprocess.run([path, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == code
    *_, first, second = ended.stderr.splitlines()
    assert first.startswith(f"Error: {sentence}")
    assert second.startswith(f"Hint: {hint}")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "command", "words"),
    [
        (["ecs-migrate", "--json", "--bogus"], "ecs-migrate", "No such option '--bogus'"),
        (["ecs-migrate", "--json", "--dry-rn"], "ecs-migrate", "No such option '--dry-rn'. Did you mean '--dry-run'?"),
        (["stop", "--json", "--db-host", "x"], "stop", "No such option '--db-host'."),
        (["stpo", "--json"], "launcher", "No such command 'stpo'. Did you mean 'stop'?"),
        (["ecs-migrate", "--json", "--db-port", "many"], "ecs-migrate", "--db-port"),
        (["ecs-run", "--json"], "ecs-run", "Missing argument"),
        (["nothing", "--json"], "launcher", "No such command"),
        (
            ["ecs-migrate", "--json", "--env", "x"],
            "ecs-migrate",
            "No such option '--env'. Did you mean '--environment'?",
        ),
        (["ecs-migrate", "--json", "prod"], "ecs-migrate", "Unexpected argument 'prod'."),
        (["--cluster", "x", "status", "--json"], "launcher", "Option '--cluster' stands behind the command."),
        (["--bogus", "status", "--json"], "launcher", "No such option '--bogus'"),
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
