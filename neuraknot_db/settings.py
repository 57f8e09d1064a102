"""The environment variables; the only module that reads them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from neuraknot_db.errors import UsageError

DEFAULT_DATABASE = "neuraKnot"
DEFAULT_PORT = 5432
DEFAULT_USER = "postgres"

NON_PRODUCTION = frozenset({"dev", "development", "local", "test", "ci"})
"""The environments where a reset asks only for the database's name; any other is production."""

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SCHEMES = frozenset({"postgres", "postgresql", "postgresql+psycopg2"})
_UNITS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000}
_LONGEST = 2**31 - 1
_FURTHEST = 400 * 86_400
_LONGEST_NAME = 63
_NAME = re.compile(r"[\w.][\w .-]*")
_VARIABLES = ("DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME", "DB_SSLMODE", "DB_SSLROOTCERT")
# The first ones lead to another server than messages name; the others are psycopg2's, not libpq's.
_REFUSED = ("hostaddr", "service", "servicefile", "dsn", "database", "async", "connection_factory", "cursor_factory")


@dataclass(frozen=True)
class Settings:
    """Where the database is, how to connect to it, and which environment it belongs to.

    Attributes:
        host: a host name, an address, or the folder of a Unix socket.
        port: a TCP port, or the number in the socket's name.
        user: the role to log in as.
        password: may hold any character; None leaves it to libpq (a `.pgpass`, or trust).
        database: the database's name.
        options: further libpq parameters by name, including `sslmode` and `sslrootcert`.
        environment: the environment's name: `dev`, `prod` or whatever the team calls it.
        environment_named: whether NEURAKNOT_ENV sets it, rather than the default.
        embedded: whether this is the development server of `devserver`.
    """

    host: str
    port: int
    user: str
    password: str | None = field(repr=False)
    database: str
    options: Mapping[str, str] = field(default_factory=dict)
    environment: str = "prod"
    environment_named: bool = False
    embedded: bool = False

    @property
    def place(self) -> str:
        """The database in words, without the password."""
        if self.embedded:
            return f"{self.database} on the embedded PostgreSQL"
        if self.host.startswith("/"):
            return f"{self.database} on {self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.database} on {host}:{self.port}"


class Limits(NamedTuple):
    """How long a migration waits; a revision may override the timeouts for its own statements.

    Attributes:
        lock_timeout: milliseconds that a statement waits for a table's lock; never unlimited, since the whole
            application waits behind it.
        statement_timeout: milliseconds that a statement may take, 0 for no limit.
        idle_in_transaction_session_timeout: milliseconds that a transaction may send nothing, 0 for no limit; it holds
            its locks meanwhile.
        batch_duration: milliseconds that a batch of a backfill should take.
        patience: seconds to wait for another migration to end, or, in a backfill, for a standby.
        tries: maximum attempts for a revision that gets no lock.
        pause: seconds until the second attempt; each further pause is twice as long.
    """

    lock_timeout: int = 2_000
    statement_timeout: int = 15 * 60_000
    idle_in_transaction_session_timeout: int = 5 * 60_000
    batch_duration: int = 250
    patience: float = 600.0
    tries: int = 10
    pause: float = 3.0

    @property
    def timeouts(self) -> dict[str, int]:
        """PostgreSQL's parameters among them."""
        return {name: getattr(self, name) for name in TIMEOUTS}


TIMEOUTS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
"""The limits that are parameters of PostgreSQL."""

OF_A_REVISION = (*TIMEOUTS, "batch_duration")
"""Those that a revision may set for itself."""


class Origin(NamedTuple):
    """Who started this run; used by the log and the launcher.

    Attributes:
        image: the container image, by digest.
        git_commit: the commit that the image was built from.
        started_by: the person or the CI job that started it.
        task_metadata_uri: where ECS tells a container about its task.
        result_as_json: whether the last line on standard output is a JSON object.
        environment: the environment's name, unchecked.
    """

    image: str | None
    git_commit: str | None
    started_by: str | None
    task_metadata_uri: str | None
    result_as_json: bool
    environment: str | None


def read(environ: Mapping[str, str] = os.environ) -> Settings | None:
    """Return the settings in the environment, or None if it names no database.

    Raises:
        UsageError: a variable is not valid.
    """
    if environ.get("PGHOSTADDR"):
        # libpq would connect there, whatever host is named.
        raise UsageError("PGHOSTADDR is set, and leads to another server than messages name.", hint="unset PGHOSTADDR")
    # A secret's value often ends with a newline, which is stripped from names; a password may hold any character.
    given = {name: environ.get(name, "") for name in ("DATABASE_URL", *_VARIABLES)}
    given = {name: value if name == "DB_PASSWORD" else value.strip() for name, value in given.items()}
    if given["DATABASE_URL"]:
        found = _from_url(given)
    elif any(given.values()):
        found = _from_variables(given)
    else:
        return None
    if len(os.fsencode(found.database)) > _LONGEST_NAME:
        raise UsageError(
            f"The database's name is longer than {_LONGEST_NAME} bytes: {found.database}.",
            hint=f"PostgreSQL would take its first {_LONGEST_NAME} bytes for it: give it a shorter name.",
        )
    named = environment_name(environ, default="")
    return replace(found, environment=named or found.environment, environment_named=bool(named))


