"""The credentials: found in AWS's own order, asked for where somebody can answer, and missed with the reason."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from launcher.aws import client
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
