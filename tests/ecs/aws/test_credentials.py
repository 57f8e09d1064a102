"""The credentials: found in AWS's own order, asked for where somebody can answer, and missed with the reason."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from launcher.aws import client
from launcher.machine.process import Completed
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, in_terminal, make_stage

PRINTED = '{"SecretAccessKey": "wJalrXUt", "SessionToken":"FwoGwJalrXUt"} aws_secret_access_key=wJalrXUt'
SERIAL = "arn:aws:iam::123456789012:mfa/alice"


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


@pytest.fixture
def config(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AWS configuration with a profile that has keys, and one whose role wants an MFA code."""
    for key in ("PROFILEPROFILEPROFIL", "SESSIONSESSIONSESSIO"):
        stage.cloud.server.know(key)
    path = tmp_path / "config"
    path.write_text(
        "[profile keys]\naws_access_key_id = PROFILEPROFILEPROFIL\naws_secret_access_key = x\n"
        f"[profile mfa]\nrole_arn = {stage.cloud.stack.ci_role_arn}\n"
        f"source_profile = keys\nmfa_serial = {SERIAL}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setattr(client, "_assumed", {})
    return path


def keys_of(stage: Stage) -> set[str]:
    """The keys that signed what was asked of ECS."""
    return {call.access_key for call in stage.cloud.server.calls if call.service == "ecs"}


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("option", "variable", "keys", "signs"),
    [
        (None, None, True, "SESSIONSESSIONSESSIO"),
        (None, "keys", True, "SESSIONSESSIONSESSIO"),
        (None, "keys", False, "PROFILEPROFILEPROFIL"),
        ("keys", None, True, "PROFILEPROFILEPROFIL"),
        ("keys", "nobody", True, "PROFILEPROFILEPROFIL"),
    ],
)
def test_the_order_is_awss_own(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    option: str | None,
    variable: str | None,
    keys: bool,
    signs: str,
) -> None:
    if keys:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SESSIONSESSIONSESSIO")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    else:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    if variable:
        monkeypatch.setenv("AWS_PROFILE", variable)
    outcome = stage.launch("status", *(["--profile", option] if option else []))
    assert outcome.code == 0, outcome.err
    assert keys_of(stage) == {signs}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("echo 'the vault is locked' >&2; exit 1", "custom-process: the vault is locked."),
        ("printf 'one\\ntwo\\n' >&2; exit 3", "custom-process: one two."),
        *(
            (f"cat <<EOT >&2\n{said}\nEOT\nexit 1", "***")
            for said in (
                "<SecretAccessKey>wJalrXUt</SecretAccessKey><SessionToken>wJalrXUt</SessionToken>",
                "GET https://bob:wJalrXUt@idp.corp/saml failed",
                "Authorization: Bearer wJalrXUt",
                "password: wJalrXUt",
                "AWS_SECRET_ACCESS_KEY => wJalrXUt",
            )
        ),
        (f"cat <<EOT >&2\n{PRINTED}\nEOT\nexit 1", "SecretAccessKey ***"),
        ("echo nonsense", "not in the form that AWS describes"),
        ("echo '{\"Version\": 2}'", "Unsupported version '2'"),
        ("echo '{\"Version\": 1}'", "Missing required key"),
        ("echo '[]'", "not in the form that AWS describes"),
        (None, "can't be read"),
    ],
)
def test_what_keeps_credentials_from_being_had_is_quoted(
    stage: Stage, config: Path, tmp_path: Path, program: str | None, words: str
) -> None:
    vault = tmp_path / "vault"
    if program is not None:
        vault.write_text(f"#!/bin/sh\n{program}\n")
        vault.chmod(0o755)
    config.write_text(f"[profile vault]\ncredential_process = {vault}\n")
    outcome = stage.launch("ecs-migrate", "--profile", "vault", "--json")
    assert outcome.code == outcome.json["exit_code"] == 21
    assert words in outcome.json["message"]
    assert "There are no AWS credentials" not in outcome.err
    assert "wJalrXUt" not in outcome.out + outcome.err


def test_half_a_pair_of_keys_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    outcome = stage.launch("status")
    assert outcome.code == 21
    assert "missing: AWS_SECRET_ACCESS_KEY" in outcome.err


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("command", ["ecs-migrate", "doctor", "status", "iam-policy"])
def test_without_a_terminal_an_mfa_code_is_not_asked_for(stage: Stage, command: str) -> None:
    outcome = stage.launch(command, "--profile", "mfa", *(["--json"] if command != "iam-policy" else []))
    assert "wants an MFA code, and there is no terminal to ask on" in outcome.out + outcome.err
    assert "export-credentials --profile mfa" in outcome.out + outcome.err
    if command != "iam-policy":
        assert json.loads(outcome.out)["exit_code"] == outcome.code == 21