def secrets(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return every password in the environment, used or not, also that of an unreadable DATABASE_URL."""
    url = environ.get("DATABASE_URL", "")
    # The second: an @ that should be encoded but is not.
    written = re.findall(r"://[^:@/]*:([^@]*)@", url) + re.findall(r"(?s)://[^:@/]*:(.*)@", url)
    written += re.findall(r"[?&](?:ssl)?password=([^&#]*)", url)
    read = [form for each in written for form in (unquote(each), unquote_plus(each), each)]
    return [environ.get("DB_PASSWORD", ""), environ.get("PGPASSWORD", ""), *read]


def is_production(environment: str) -> bool:
    """Whether the guards of production apply to this environment."""
    return environment.lower() not in NON_PRODUCTION


def environment_name(environ: Mapping[str, str] = os.environ, *, default: str = "prod") -> str:
    """Return the environment's name: `NEURAKNOT_ENV`, or the default.

    Raises:
        UsageError: it is not a name.
    """
    said = environ.get("NEURAKNOT_ENV", "").strip()
    return valid_environment(said, "NEURAKNOT_ENV is") if said else default


def valid_environment(text: str, what: str) -> str:
    """Return the name of an environment, if it is one.

    Args:
        text: the name.
        what: where it was given, as the beginning of a sentence: `NEURAKNOT_ENV is`.

    Raises:
        UsageError: it is not a name.
    """
    name = text.strip()
    if not (_NAME.fullmatch(name) and len(name) <= _LONGEST_NAME):
        raise UsageError(
            f"{what} {text!r}, which is not a valid environment name.",
            hint="Use letters, digits, - _ and dots, with no - in front: prod",
        )
    return name


def in_github_actions(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether GitHub Actions reads the output."""
    return environ.get("GITHUB_ACTIONS") == "true"


def completing(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a shell asks for completions, by argcomplete's protocol."""
    return "_ARGCOMPLETE" in environ


def of_a_program(more: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a program that is started: ours and more."""
    return {**environ, **more}


def limits(environ: Mapping[str, str] = os.environ) -> Limits:
    """Read `NEURAKNOT_STATEMENT_TIMEOUT`, `_BATCH_DURATION`, `_LOCK_TIMEOUT`, `_LOCK_TRIES`, ..., or defaults.

    Raises:
        UsageError: a duration or the number of tries is not valid.
    """

    def given(name: str, default: float, *, least: int = 0) -> int:
        text = environ.get(name, "").strip()
        return milliseconds(text, name, least=least) if text else int(default)

    default = Limits()
    tries = environ.get("NEURAKNOT_LOCK_TRIES", "").strip() or str(default.tries)
    if not re.fullmatch(r"[1-9][0-9]{0,2}", tries):
        raise UsageError(f"NEURAKNOT_LOCK_TRIES is {tries!r}.", hint="Give a number from 1 to 999.")
    return Limits(
        lock_timeout=given("NEURAKNOT_LOCK_TIMEOUT", default.lock_timeout, least=1),
        statement_timeout=given("NEURAKNOT_STATEMENT_TIMEOUT", default.statement_timeout),
        batch_duration=given("NEURAKNOT_BATCH_DURATION", default.batch_duration, least=1),
        patience=given("NEURAKNOT_LOCK_WAIT", default.patience * 1000) / 1000,
        tries=int(tries),
        pause=given("NEURAKNOT_LOCK_PAUSE", default.pause * 1000) / 1000,
    )


def milliseconds(text: object, name: str, *, least: int = 0) -> int:
    """Return a duration such as `500ms`, `2s`, `15min` or `1h` in milliseconds; a bare 0 is 0.

    Args:
        text: the value.
        name: its name, for the error.
        least: the shortest duration allowed.

    Raises:
        UsageError: it is not a valid duration, or out of range.
    """
    match = re.fullmatch(r"(\d{1,9})\s*(ms|s|min|h)|0", str(text))
    if match is None:
        raise UsageError(
            f"{name} is {text!r}, which is not a valid duration.", hint="Write it as 500ms, 2s, 15min or 1h."
        )
    found = int(match[1]) * _UNITS[match[2]] if match[1] else 0
    if not least <= found <= _LONGEST:
        why = "no limit would stop the whole application" if found < least else "PostgreSQL takes 24 days at most"
        raise UsageError(f"{name} is {text!r}: {why}.", hint="Write it as 500ms, 2s, 15min or 1h.")
    return found


def spelled(duration: int) -> str:
    """Return milliseconds as `milliseconds` reads them, in the largest unit that needs no fraction."""
    unit, length = next((unit, length) for unit, length in reversed(_UNITS.items()) if duration % length == 0)
    return f"{duration // length}{unit}"


def deadline(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return when this run has to be over, in seconds since 1970: `NEURAKNOT_DEADLINE`, or None for no such time.

    Raises:
        UsageError: it is no number, has passed already, or is more than a year away.
    """
    text, now = environ.get("NEURAKNOT_DEADLINE", "").strip(), time.time()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]+)?", text):
        raise UsageError(
            f"NEURAKNOT_DEADLINE is {text!r}, which is not a time in seconds since 1970.",
            hint="In half an hour from now: export NEURAKNOT_DEADLINE=$(($(date +%s) + 1800))",
        )
    if not now < (found := float(text)) < now + _FURTHEST:
        what = "has passed" if found <= now else "is too far away"
        raise UsageError(
            f"The deadline of {utc(found)} {what}: it is {utc(now)} here.",
            hint="Without one: unset NEURAKNOT_DEADLINE. Or a clock is off, here or where it was set: date -u",
        )
    return found


def utc(moment: float) -> str:
    """Return a time in seconds since 1970 as a person reads it: `2026-11-27 17:30:00 UTC`."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"


def origin(environ: Mapping[str, str] = os.environ) -> Origin:
    """Return what the launcher passes on, None for whatever is missing."""
    return Origin(
        image=environ.get("NEURAKNOT_IMAGE") or None,
        git_commit=environ.get("NEURAKNOT_GIT_COMMIT") or None,
        started_by=environ.get("NEURAKNOT_STARTED_BY") or None,
        task_metadata_uri=environ.get("ECS_CONTAINER_METADATA_URI_V4") or None,
        result_as_json=environ.get("NEURAKNOT_RESULT", "").lower() == "json",
        environment=environ.get("NEURAKNOT_ENV", "").strip() or None,
    )


def _from_url(given: Mapping[str, str]) -> Settings:
    form = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    encode = f"Write it as {form}, with the special characters of the password percent-encoded (@ is %40)."
    try:
        url = make_url(given["DATABASE_URL"])
        port = url.port
    except (ArgumentError, ValueError):
        # Don't show SQLAlchemy's message or the text: either can hold the password.
        raise UsageError("DATABASE_URL can't be read as a URL.", hint=encode) from None
    if url.drivername not in _SCHEMES:
        raise UsageError(
            f"DATABASE_URL starts with {url.drivername}://, not with postgresql://.",
            hint=f"The database must be a PostgreSQL: {form}.",
        )
    options = {name: value for name, value in url.query.items() if isinstance(value, str)}
    if len(options) < len(url.query):
        raise UsageError("DATABASE_URL names a parameter twice.", hint=encode)
    if refused := next((name for name in _REFUSED if name in options), None):
        raise UsageError(
            f"DATABASE_URL holds the parameter {refused}, which is not taken here.",
            hint=f"Name server and database in the URL itself: {form}.",
        )
    # A parameter overrides the URL's own part, as in libpq, and must be the one that messages show.
    host = options.pop("host", "") or url.host or ""
    database = options.pop("dbname", "") or url.database
    if not host:
        raise UsageError("DATABASE_URL names no host.", hint=encode)
    if re.search(r"[@:]", host) and not re.fullmatch(r"[0-9a-fA-F:.]+", host):
        raise UsageError("DATABASE_URL can't be read as a URL: its host holds an @ or a colon.", hint=encode)
    if not database:
        raise UsageError("DATABASE_URL names no database.", hint=encode)
    return Settings(
        host=host,
        port=_port(options.pop("port", "") or ("" if port is None else str(port)), "The port in DATABASE_URL"),
        user=options.pop("user", "") or url.username or DEFAULT_USER,
        password=options.pop("password", "") or url.password or None,
        database=database,
        options=_tls(given) | _checked(options, "DATABASE_URL"),
    )


def _from_variables(given: Mapping[str, str]) -> Settings:
    if not given["DB_HOST"]:
        name = next(name for name in _VARIABLES if given[name])
        raise UsageError(f"{name} is set, but DB_HOST is not.", hint="Set DB_HOST, or DATABASE_URL instead.")
    return Settings(
        host=given["DB_HOST"],
        port=_port(given["DB_PORT"], "DB_PORT"),
        user=given["DB_USER"] or DEFAULT_USER,
        password=given["DB_PASSWORD"] or None,
        database=given["DB_NAME"] or DEFAULT_DATABASE,
        options=_tls(given),
    )


def _tls(given: Mapping[str, str]) -> dict[str, str]:
    """Return the options from DB_SSLMODE and DB_SSLROOTCERT; those of a DATABASE_URL override them."""
    options = {"sslmode": given["DB_SSLMODE"], "sslrootcert": given["DB_SSLROOTCERT"]}
    return _checked({name: value for name, value in options.items() if value}, "DB_SSLMODE")


def _port(text: str, name: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UsageError(f"{name} is {text!r}, which is not a valid port.", hint="Give a number from 1 to 65535.")
    return int(text)


def _checked(options: dict[str, str], name: str) -> dict[str, str]:
    sslmode = options.get("sslmode")
    if sslmode is not None and sslmode not in SSLMODES:
        raise UsageError(f"{name} asks for sslmode {sslmode!r}.", hint=f"Use one of: {', '.join(SSLMODES)}.")
    return options
