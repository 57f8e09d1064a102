"""What a stranger's program prints of secrets that nobody here knows is hidden by the words before it."""

from __future__ import annotations

import json
import time

import pytest

from launcher.machine.redaction import without_secrets

SECRET = "wJalrXUt/nFEMI+K7=="
NAMES = (
    "SecretAccessKey",
    "SessionToken",
    "aws_secret_access_key",
    "PASSWORD",
    "db-passwd",
    "client_secret",
    "api-key",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "around",
    [
        *(
            "{name}={}",
            "{name}: {}",
            "{name} : {}",
            "{name} => {}",
            "{name}->{}",
            "{name}:='{}'",
            "{name} '{}' is wrong",
        ),
        *(
            '{name}="it\'s \\" {}"',
            "{name}: 'one, {}'",
            '"{name}" : "{}',
            "?a=b&{name}={}&c=d",
            "run --{name} {} failed",
        ),
        *("<{name}>{}</{name}>", '<a:{name} type="x">one\ntwo {}</a:{name}>', "{name}\n  =\n  {}"),
    ],
)
def test_behind_its_name_it_is_hidden(name: str, around: str) -> None:
    text = around.replace("{name}", name).replace("{}", SECRET)
    shown = without_secrets(f"before {text} after")
    assert SECRET not in shown
    assert "nFEMI" not in shown
    assert shown.startswith("before ")
    assert f"{name} ***" in shown


@pytest.mark.parametrize(
    "value",
    [
        {"Version": 1, "SecretAccessKey": SECRET},
        [{"Credentials": {"SessionToken": f'"{SECRET}"'}}],
        {"password": SECRET},
    ],
)
def test_in_json_it_is_hidden_at_any_depth(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2), json.dumps(json.dumps(value)), repr(value)):
        assert "nFEMI" not in without_secrets(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"GET https://bob:{SECRET}@idp.corp/saml", "GET https://***@idp.corp/saml"),
        (f"GET https://bob:p@ss/{SECRET}@idp.corp:8443/saml", "GET https://***@idp.corp:8443/saml"),
        ("clone https://ghp_x@github.com/a", "clone https://***@github.com/a"),
        (f"Authorization: Bearer {SECRET}", "Authorization ***"),
        (f"authorization: basic {SECRET} was sent", "authorization *** was sent"),
        (f"sent bearer {SECRET} there", "sent bearer *** there"),
        (f"Bearer: {SECRET}", "Bearer ***"),
    ],
)
def test_a_login_of_a_url_or_a_header_is_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the vault is locked",
        "password is wrong",
        "Token for https://corp.example/start does not exist",
        "Error when retrieving token from sso: Token has expired and refresh failed",
        "Missing required key in response: 'SecretAccessKey'",
        "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY",
        "https://idp.corp:8443/saml failed, as did https://host/a@b",
        "AccessKeyId: AKIAEXAMPLE",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_no_text_takes_long() -> None:
    began = time.process_time()
    for text in (
        "token",
        "a",
        "://",
        "://a:",
        "password ",
        "token<",
        'token"',
        "bearer ",
        "-a",
        "-",
        "--token",
        "password\t",
        "\\",
    ):
        without_secrets(text * (20_000 // len(text)))
        without_secrets("password" + text * (20_000 // len(text)))
    assert time.process_time() - began < 2.0
