"""`alembic/schema.sql`: the newest schema as plain SQL, for what reads no revisions; pg_dump's output, made stable."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from neuraknot_db.database import sql_text
from neuraknot_db.database.sql_text import Statement
from neuraknot_db.dev import devserver
from neuraknot_db.errors import UsageError
from neuraknot_db.history import tables
from neuraknot_db.settings import Settings

_HEAD = """\
-- The schema after revision {revision}, as plain SQL. Don't edit it: neuraknot-db snapshot writes it anew.

SET client_encoding = 'UTF8';
SET check_function_bodies = false;  -- functions come before the tables that they read
"""
_WHAT = (
    "--schema-only",
    "--no-owner",
    "--no-privileges",
    "--no-password",
    "--encoding=UTF8",
    "--exclude-table=public.alembic_version",
    f"--exclude-schema={tables.SCHEMA}",
)

# Of the session, or of the server: the last is a comment that each server's own files hold.
_LEFT_OUT = re.compile(r"\\|SET |SELECT |COMMENT ON EXTENSION ")
_OF_A_KIND = re.compile(r"COMMENT ON CONSTRAINT|\w+ \w+|")
_TABLE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?P<table>.+) \(\n")
_KEY = re.compile(
    r"ALTER TABLE ONLY (?P<table>.+)\n    ADD (?P<key>CONSTRAINT (?:\w+|\"(?:[^\"\n]|\"\")+\") (?:PRIMARY KEY|UNIQUE) .+)"
)


def dump(where: Settings) -> str:
    """Return what pg_dump says of a database's schema: the embedded PostgreSQL's, or the one on the PATH.

    Args:
        where: the database; one that `migrate` has upgraded.

    Raises:
        UsageError: there is no pg_dump, or it failed, as an older one does with a newer server.
    """
    details = ["there is none: pip install '.[dev]' brings one"]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as service:
        # Not on the command line, which every user can read; the file is ours alone.
        given = {"host": where.host, "port": where.port, "user": where.user, "dbname": where.database, **where.options}
        service.write("[scratch]\n" + "".join(f"{name}={value}\n" for name, value in given.items()))
        service.flush()
        environ = os.environ | {"PGSERVICEFILE": service.name, "PGSERVICE": "scratch", "LC_ALL": "C"}
        if where.password is not None:
            environ["PGPASSWORD"] = where.password
        for program in _programs():
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
                [program, *_WHAT], stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environ
            )
            if not done.returncode:
                return done.stdout.decode()
            details = done.stderr.decode(errors="replace").splitlines()[-3:]
    raise UsageError(
        "alembic/schema.sql can't be made: no pg_dump could read the scratch database.",
        hint="Install PostgreSQL's client programs, of the server's version or newer; or unset DATABASE_URL and DB_*,"
        " and the embedded PostgreSQL is used.",
        details=tuple(details),
    )


def _programs() -> Iterator[str]:
    """Yield each pg_dump; the embedded one has no TLS."""
    embedded = importlib.util.find_spec(devserver.PACKAGE)
    if embedded and embedded.origin:
        yield str(Path(embedded.origin).parent / "pginstall" / "bin" / "pg_dump")
    if installed := shutil.which("pg_dump"):
        yield installed


def render(revision: str, dumped: str) -> str:
    """Return the file's text: statements only, keys within their tables, nothing that another server would not say.

    Args:
        revision: after which the database was dumped.
        dumped: what `dump` returned.
    """
    written: list[str] = []
    places: dict[str, int] = {}
    for statement in sql_text.statements(dumped):
        text = _without_names_of_not_null(statement)
        if _LEFT_OUT.match(text):
            continue
        if (key := _KEY.fullmatch(text)) and (place := places.get(key["table"])) is not None:
            written[place] = written[place].removesuffix("\n)") + f",\n    {key['key']}\n)"
            continue
        if (table := _TABLE.match(text)) and text.endswith("\n)"):
            places[table["table"]] = len(written)
        written.append(text)
    return _HEAD.format(revision=revision) + "".join(f"{blank}{text};\n" for blank, text in _spaced(written))


def _without_names_of_not_null(statement: Statement) -> str:
    """Return its text: from PostgreSQL 18 on, NOT NULL has a name that no other server keeps."""
    text, tokens = statement.text, statement.tokens
    for one, then, last in zip(reversed(tokens[:-3]), reversed(tokens[:-1]), reversed(tokens), strict=False):
        if (one.text, then.text, last.text) == ("CONSTRAINT", "NOT", "NULL"):
            text = text[: one.start - statement.start] + text[then.start - statement.start :]
    return text


def _spaced(written: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each statement after an empty line, or none: between comments, or short statements of a kind."""
    before = ""
    for text in written:
        kind = _OF_A_KIND.match(text)[0]
        close = kind == "COMMENT ON" or (kind == before and text.count("\n") < 2)
        yield "" if close else "\n", text
        before = kind
