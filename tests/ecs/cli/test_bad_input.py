"""What a person can get wrong: one sentence, a hint, the right exit code, and nothing started."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.environment import forms
from launcher.errors import ProgramNotFoundError, UsageError
from launcher.machine.process import Completed
from launcher.models import Sourced
from launcher.rehearsal.stand_in_docker import StandInDocker
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, PASSWORD, Stage, make_stage

Break = Callable[[Stage, pytest.MonkeyPatch], None]


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    pass


def no_credentials(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)


def expired(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.cloud.server.know(stage.cloud.credentials.access_key, expired=True)


def unknown_key(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOSUCHKEYNOSUCHKEY00")


def outputs(**changes: object) -> Break:
    return lambda stage, _: stage.outputs(changes)


def missing_output(name: str) -> Break:
    def change(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        state = stage.terraform / "terraform.tfstate"
        value = json.loads(state.read_text())
        del value["outputs"][name]
        state.write_text(json.dumps(value))

    return change


def no_state(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    (stage.terraform / "terraform.tfstate").unlink()


def locked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"ID": "b7f3", "Who": "alice@laptop", "Created": "2025-11-02T10:00:00Z"}
    (stage.terraform / ".terraform.tfstate.lock.info").write_text(json.dumps(info))


def without(program: str) -> Break:
    def change(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        real = stage.runner

        def run(arguments: list[str], **settings: object) -> Completed:
            if arguments[0] == program:
                raise ProgramNotFoundError(program, hint=f"Install {program}.")
            return real(arguments, **settings)  # type: ignore[arg-type]

        stage.runner = run  # type: ignore[assignment]

    return change


def no_terraform_and_no_state(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    without("terraform")(stage, monkeypatch)
    no_state(stage, monkeypatch)


def cluster_status(status: str) -> Break:
    def change(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        stage.cloud.stack.ecs.clusters[stage.cloud.stack.cluster].status = status

    return change


def no_tfvars(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    (stage.terraform / "secrets.tfvars").unlink()


def tfvars(text: str) -> Break:
    def change(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        (stage.terraform / "secrets.tfvars").write_text(text)

    return change


def docker(**settings: bool) -> Break:
    def change(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        assert isinstance(stage.runner, StandInDocker)
        for name, value in settings.items():
            setattr(stage.runner, name, value)
        (stage.root / "changed").write_text("so that the image must be built")

    return change


def no_docker(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    without("docker")(stage, monkeypatch)
    (stage.root / "changed").write_text("so that the image must be built")


def no_dockerfile(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    (stage.root / "Dockerfile.migrate").unlink()


DIGEST = "sha256:" + "1" * 64
BAD: dict[str, tuple[Break, list[str], int, str]] = {
    "no credentials": (no_credentials, [], 21, "no AWS credentials"),
    "expired credentials": (expired, [], 21, "expired"),
    "unknown credentials": (unknown_key, [], 21, "does not accept these credentials"),
    "no such profile": (nothing, ["--profile", "nobody"], 21, "no AWS profile named nobody"),
    "another account than given": (nothing, ["--account", "999999999999"], 21, "999999999999 (--account)"),
    "another account than Terraform's": (
        outputs(db="arn:aws:rds:ap-northeast-1:888888888888:db:x"), [], 21,
        "give --account ACCOUNT)",
    ),
    "another region": (nothing, ["--region", "eu-west-1"], 21, "eu-west-1 (--region)"),
    "no terraform and no state": (no_terraform_and_no_state, [], 20, "terraform is not installed"),
    "no state": (no_state, [], 20, "no state"),
    "locked": (locked, [], 20, "locked by alice@laptop"),
    "missing output": (missing_output("rds_host"), [], 20, "rds_host is missing"),
    "empty output": (outputs(rds_host=""), [], 20, "rds_host is empty"),
    "null output": (outputs(ecs_cluster_name=None), [], 20, "ecs_cluster_name is"),
    "no port": (outputs(rds_port="postgres"), [], 20, "'postgres' (terraform output rds_port) is not a valid port"),
    "state of another environment": (outputs(environment="prod"), [], 20, "of the environment prod, not dev"),
    "no such cluster": (nothing, ["--cluster", "nowhere"], 20, "no ECS cluster nowhere (--cluster)"),
    "inactive cluster": (cluster_status("INACTIVE"), [], 20, "INACTIVE"),
    "no such service": (nothing, ["--service", "nothing"], 20, "no service nothing (--service)"),
    "no secrets.tfvars": (no_tfvars, [], 20, "no password"),
    "secrets.tfvars without the key": (tfvars('x = "y"\n'), [], 20, "holds no db_password"),
    "secrets.tfvars that is broken": (tfvars('db_password = "abcdef\n'), [], 20, "not valid Terraform syntax, line 1"),
    "secrets.tfvars with an expression": (tfvars('db_password = "${var.x}"\n'), [], 20, "not a string"),
    "Docker not running": (docker(engine=False), [], 22, "Docker is not running"),
    "no Docker": (no_docker, [], 22, "docker is not installed"),
    "the push refused": (docker(push_refused=True), [], 22, "refused"),
    "no Dockerfile": (no_dockerfile, [], 20, "no Dockerfile.migrate"),
    "no image reference": (nothing, ["--image", "Not An Image"], 2, "is not an image reference"),
    "an image without tag": (nothing, ["--image", "example.com/migrate"], 2, "tag or a digest"),
    "an image elsewhere by tag": (nothing, ["--image", "example.com/migrate:1"], 2, "can't be pinned"),
    "an image that ECR lacks": (
        nothing, ["--image", f"ACCOUNT.dkr.ecr.ap-northeast-1.amazonaws.com/neuraknot-dev-migrate@{DIGEST}"], 22,
        "ECR has no image",
    ),
    "another account's image by tag": (
        nothing, ["--image", "999999999999.dkr.ecr.us-east-1.amazonaws.com/neuraknot-dev-migrate:content-1"], 2,
        "not in this stack's ECR (ACCOUNT.dkr.ecr.ap-northeast-1.amazonaws.com), so its tag can't be pinned",
    ),
    "another region's image by tag": (
        nothing, ["--image", "ACCOUNT.dkr.ecr.us-east-1.amazonaws.com/neuraknot-dev-migrate:content-1"], 2,
        "can't be pinned",
    ),
    "a host that is a number": (outputs(rds_host=5), [], 20, "output rds_host can't be a number"),
    "clusters": (outputs(ecs_cluster_name=["x"]), [], 20, "output ecs_cluster_name can't be a list"),
    "no subnets": (outputs(private_subnet_ids=[]), [], 20, "private_subnet_ids is empty"),
    "Terraform's password for the ARN of a secret": (
        outputs(db_password_secret_arn="plain"), [], 20, "db_password_secret_arn is not the ARN",
    ),
    "no subnet's name": (nothing, ["--subnets", ", ,"], 2, "--subnets ', ,' names no subnet."),
    "no security group's name": (nothing, ["--security-groups", ","], 2, "names no security group."),
    "nothing for a revision": (nothing, ["--revision="], 2, "'' is not a valid revision name"),
    "an option for a revision": (nothing, ["--revision=--help"], 2, "'--help' is not a valid revision name"),
    "a confirmation of nothing": (nothing, ["--confirm-reset", "dev"], 2, "confirms nothing without --reset"),
    "no time": (nothing, ["--timeout", "0"], 2, "--timeout '0'"),
    "no duration": (nothing, ["--timeout", "soon"], 2, "90s, 30m or 2h"),
    "reset to a revision": (nothing, ["--reset", "--revision", "003"], 2, "exclude each other"),
    "reset and force": (nothing, ["--reset", "--force"], 2, "exclude each other"),
    "no environment's name": (nothing, ["--environment", "../prod"], 2, "is not a valid environment name"),
    "no sslmode": (nothing, ["--db-sslmode", "verify"], 2, "--db-sslmode 'verify' is not a valid sslmode"),
    "verify-full against nothing": (nothing, ["--db-sslmode", "verify-full"], 2, "verify-full needs --db-sslrootcert"),
    "verify-ca against nothing": (nothing, ["--db-sslmode", "verify-ca"], 2, "verify-ca needs --db-sslrootcert"),
    "a certificate on this machine": (
        nothing, ["--db-sslrootcert", "docker/certificates/rds.pem"], 2, "is not a path in the image",
    ),
    "no platform": (nothing, ["--platform", "windows"], 2, "is not a platform of Fargate"),
    "a host with blanks from Terraform": (outputs(rds_host="a b"), [], 20, "output rds_host is not a host's name"),
    "a cluster from Terraform": (outputs(ecs_cluster_name="a b"), [], 20, "output ecs_cluster_name 'a b' is not the"),
    "subnets from Terraform": (outputs(private_subnet_ids=["zzz"]), [], 20, "private_subnet_ids 'zzz' is not the ID"),
    "confirmed another environment": (nothing, ["--reset", "--confirm-reset", "prod"], 5, "names 'prod'"),
    "no such option": (nothing, ["--rest"], 2, "No such option"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("change", "arguments", "code", "words"), BAD.values(), ids=BAD.keys())
def test_one_sentence_a_hint_a_code_and_nothing_started(
    change: Break,
    arguments: list[str],
    code: int,
    words: str,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(stage, monkeypatch)
    account = stage.cloud.stack.account
    outcome = stage.launch("ecs-migrate", *(argument.replace("ACCOUNT", account) for argument in arguments))
    said = outcome.err + capsys.readouterr().err
    assert outcome.code == code, said
    assert words.replace("ACCOUNT", account) in said
    assert "RunTask" not in stage.actions
    assert "Traceback" not in said
    assert PASSWORD not in said
    if code != 2 or "Error:" in outcome.err:
        assert "Hint: " in outcome.err


MALFORMED: dict[str, tuple[str, ...]] = {
    "environment": ("../prod", "dev_", "dev-_x", "dev___x", "d" * 42, "dév", "dev\n"),
    "project": ("Neura Knot!", "neura__-knot", "-x", "x_", "neura.knot", "neura/knot", "p" * 101, "日本"),
    "account": ("12", "1234567890123", "１２３４５６７８９０１２", "arn:aws:iam::123456789012:root", "x"),
    "cluster": ("a b", "a/b", "a.b", "c" * 256, "arn:aws:ecs:ap-northeast-1:123456789012:service/a/b", "a\n"),
    "service": ("a b", "a:b", "arn:aws:ecs:ap-northeast-1:123456789012:cluster/a", "s" * 256),
    "subnets": ("zzz", "subnet-", "subnet-1a2b3c4d,zzz", "subnet-1a2b3c4d subnet-2", "sg-1a2b3c4d"),
    "security-groups": ("zzz", "default", "sg-", "sg-1a2b3c4d;sg-2", "subnet-1a2b3c4d"),
    "execution-role": ("ecsTaskExecutionRole", "arn:aws:iam::12:role/x", "arn:aws:iam::123456789012:user/x"),
    "task-role": ("x", "arn:aws:iam::123456789012:role/", "arn:aws:iam::123456789012:role/a b", "role/x"),
    "platform": ("windows", "linux/amd64 "),
    "db-host": ("a b", "postgres://u:hunter2@h/db", "u:hunter2@h", "h/db", "h,h2"),
}


@pytest.mark.parametrize("command", ["ecs-migrate", "doctor"])
@pytest.mark.parametrize("option", MALFORMED)
def test_what_has_not_the_form_of_its_option_is_refused_before_anything_is_asked(
    option: str, command: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(named: str, *arguments: str) -> None:
        outcome = stage.launch(command, *arguments)
        said = " ".join(outcome.err.split())
        assert (outcome.code, stage.actions) == (2, []), (arguments, said)
        assert f"Error: {named} " in said
        assert " is not " in said
        assert "Hint: " in said
        assert "hunter2" not in said

    for value in MALFORMED[option]:
        refused(f"--{option}", f"--{option}={value}")
    if option != "environment":  # which the stage gives
        variable = f"NEURAKNOT_{option.replace('-', '_').upper()}"
        monkeypatch.setenv(variable, MALFORMED[option][0])
        refused(variable)


@pytest.mark.parametrize(
    "given",
    [
        {"environment": "blue_2", "project": "Neura-Knot_2"},
        {"cluster": "arn:aws-us-gov:ecs:us-gov-west-1:123456789012:cluster/a_b-C", "account": "012345678901"},
        {"service": "arn:aws:ecs:ap-northeast-1:123456789012:service/web"},
        {"service": "arn:aws:ecs:ap-northeast-1:123456789012:service/a/web"},
        {"subnets": ("subnet-1a2b3c4d", "subnet-0123456789abcdef0"), "security_groups": ("sg-903004f8",)},
        {"execution_role": "arn:aws-cn:iam::123456789012:role/service-role/a/x+=,.@-_", "platform": "linux/arm64"},
        {"task_role": "arn:aws:iam::123456789012:role/x", "db_host": "a_b.Example"},
        {"db_host": "fd00::5"},
        {"db_host": "db:6543"},
        {"db_name": "anything at all"},
    ],
    ids=str,
)
def test_what_aws_takes_is_taken(given: dict[str, Any]) -> None:
    for name, value in given.items():
        forms.check(name, Sourced(value, name), UsageError)


@pytest.mark.slow
def test_another_account_s_image_is_taken_by_its_digest_as_it_is(stage: Stage) -> None:
    reference = f"999999999999.dkr.ecr.us-east-1.amazonaws.com/migrate@{DIGEST}"
    outcome = stage.launch("ecs-migrate", "--dry-run", "--json", "--image", reference)
    assert outcome.json["image"] == {"reference": reference, "tag": None, "build": False}


SECRET = "arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:db-x"


@pytest.mark.parametrize("suffix", ["", ":password::", ":password:AWSCURRENT:", ":::", ":password", ":password:", "::"])
def test_a_secret_has_three_colons_after_its_name_or_none(suffix: str, stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--dry-run", "--db-password-secret", SECRET + suffix)
    assert outcome.code == (0 if suffix.count(":") in (0, 3) else 2), outcome.err
    if outcome.code:
        assert ":KEY:: after it (three colons)" in outcome.err


@pytest.mark.parametrize("given", ["hunter2-plain!", "arn:aws:iam::123456789012:role/hunter2", "/hunter2/parameter"])
def test_a_password_in_place_of_its_secret_s_arn_is_not_repeated(stage: Stage, given: str) -> None:
    outcome = stage.launch("ecs-migrate", "--dry-run", "--json", "--db-password-secret", given)
    assert outcome.code == outcome.json["exit_code"] == 2
    assert "--db-password-secret is not the ARN" in outcome.err
    assert "hunter2" not in outcome.err + outcome.out
    assert stage.actions == []


@pytest.mark.parametrize(
    ("option", "variable", "value"),
    [
        ("--base", "NEURAKNOT_BASE", "Py:3"),
        ("--timeout", "NEURAKNOT_TIMEOUT", "5x"),
        ("--platform", "NEURAKNOT_PLATFORM", "windows"),
        ("--subnets", "NEURAKNOT_SUBNETS", ","),
        ("--db-sslmode", "NEURAKNOT_DB_SSLMODE", "off"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_given(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, option: str, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    for arguments, named in (([], variable), ([option, value], option)):
        outcome = stage.launch("ecs-migrate", *arguments)
        assert outcome.code == 2
        assert outcome.err.startswith(f"Error: {named} {value!r} "), outcome.err
    assert stage.actions == []


def test_an_environment_without_a_terraform_root_is_told_which_there_are(stage: Stage) -> None:
    for name in ("dev", "prod"):
        (stage.root / "terraform" / "environments" / name).mkdir(parents=True)
    outcome = stage.launch("ecs-migrate", "--environment", "qa", terraform=False)
    assert outcome.code == 20
    assert "There are: dev, prod." in outcome.err


def test_without_its_extra_the_launcher_says_what_to_install() -> None:
    blocked = "import sys; sys.modules['typer'] = None; from launcher.__main__ import main; main()"
    ended = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert ended.returncode == 20
    assert "pip install '.[launcher]'" in ended.stderr


def test_a_state_of_another_environment_is_examined_by_the_command_that_is_proposed(stage: Stage) -> None:
    stage.outputs({"environment": "production"})
    outcome = stage.launch("ecs-migrate", "--dry-run")
    proposed = shlex.split(outcome.err.partition("launcher doctor ")[2])
    assert proposed == ["--environment", "production", "--terraform-dir", str(stage.terraform)]
    again = stage.launch("ecs-migrate", "--dry-run", *proposed, terraform=False)
    assert "There is no Terraform root" not in again.err


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:kms:ap-northeast-1:888888888888:key/artifacts",
        "arn:aws:secretsmanager:ap-northeast-1:888888888888:secret:x",
        "arn:aws:ecr:ap-northeast-1:888888888888:repository/base",
    ],
)
def test_what_another_account_lends_does_not_make_it_the_stack_s(arn: str, stage: Stage) -> None:
    stage.outputs({"artifacts_kms_key_arn": arn})
    outcome = stage.launch("ecs-migrate", "--dry-run")
    assert outcome.code == 0, outcome.err
