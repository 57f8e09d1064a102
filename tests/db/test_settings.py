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


def test_a_parameter_wins_over_the_urls_own_part_as_in_libpq() -> None:
    url = "postgresql://u:secret@h:1/db?host=other&port=2&user=v&password=hush&dbname=chat"
    found = settings.read({"DATABASE_URL": url})
    assert found == settings.Settings(host="other", port=2, user="v", password="hush", database="chat")
    assert found.place == "chat on other:2"


def test_blanks_around_a_value_are_no_part_of_it_but_of_a_password() -> None:
    found = settings.read({"DATABASE_URL": " postgresql://h/chat\n"})
    assert (found.host, found.database) == ("h", "chat") if found else None
    given = {"DB_HOST": " h\n", "DB_PORT": "6543\n", "DB_USER": "app ", "DB_NAME": "chat\n", "DB_SSLMODE": "require\n"}
    assert settings.read({**given, "DB_PASSWORD": " hush\n"}) == settings.Settings(
        host="h", port=6543, user="app", password=" hush\n", database="chat", options={"sslmode": "require"}
    )


def test_the_variables_for_tls_hold_where_the_url_says_nothing_of_it() -> None:
    tls = {"DB_SSLMODE": "verify-full", "DB_SSLROOTCERT": "/ca.pem"}
    silent = settings.read({"DATABASE_URL": "postgresql://h/chat", **tls})
    explicit = settings.read({"DATABASE_URL": "postgresql://h/chat?sslmode=disable&sslrootcert=/b.pem", **tls})
    assert silent is not None
    assert explicit is not None
    assert silent.options == {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}
    assert explicit.options == {"sslmode": "disable", "sslrootcert": "/b.pem"}


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    for environ in ({"DATABASE_URL": "postgresql://[::1]:6543/chat"}, {"DB_HOST": "::1", "DB_PORT": "6543"}):
        found = settings.read({"DB_NAME": "chat", **environ})
        assert found is not None
        assert (found.host, found.place) == ("::1", "chat on [::1]:6543")


def test_where_only_the_scheme_is_wrong_the_hint_is_about_that() -> None:
    with pytest.raises(UsageError, match="starts with mysql://") as caught:
        settings.read({"DATABASE_URL": "mysql://u:hush@h/db"})
    assert "PostgreSQL" in str(caught.value.hint)
    assert "percent" not in str(caught.value.hint)


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
        {"DATABASE_URL": "postgresql://u:hush@h/db?hostaddr=10.0.0.1"},
        {"DATABASE_URL": "postgresql://u:hush@h/db?service=other"},
        {"DATABASE_URL": "postgresql://u:hush@h/db?database=other"},
        {"DATABASE_URL": "postgresql://u:hush@h/db?async=1"},
        {"DATABASE_URL": "postgresql://u@h/db?password=hush&port=x"},
        {"DATABASE_URL": "postgresql://u:hush@h/db", "DB_SSLMODE": "on"},
        {"DB_HOST": "h", "DB_PASSWORD": "hush", "DB_PORT": "abc"},
        {"DB_HOST": "h", "DB_PASSWORD": "hush", "DB_PORT": "0"},
        {"DB_HOST": "h", "DB_PASSWORD": "hush", "DB_SSLMODE": "on"},
        {"DB_PASSWORD": "hush"},
        {"DATABASE_URL": "postgresql://u:hush@h/db", "PGHOSTADDR": "10.0.0.1"},
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
    given["NEURAKNOT_BATCH_DURATION"] = "1s"
    assert settings.limits(given) == settings.Limits(500, 3_600_000, batch_duration=1_000, patience=120.0)
    assert settings.milliseconds("0", "x") == 0


@pytest.mark.parametrize("text", ["", "2", "s", "-1s", "1.5s", "2 weeks", "2s;", None])
def test_what_is_no_duration(text: str | None) -> None:
    with pytest.raises(UsageError, match=r"x is .* not a valid duration"):
        settings.milliseconds(text, "x")


@pytest.mark.parametrize("name", ["x" * 64, "あ" * 22])
def test_a_name_that_the_server_would_cut(name: str) -> None:
    for environ in ({"DB_HOST": "h", "DB_NAME": name}, {"DATABASE_URL": f"postgresql://u@h/{name}"}):
        with pytest.raises(UsageError, match="longer than 63 bytes"):
            settings.read(environ)
        found = settings.read({key: value.replace(name, name[:-1]) for key, value in environ.items()})
        assert found is not None
        assert found.database == name[:-1]