@pytest.mark.slow
@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(("answer", "words"), [("123456\n", "rds_host is"), ("\x04", "No MFA code was given")])
def test_on_a_terminal_the_question_stands(stage: Stage, answer: str, words: str) -> None:
    stage.outputs({"rds_host": None})
    command = [sys.executable, "-m", "launcher", "ecs-migrate", "--terraform-dir", str(stage.terraform)]
    shown = in_terminal([*command, "--root", str(stage.root), "--profile", "mfa"], 200, {"MFA code": answer})
    question = f"Enter MFA code for {SERIAL}: "
    assert question in shown
    behind = shown.partition(question)[2]
    erased = re.match(r"[^\n]*\x1b\[2K", behind)  # as the moving line erases itself
    assert erased is None
    assert words in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r\n", "")


KEYS = "aws_access_key_id = PROFILEPROFILEPROFIL\naws_secret_access_key = x\n"
SSO = "sso_account_id = 123456789012\nsso_role_name = ci\nsso_session = corp\n"
CORP = "[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.example/start\n"
ROLE = "role_arn = arn:aws:iam::123456789012:role/x\n"
LOST = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


@pytest.mark.parametrize(
    ("profile", "variables", "words", "hint"),
    [
        (f"{SSO}{CORP}", {}, "sign-in has expired, or there was none", "aws sso login --profile p"),
        (f"{ROLE}source_profile = s\n[profile s]\n{SSO}{CORP}", {}, "sign-in has expired", "aws sso login --profile s"),
        (SSO, {}, 'sso-session does not exist: "corp"', "Put right what {file} says of the profile p."),
        ("sso_role_name = x\n", {}, "missing required configuration", "Put right what {file} says of the profile p."),
        ("credential_process = false\n", {}, "custom-process: it does not say why.", "get credential_process "),
        (f"{ROLE}source_profile = q\n", {}, '"q" referenced in the profile "p" does not', "says of the profile p."),
        (f"{ROLE}source_profile = p\n", {}, "Infinite loop", "Put right what {file} says of the profile p."),
        (ROLE, {}, "missing: source_profile or credential_source", "Put right what {file} says of the profile p."),
        (f"{ROLE}credential_source = Moon\n", {}, '"Moon" referenced', "Put right what {file} says of the profile p."),
        (
            f"{ROLE}credential_source = Ec2InstanceMetadata\n", {}, "No credentials found in credential_source",
            "get credential_source --profile p",
        ),
        (
            f"{ROLE}credential_source = Environment\n", LOST, "No credentials found in credential_source",
            "get credential_source --profile p",
        ),
        ("aws_access_key_id = A\n", {}, "missing: aws_secret_access_key", "aws configure --profile p"),
        ("region = x\n", {}, "There are no AWS credentials", "`aws configure list-profiles`"),
        ("region = x\n]", {}, "Unable to parse config file: {file}.", "Put {file} right"),
        (f"web_identity_token_file = /gone\n{ROLE}", {}, "/gone", "get web_identity_token_file --profile p"),
        (None, {"AWS_SECRET_ACCESS_KEY": None}, "missing: AWS_SECRET_ACCESS_KEY", "Set AWS_ACCESS_KEY_ID, "),
        (None, {**LOST, "AWS_WEB_IDENTITY_TOKEN_FILE": "/x"}, "no role ARN", "AWS_WEB_IDENTITY_TOKEN_FILE and"),
        (
            ROLE, {**LOST, "AWS_WEB_IDENTITY_TOKEN_FILE": "/x", "AWS_PROFILE": "p"}, "missing: source_profile",
            "Put right what {file} says of the profile p.",
        ),
        (
            None, {**LOST, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://10.0.0.1/"}, "not in the form",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI and",
        ),
        (None, LOST, "There are no AWS credentials", "`aws configure list-profiles`"),
        (None, {"AWS_PROFILE": ""}, "AWS_PROFILE is set, but empty", "unset AWS_PROFILE"),
        (None, {"AWS_DEFAULT_PROFILE": "", "AWS_PROFILE": "p"}, "AWS_DEFAULT_PROFILE is set, but empty", "AWS_DEFAULT"),
        (None, {"AWS_PROFILE": " "}, "There is no AWS profile named ' '.", "list-profiles"),
    ],
)  # fmt: skip
def test_the_hint_is_of_what_was_to_give_the_credentials(
    stage: Stage,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: str | None,
    variables: dict[str, str | None],
    words: str,
    hint: str,
) -> None:
    config.write_text(f"[profile p]\n{profile or KEYS}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name)
    named = profile is not None and "AWS_PROFILE" not in variables
    outcome = stage.launch("ecs-migrate", "--json", *(["--profile", "p"] if named else []))
    assert outcome.code == outcome.json["exit_code"] == 21, outcome.err
    assert words.format(file=config) in outcome.json["message"]
    assert hint.format(file=config) in outcome.json["hint"]
    assert ("aws sso login" in outcome.json["hint"]) == ("sso login" in hint)


@pytest.mark.parametrize(
    ("profile", "hint"),
    [
        (None, "Set AWS_ACCESS_KEY_ID, "),
        (KEYS, "aws configure --profile p"),
        ("credential_process = echo '{}'\n", "get credential_process --profile p"),
    ],
)
def test_who_is_not_accepted_is_told_what_to_renew(stage: Stage, config: Path, profile: str | None, hint: str) -> None:
    given = '{"Version": 1, "AccessKeyId": "PROFILEPROFILEPROFIL", "SecretAccessKey": "x"}'
    config.write_text(f"[profile p]\n{(profile or '').replace('{}', given)}")
    for key in ("PROFILEPROFILEPROFIL", stage.cloud.credentials.access_key):
        stage.cloud.server.know(key, expired=True)
    outcome = stage.launch("ecs-migrate", "--json", *([] if profile is None else ["--profile", "p"]))
    assert outcome.json["message"].startswith("The AWS credentials have expired. ")
    assert hint in outcome.json["hint"]


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ('{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "x", "Expiration": "2020-01-01T00:00:00Z"}', "expired"),
        ("[]", "not in the form that AWS describes"),
        ("[" * 100_000, "not in the form that AWS describes"),
    ],
)
@pytest.mark.parametrize("good", [0, 3])
def test_credentials_that_are_no_use_are_not_the_proxy_s_fault(
    stage: Stage, config: Path, tmp_path: Path, then: str, words: str, good: int
) -> None:
    """At once, or when a request needs new ones: botocore asks again within ten minutes of their end."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    given = {"Version": 1, "AccessKeyId": "PROFILEPROFILEPROFIL", "SecretAccessKey": "x", "Expiration": soon}
    for name, text in (("first", json.dumps(given)), ("then", then)):
        (tmp_path / name).write_text(text)
    program = tmp_path / "program"
    program.write_text(f"cd {tmp_path}; echo >> n; [ $(wc -l < n) -gt {good} ] && cat then || cat first\n")
    config.write_text(f"[profile p]\ncredential_process = sh {program}\n")
    outcome = stage.launch("ecs-migrate", "--json", "--profile", "p")
    assert outcome.code == 21
    assert words in outcome.json["message"]
    assert "get credential_process --profile p" in outcome.json["hint"]
    assert bool(stage.actions) == bool(good)


MFA = "assume role with MFA enabled, but AssumeRoleTokenProvider session option not set."


@pytest.mark.parametrize(
    ("said", "arguments", "variables", "hint"),
    [
        ("ExpiredToken: The provided token has expired.", [], {}, "Set AWS_ACCESS_KEY_ID, "),
        ("ExpiredToken: The provided token has expired.", ["keys"], {}, "aws configure --profile keys"),
        ("No valid credential sources found", [], LOST, "`aws configure list-profiles`"),
        (MFA, ["mfa"], {}, "export-credentials --profile mfa --format env"),
        (MFA, ["behind it"], {}, "export-credentials --profile 'behind it' --format env"),
        (MFA, [], {**LOST, "AWS_PROFILE": "mfa"}, "export-credentials --profile mfa --format env"),
        ("failed to get shared config profile, nobody", ["nobody"], {}, "`aws configure list-profiles`"),
    ],
)
def test_what_terraform_lacks_has_the_same_remedies(
    stage: Stage,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    arguments: list[str],
    variables: dict[str, str | None],
    hint: str,
) -> None:
    with config.open("a") as file:
        file.write(f"[profile 'behind it']\n{ROLE}source_profile = mfa\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name)
    stage.runner = lambda arguments, **_: Completed(tuple(arguments), 1, "", f"Error: {said}")
    outcome = stage.launch("ecs-migrate", "--json", *(f"--profile={profile}" for profile in arguments))
    assert outcome.code == outcome.json["exit_code"] == 21, outcome.err
    assert "Terraform has no AWS credentials that work" in outcome.json["message"]
    assert hint in outcome.json["hint"]
    assert ("Terraform nor" in outcome.json["hint"]) == (said == MFA)
