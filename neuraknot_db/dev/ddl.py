"""`alembic/schema.sql`: the newest schema as plain SQL, for what reads no revisions; pg_dump's output, made stable."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlalchemy.engine import Connection

from neuraknot_db import settings
from neuraknot_db.database import parameters, sql_text
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

# Of the session, of psql, and a text that each server's own files hold.
_LEFT_OUT = re.compile(r"SET |SELECT |\\|COMMENT ON EXTENSION ")
_TABLE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?P<table>.+) \(\n")
_NAME = r'(?:\w+|"(?:[^"\n]|"")+")'
_KEY = re.compile(rf"ALTER TABLE ONLY (?P<table>.+)\n    ADD (?P<key>CONSTRAINT {_NAME} (?:PRIMARY KEY|UNIQUE) .+)")
_KIND = re.compile(r"COMMENT ON CONSTRAINT|\w+ \w+")


def over_tls(connection: Connection) -> bool:
    """Whether a connection is encrypted."""
    return bool(connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar())


def dump(where: Settings, *, tls: bool) -> str:
    """Return what pg_dump says of a database's schema, without the tables that are ours.

    Args:
        where: the database; nobody else changes it.
        tls: whether our own connection to it is encrypted: a pg_dump that has no TLS is left out then.

    Raises:
        UsageError: there is no pg_dump, or none that works: an older one does not read a newer server.
    """
    details = ["none is on the PATH, and the embedded PostgreSQL's has no TLS, or is not installed"]
    for program in programs(tls=tls):
        done = _run(program, where)
        if not done.returncode:
            return done.stdout.decode()
        details = done.stderr.decode(errors="replace").splitlines()[-3:]
    raise UsageError(
        "alembic/schema.sql can't be made: no pg_dump could read the scratch database.",
        hint="Install PostgreSQL's client programs, no older than the server; or unset DATABASE_URL and DB_*, and the"
        " embedded PostgreSQL is used.",
        details=tuple(details),
    )


def programs(*, tls: bool) -> Iterator[str]:
    """Return each pg_dump: the embedded PostgreSQL's, which has no TLS, and the one on the PATH."""
    package = importlib.util.find_spec(devserver.PACKAGE)
    names = ["pg_dump"]
    if package and package.origin and not tls:
        names.insert(0, str(Path(package.origin).parent / "pginstall" / "bin" / "pg_dump"))
    return filter(None, map(shutil.which, names))


def _run(program: str, where: Settings) -> subprocess.CompletedProcess[bytes]:
    # Neither on the command line nor in the environment: other users can read the first, and some options have no name
    # in the second. The file can be read by nobody else.
    named = {"host": where.host, "port": where.port, "user": where.user, "dbname": where.database} | dict(where.options)
    options = parameters.startup(str(named.pop("options", "")))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as service:
        service.write("[scratch]\n" + "".join(f"{name}={value}\n" for name, value in named.items()))
        service.flush()
        more = {"PGSERVICEFILE": service.name, "PGSERVICE": "scratch", "PGOPTIONS": options, "PGTZ": "UTC"}
        if where.password is not None:
            more["PGPASSWORD"] = where.password  # a line of the file holds no blank at its end, nor a line break
        env = settings.of_a_program(more)
        return subprocess.run(  # noqa: S603 - PostgreSQL's own program
            [program, *_WHAT], stdin=subprocess.DEVNULL, capture_output=True, check=False, env=env
        )


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
    return _HEAD.format(revision=revision) + "".join(_spaced(written))


def _without_names_of_not_null(statement: Statement) -> str:
    """Return its text: from PostgreSQL 18 on a NOT NULL has a name, which older servers don't keep."""
    text, tokens = statement.text, statement.tokens
    for one, then, last in zip(reversed(tokens[:-3]), reversed(tokens[:-1]), reversed(tokens), strict=False):
        if (one.text, then.text, last.text) == ("CONSTRAINT", "NOT", "NULL"):
            text = text[: one.start - statement.start] + text[then.start - statement.start :]
    return text


def _spaced(written: Iterable[str]) -> Iterator[str]:
    """Yield each statement, after an empty line unless it is a comment or short and of the same kind."""
    before: list[str] = []
    for text in written:
        kind = _KIND.findall(text)[:1]
        close = kind == ["COMMENT ON"] or (kind == before and text.count("\n") < 2)
        yield ("" if close else "\n") + text + ";\n"
        before = kind
