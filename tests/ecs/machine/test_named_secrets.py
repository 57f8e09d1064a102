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
        ("Authorization: Token abc was sent", "Authorization *** was sent"),
        (f"curl -u bob:{SECRET} https://idp", "curl -u *** https://idp"),
        (f"curl --user='bob:{SECRET}' https://idp", "curl --user=*** https://idp"),
        (f"curl --proxy-user bob:{SECRET} https://idp", "curl --proxy-user *** https://idp"),
        ("sent bearer abc there", "sent bearer *** there"),
        ("sent Basic dXNlcjpwYXNz there", "sent Basic *** there"),
    ],
)
def test_a_login_of_a_url_or_a_header_is_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Password for bob: {SECRET} was refused", "Password for bob *** was refused"),
        (f"Password for 'https://bob@github.com': {SECRET}", "Password for 'https://***@github.com' ***"),
        (f"Enter passphrase for key '/home/bob/.ssh/id': {SECRET}", "Enter passphrase for key '/home/bob/.ssh/id' ***"),
        ("aws_secret_access_key abc", "aws_secret_access_key ***"),
        ("client_secret abc, session_token def", "client_secret *** session_token ***"),
        ("run --password no-one1 failed", "run --password *** failed"),
        ("pass: x", "pass ***"),
        ("DB_PASS=x", "DB_PASS ***"),
        ("pw=x", "pw ***"),
        ("Passwort: x", "Passwort ***"),
        ("bad -----BEGIN EC PRIVATE KEY-----\nMIIEow ...", "bad ***"),
        ("\u30d1\u30b9\u30ef\u30fc\u30c9: x", "\u30d1\u30b9\u30ef\u30fc\u30c9 ***"),
    ],
)
def test_other_ways_to_name_it_are_known(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


KEY = "-----BEGIN {0}PRIVATE KEY{1}-----{2}MIIEowIBAAKCAQEA{2}aGVsbG8={2}-----END {0}PRIVATE KEY{1}-----"


@pytest.mark.parametrize(
    "secret",
    [
        KEY.format("RSA ", "", "\n"),
        KEY.format("", "", " "),
        KEY.format("PGP ", " BLOCK", "\\n"),
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        *("hvs.CAESIJ1234567890", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "github_pat_11ABCDEFG0abcdefgh"),
        *("glpat-ABCDEFGHIJ1234567890", "xoxb-123456789012-abcdefgh", "xoxe.xoxp-1-abcdefghij", "npm_abcdefgh1234"),
        *("sk-ant-api03-abcdefgh1234", "sk_live_abcdefgh1234", "IQoJb3JpZ2luX2VjE/+=", "FwoGZXIvYXdzEJ/+="),
    ],
)
@pytest.mark.parametrize("around", ["got {} there", "got '{}' there", "got key={} there", "got private_key: {} there"])
def test_its_shape_gives_it_away(secret: str, around: str) -> None:
    shown = without_secrets(around.replace("{}", secret))
    assert shown.startswith("got ")
    assert shown.endswith(" there")
    assert secret[-12:] not in shown
    assert "MII" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "User: arn:aws:sts::1:assumed-role/token/x is not authorized to perform: secretsmanager:GetSecretValue on"
        " resource: arn:aws:secretsmanager:eu-west-1:1:secret:ci/keys because no identity-based policy allows it",
        "perform: secretsmanager:GetSecretValue on resource: arn:aws:secretsmanager:eu-west-1:...:secret:ci/keys",
        "ssm:GetParameter on resource: arn:aws-us-gov:ssm:us-gov-west-1:1:parameter/db-password",
        "SecretId: arn:aws:secretsmanager:eu-west-1:1:secret:x-AbCdEf",
        "AWS_SECRET_ACCESS_KEY must be set, and --token is required",
        "AWS_SESSION_TOKEN is not set, or aws_session_token has expired",
        "no basic auth credentials; basic authentication is off; the bearer token has expired",
        "docker run -u root x; ssh -u https://idp.corp",
        "-----BEGIN CERTIFICATE----- MIIE -----END CERTIFICATE-----",
        "ASIAIOSFODNN7EXAMPLE and AKIAIOSFODNN7EXAMPLE",
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
        "arn:aws:",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN ",
        "basic a",
        " -u a:",
        "a_",
        "password for a ",
        "eyJ",
        "gl",
    ):
        without_secrets(text * (20_000 // len(text)))
        without_secrets("password" + text * (20_000 // len(text)))
    assert time.process_time() - began < 2.0
