"""The password is never shown, and a message is never spoiled for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from neuraknot_db import settings
from neuraknot_db.database import redaction
from tests.db.conftest import Database, Project
from tests.db.measuring import measured
from tests.projects import PROJECT

ORDINARY = 'correct "horse"'


@pytest.fixture(autouse=True)
def known_anew() -> Iterator[None]:
    """What one test's environment holds is no secret of the next."""
    redaction.forget()
    yield
    redaction.forget()


@pytest.mark.parametrize(
    ("password", "text", "shown"),
    [
        ("hunter2", "xhunter2y, 'hunter2'", "x***y, '***'"),
        ("o", "Error: no role o on chat", "Error: no role o on chat"),
        ("o", "ALTER ROLE app PASSWORD 'o' VALID", "ALTER ROLE app PASSWORD '***' VALID"),
        ("o", "password=o host=oslo", "password=*** host=oslo"),
        ("app", "postgresql://app:app@db/chat as app", "postgresql://app:***@db/chat as app"),
        ("app", "password=apples", "password=apples"),
        ("db.example", "chat on db.example:5432", "chat on db.example:5432"),
        ("neuraKnot", "Hint: neuraknot-db create_db neuraKnot", "Hint: neuraknot-db create_db neuraKnot"),
    ],
)
def test_what_is_hidden(monkeypatch: pytest.MonkeyPatch, password: str, text: str, shown: str) -> None:
    for name, value in {"HOST": "db.example", "USER": "app", "NAME": "chat", "PASSWORD": password}.items():
        monkeypatch.setenv(f"DB_{name}", value)
    redaction.forget()
    assert redaction.redacted(text) == shown


@pytest.mark.parametrize("password", ["o", "postgres", "neuraKnot"])
def test_messages_stay_readable(database: Database, password: str) -> None:
    def run(*arguments: str, name: str) -> str:
        environ = {"DB_HOST": database.host, "DB_PASSWORD": password, "DB_NAME": name}
        return database.neuraknot_db(*arguments, cwd=PROJECT, DATABASE_URL="", **environ).err

    missing = run("current", name="neuraKnot_missing")
    assert missing.startswith("Error: There is no database neuraKnot_missing on this server.\n")
    assert "Hint: Create the database: neuraknot-db create_db" in missing
    greeting = f"{database.name} on {database.host} as postgres, PostgreSQL"
    assert greeting in run("upgrade", "001", name=database.name)


@pytest.mark.slow
def test_an_ordinary_password_is_hidden_in_whatever_a_revision_says(
    database_at_head: Database, project: Project
) -> None:
    project.add(
        "005", f"COMMENT ON TABLE public.users IS '{ORDINARY}'", f"DROP TABLE users; -- {ORDINARY}", after="004"
    )
    measured(project.root, database_at_head)
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


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": "postgresql://u:p%40ss%2Fw0rd@h/d"},
        {"DATABASE_URL": "postgresql://u:p%40ss/w0rd@h/d"},
        {"DATABASE_URL": "postgresql://u@h/d?password=p%40ss%2fw0rd&sslmode=require"},
        {"DATABASE_URL": "postgresql://u@h/d?sslpassword=p%40ss/w0rd"},
        {"DATABASE_URL": "no url at all://u:p@ss/w0rd@h/d"},
        {"DATABASE_URL": "postgresql://u:other@h/d", "DB_PASSWORD": "p@ss/w0rd"},
        {"DB_HOST": "h", "PGPASSWORD": "p@ss/w0rd"},
    ],
)
def test_each_place_that_a_password_comes_from(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for spelled in ("p@ss/w0rd", "p%40ss%2Fw0rd", "p%40ss/w0rd"):
        assert redaction.redacted(f"it is {spelled}.") == "it is ***."
    assert "p@ss/w0rd" in settings.secrets(environ)


WORST = 'p@ss/w\'rd% \\ "q" 日本'
REVISION = """
def upgrade() -> None:
    import json, sys, urllib.parse, warnings

    secret = {secret!r}
    spelled = [secret, urllib.parse.quote(secret), urllib.parse.quote_plus(secret), repr(secret), json.dumps(secret)]
    for each in [*spelled, secret.replace("'", "''"), secret.encode()]:
        print(each, file=sys.stderr)
        print(each)
        warnings.warn(f"{{each}}")
        quoted = str(each).replace("'", "''").replace("%", "%%")
        op.execute(f"DO $do$ BEGIN RAISE NOTICE '{{quoted}}'; END $do$")
    {failure}
"""
FAILURES = {
    "an exception": "raise ValueError(spelled)",
    "the server's word": "op.execute(f\"SELECT 'x' WHERE '{quoted}' = 1\")",
    "a statement that is shown": 'op.execute(f"SELECT nothing -- {secret}")',
    "a defect of ours": "import neuraknot_db.migrate.failures as f; f.explained = None; raise RuntimeError(secret)",
}


def connects_with(database: Database, way: str, secret: str, folder: Path) -> dict[str, str]:
    """The environment of a way in; the server lets everybody in, whatever the password."""
    where = {"DB_HOST": database.host, "DB_PORT": str(database.port), "DB_NAME": database.name, "DATABASE_URL": ""}
    if way == "url":
        return {"DATABASE_URL": database.url.replace("postgres@", f"postgres:{quote(secret, safe='')}@")}
    if way != "PGPASSFILE":
        return {**where, way: secret}
    path = folder / "pgpass"
    path.write_text("*:*:*:*:" + secret.replace("\\", "\\\\").replace(":", "\\:") + "\n", encoding="utf-8")
    path.chmod(0o600)
    return {**where, "PGPASSFILE": str(path)}


@pytest.mark.parametrize("way", ["url", "DB_PASSWORD", "PGPASSWORD", "PGPASSFILE"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_revision_that_quotes_it_in_every_spelling(
    database_at_head: Database, project: Project, tmp_path: Path, way: str, failure: str
) -> None:
    path = project.add("005", "", after="004")
    path.write_text(
        path.read_text().partition("def upgrade")[0] + REVISION.format(secret=WORST, failure=FAILURES[failure]),
        encoding="utf-8",
    )
    environ = {**connects_with(database_at_head, way, WORST, tmp_path), "NEURAKNOT_RESULT": "json"}
    told = []
    for command in (["alembic"], ["neuraknot-db", "--raiseerr"]):
        done = database_at_head.program(*command, "upgrade", "head", cwd=project.root, **environ)
        assert done.code in {1, 7}, done.err
        assert "***" in done.err
        assert ("Traceback" in done.err) == ("--raiseerr" in command or failure == "a defect of ours")
        told += [done.out, done.err]
    told.append(database_at_head.neuraknot_db("log", "--json", cwd=project.root).out)
    told.append(str(database_at_head.value("SELECT string_agg(l::text, '') FROM neuraknot_db.migration_log l")))
    for text in told:
        for spelled in (
            *(WORST, quote(WORST), quote_plus(WORST), repr(WORST)[1:-1], json.dumps(WORST)[1:-1], shlex.quote(WORST)),
            *(WORST.replace("'", "''"), repr(WORST.encode())[2:-1], "p@ss", "日本", "\\u65e5", "%E6%97%A5"),
        ):
            assert spelled not in text, text
