"""The password is never shown, and a message is never spoiled for it."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from neuraknot_db import console
from tests.db.conftest import ROOT, Database, Project

ORDINARY = 'correct "horse"'


@pytest.mark.parametrize(
    ("password", "text", "shown"),
    [
        ("hunter2", "xhunter2y, 'hunter2'", "x***y, '***'"),
        ("o", "error: no role o on chat", "error: no role o on chat"),
        ("o", "ALTER ROLE app PASSWORD 'o' VALID", "ALTER ROLE app PASSWORD '***' VALID"),
        ("o", "password=o host=oslo", "password=*** host=oslo"),
        ("app", "postgresql://app:app@db/chat as app", "postgresql://app:***@db/chat as app"),
        ("app", "password=apples", "password=apples"),
        ("db.example", "chat on db.example:5432", "chat on db.example:5432"),
        ("neuraKnot", "hint: neuraknot-db create_db neuraKnot", "hint: neuraknot-db create_db neuraKnot"),
    ],
)
def test_what_is_hidden(monkeypatch: pytest.MonkeyPatch, password: str, text: str, shown: str) -> None:
    for name, value in {"HOST": "db.example", "USER": "app", "NAME": "chat", "PASSWORD": password}.items():
        monkeypatch.setenv(f"DB_{name}", value)
    console._secret.cache_clear()
    try:
        assert console.redacted(text) == shown
    finally:
        console._secret.cache_clear()


@pytest.mark.parametrize("password", ["o", "postgres", "neuraKnot"])
def test_messages_stay_readable(database: Database, password: str) -> None:
    def run(*arguments: str, name: str) -> str:
        environ = {"DB_HOST": database.host, "DB_PASSWORD": password, "DB_NAME": name}
        return database.neuraknot_db(*arguments, cwd=ROOT, DATABASE_URL="", **environ).err

    missing = run("current", name="neuraKnot_missing")
    assert missing.startswith("error: There is no database neuraKnot_missing on this server.\n")
    assert "hint: Create the database: neuraknot-db create_db" in missing
    greeting = f"{database.name} on {database.host} as postgres, PostgreSQL"
    assert greeting in run("upgrade", "001", name=database.name)


def test_an_ordinary_password_is_hidden_in_whatever_a_revision_says(
    database_at_head: Database, project: Project
) -> None:
    project.add(
        "005", f"COMMENT ON TABLE public.users IS '{ORDINARY}'", f"DROP TABLE users; -- {ORDINARY}", after="004"
    )
    url = database_at_head.url.replace("postgres@", f"postgres:{quote(ORDINARY)}@")
    for command in (["plan"], ["plan", "--json"], ["lint", "005"], ["upgrade", "head"], ["log"], ["log", "--json"]):
        done = database_at_head.neuraknot_db(*command, cwd=project.root, DATABASE_URL=url)
        assert done.code in {0, 3}, done.err
        assert "horse" not in done.out + done.err, command
        if command == ["plan"]:
            assert "***" in done.out
        if "--json" in command:
            json.loads(done.out)
    # A script for psql is what the revision holds, byte for byte.
    script = database_at_head.neuraknot_db("upgrade", "004:005", "--sql", cwd=project.root, DATABASE_URL=url).out
    assert ORDINARY in script


def test_a_password_of_digits_leaves_json_whole(database_at_head: Database) -> None:
    url = database_at_head.url.replace("postgres@", "postgres:2026@")
    done = database_at_head.neuraknot_db("log", "--json", DATABASE_URL=url)
    assert {entry["revision"] for entry in json.loads(done.out)} == {"001", "002", "003", "004"}
