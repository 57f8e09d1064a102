"""The environment, read once: every variable, every mistake, and no password shown."""

from __future__ import annotations

import pytest

from neuraknot_db import settings
from neuraknot_db.errors import UsageError

PASSWORD = "p%4@/:'\" ?#&\\s"
URL = "postgresql://app:p%254%40%2F%3A%27%22%20%3F%23%26%5Cs@db.example:6543/chat?sslmode=require"


def test_nothing_named_is_nothing() -> None:
    assert settings.read({}) is None
    assert settings.read({"DATABASE_URL": "", "DB_HOST": ""}) is None


def test_the_go_services_variables() -> None:
    found = settings.read(
        {
            "DB_HOST": "db.example",
            "DB_PORT": "6543",
            "DB_USER": "app",
            "DB_PASSWORD": PASSWORD,
            "DB_NAME": "chat",
            "DB_SSLMODE": "verify-full",
            "DB_SSLROOTCERT": "/ca.pem",
            "NEURAKNOT_ENV": "dev",
        }
    )
    assert found == settings.Settings(
        host="db.example",
        port=6543,
        user="app",
        password=PASSWORD,
        database="chat",
        options={"sslmode": "verify-full", "sslrootcert": "/ca.pem"},
        environment="dev",
        environment_named=True,
    )


def test_defaults() -> None:
    found = settings.read({"DB_HOST": "db.example"})
    assert found is not None
    assert (found.port, found.user, found.password, found.database) == (5432, "postgres", None, "neuraKnot")


def test_a_url_holds_any_password() -> None:
    found = settings.read({"DATABASE_URL": URL})
    assert found is not None
    assert (found.host, found.port, found.user, found.password) == ("db.example", 6543, "app", PASSWORD)
    assert (found.database, dict(found.options)) == ("chat", {"sslmode": "require"})
    assert PASSWORD not in repr(found)
    assert PASSWORD not in found.place


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_schemes(scheme: str) -> None:
    found = settings.read({"DATABASE_URL": f"{scheme}://localhost/chat"})
    assert found is not None
    assert found.database == "chat"


def test_a_url_may_name_a_socket() -> None:
    found = settings.read({"DATABASE_URL": "postgresql://postgres@/chat?host=/run/pg&port=6000"})
    assert found is not None
    assert (found.host, found.port, dict(found.options)) == ("/run/pg", 6000, {})


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": "hush"},
        {"DATABASE_URL": "mysql://u:hush@h/db"},
        {"DATABASE_URL": "postgresql://u:hush@h:port/db"},
        {"DATABASE_URL": "postgresql://u:hush@h:99999/db"},
        {"DATABASE_URL": "postgresql://u:hu@sh@h/db"},
        {"DATABASE_URL": "postgresql://u:hush@/db"},
        {"DATABASE_URL": "postgresql://u:hush@h"},
        {"DATABASE_URL": "postgresql://u:hush@h/db?sslmode=maybe"},
        {"DATABASE_URL": "postgresql://u:hush@h/db?sslmode=a&sslmode=b"},
        {"DB_HOST": "h", "DB_PASSWORD": "hush", "DB_PORT": "abc"},
        {"DB_HOST": "h", "DB_PASSWORD": "hush", "DB_PORT": "0"},
        {"DB_HOST": "h", "DB_PASSWORD": "hush", "DB_SSLMODE": "on"},
        {"DB_PASSWORD": "hush"},
    ],
)
def test_a_mistake_is_a_usage_error_that_shows_no_password(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        settings.read(environ)
    shown = f"{caught.value.message} {caught.value.hint} {caught.value.details}"
    assert caught.value.hint
    assert "hush" not in shown
    assert "sh@h" not in shown


@pytest.mark.parametrize(
    ("name", "production"),
    [("dev", False), ("DEV", False), ("test", False), ("prod", True), ("staging", True), ("devv", True), (None, True)],
)
def test_only_known_environments_are_no_production(name: str | None, production: bool) -> None:
    found = settings.read({"DB_HOST": "h", **({"NEURAKNOT_ENV": name} if name else {})})
    assert found is not None
    assert settings.is_production(found.environment) is production
    assert found.environment_named is (name is not None)


def test_limits_and_their_defaults() -> None:
    assert settings.limits({}) == settings.Limits(lock_timeout=2_000, statement_timeout=900_000, patience=600.0)
    given = {"NEURAKNOT_LOCK_TIMEOUT": "500ms", "NEURAKNOT_STATEMENT_TIMEOUT": "1h", "NEURAKNOT_LOCK_WAIT": "2min"}
    assert settings.limits(given) == settings.Limits(500, 3_600_000, 120.0)
    assert settings.milliseconds("0", "x") == 0


@pytest.mark.parametrize("text", ["", "2", "s", "-1s", "1.5s", "2 weeks", "2s;", None])
def test_what_is_no_duration(text: str | None) -> None:
    with pytest.raises(UsageError, match=r"x is .* no duration"):
        settings.milliseconds(text, "x")
