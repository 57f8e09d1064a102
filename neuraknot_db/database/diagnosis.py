"""From an exception to an error that a person can act on."""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from alembic.util import CommandError
from alembic.util.exc import DatabaseNotAtHead
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ResourceClosedError

from neuraknot_db.database import display
from neuraknot_db.database.redaction import redacted
from neuraknot_db.errors import (
    LockUnavailableError,
    MigrationFailedError,
    NeuraknotError,
    ReadOnlyError,
    RefusedError,
    SchemaDiffersError,
    UnreachableError,
    UsageError,
)
from neuraknot_db.settings import Settings

if TYPE_CHECKING:
    from neuraknot_db.database.other_sessions import Session

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
_QUERY_CANCELED = "57014"
_READ_ONLY = "25006"
_INSUFFICIENT_PRIVILEGE = "42501"
_UNTRANSLATABLE = "22P05"
_SYNTAX_ERROR, _UNDEFINED_FILE = "42601", "58P01"
_RAISED_BY = re.compile(r"PL/pgSQL function (.+?)\(.* at (?:RAISE|ASSERT)")
_PSQL = re.compile(r"^\s*\\|\bfrom\s+stdin\b", re.IGNORECASE | re.MULTILINE)

# By SQLSTATE, or its class: the server's state is the cause, and no file is to blame.
_CAUSES = {
    _UNTRANSLATABLE: "The database can't store that text: make one in UTF-8 (neuraknot-db create_db) and move there.",
    "53100": "The server's disk is full: give it more storage (on RDS: allocated_storage), then run the command again.",
    "53200": "The server is out of memory: try again when less runs there, or on a larger instance.",
    "53400": "A limit that is set was reached: raise it, or do less in one statement.",
    "53": "The server has reached a limit of its own: try again when less runs there.",
    "58": "The server could not read or write a file: see its log, then run the command again.",
    "F0": "The server's configuration is not valid: see its log, then run the command again.",
    "XX001": "The server reports damaged data: see its log before anything else is run.",
    "XX002": "The server reports a damaged index: see its log, and REINDEX it.",
    "XX": "The server reports a defect of its own: see its log, then run the command again.",
}
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_REFUSED_ROWS = ("23", "44")
"""SQLSTATE classes whose details quote rows."""

REVISIONS = "alembic history shows the revisions that exist."
_AGAIN = "Run the command again."

_SHOWN_AROUND = 6
"""Lines of a long statement that are shown before and after the failed one."""
_LONGEST = 200
"""Characters of a line that are shown: a data statement may be one line of a megabyte."""

POOLER = "The address leads to a pooler (PgBouncer, RDS Proxy), where the migration's lock would belong to no one."
POOLER_HINT = "Let DATABASE_URL or DB_HOST name PostgreSQL itself, on RDS the instance's endpoint."
_NO_DATABASE = "There is no database {database} on this server."

_SHORTEST_MISTYPED = 5
"""Characters of a name of which one or two may be mistyped, and it still tells which one was meant."""

# What libpq and the server say when a login fails, as patterns, matched in this order. psycopg2 gives no SQLSTATE
# for it.
_LOGIN_REASONS = (
    (
        ("does not support SSL", "SSL is not enabled", "sslmode value"),
        "{place} was asked for TLS, and does not offer it as demanded.",
        "Correct DB_SSLMODE, or turn TLS on at the server.",
    ),
    (
        ("certificate", "SSL error", "sslrootcert", "root.crt"),
        "The TLS certificate of {place} could not be verified.",
        "Let DB_SSLROOTCERT name the authority's certificate (for RDS, its regional bundle).",
    ),
    (
        ("password authentication failed", "no password supplied", "authentication failed"),
        "{place} refused the login of user {user}.",
        "Correct DB_USER and DB_PASSWORD, or DATABASE_URL.",
    ),
    (
        ("pg_hba.conf",),
        "{place} lets user {user} in from here in no way that was tried.",
        "Many servers demand TLS: set DB_SSLMODE=require. Otherwise ask for an entry in pg_hba.conf.",
    ),
    (
        ("permission denied for database",),
        "User {user} may not connect to the database {database}.",
        'As its owner: GRANT CONNECT ON DATABASE "{database}" TO "{user}"',
    ),
    (
        ('role ".*" does not exist',),
        "{place} has no role {user}.",
        "Correct DB_USER, or DATABASE_URL.",
    ),
    (
        ("is not permitted to log in",),
        "User {user} may not log in to {place}.",
        'As an administrator: ALTER ROLE "{user}" LOGIN',
    ),
    (
        ("is not currently accepting connections",),
        "The database {database} takes no connections.",
        'As an administrator, connected to another one: ALTER DATABASE "{database}" ALLOW_CONNECTIONS true',
    ),
    (
        ("database .* does not exist",),
        _NO_DATABASE,
        "Create the database: neuraknot-db create_db",
    ),
    (
        ("too many clients", "remaining connection slots", "too many connections for (role|database)"),
        "{place} has no connection to spare.",
        "Wait for sessions to end, or end some: SELECT pid, state, query FROM pg_stat_activity",
    ),
)

# SQL that a function executes.
_INNER_SQL = re.compile(r'((?:SQL (?:statement|expression)|PL/pgSQL (?:assignment|expression)) ")(.*?)("?)')
_QUOTED = re.compile(r'["«„“].*["»“”]')

# The server's severity is translated too. The server puts two blanks after it, libpq one after its own messages.
_ANSWER = re.compile(r"failed: [^:]+:  ")


def explain(error: BaseException) -> NeuraknotError | None:
    """Return the error behind an exception, or None for a defect of ours."""
    if isinstance(error, NeuraknotError):
        return error
    if isinstance(error, DBAPIError):
        return database_error(error)
    if isinstance(error, ResourceClosedError):
        return UnreachableError("The command lost its connection.", hint=_AGAIN)
    if isinstance(error, CommandError):
        return command_error(error)
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename:
        return UsageError(
            f"{error.filename} can't be written: {error.strerror}.",
            hint="New revisions and snapshots are made in a checkout, not in the image.",
        )
    return None


def no_revision(named: str) -> UsageError:
    """Return the error for a target that no revision is."""
    named = named.strip()
    return UsageError(f"There is no revision {named}." if named else "No revision is named.", hint=REVISIONS)


def command_error(error: CommandError) -> NeuraknotError:
    """Return the error for Alembic's own complaint about its usage."""
    words = str(error).strip().rstrip(".")
    if isinstance(error, DatabaseNotAtHead):
        return SchemaDiffersError("The database is not at the newest revision.", hint="alembic upgrade head")
    if found := re.match(r"Can't locate revision identified by '(.*)'", words):
        return no_revision(found[1])
    if words == "Range revision not allowed":
        return UsageError("A range of revisions is for --sql only.", hint="Name one revision: alembic upgrade head")
    if "multiple head" in words.lower():
        return UsageError(
            "There are two heads or more, and the command needs one.",
            hint="alembic heads shows them: set the newer one's down_revision to the other, or name a revision.",
            details=(words,),
        )
    if "revision" in words.lower():
        return UsageError(f"{words}.", hint=REVISIONS)
    if "script_location" in words:
        return UsageError(
            "There is no alembic.ini here.", hint="Run this in the checkout, or name the file with -c PATH."
        )
    return UsageError(f"{words}.", hint="neuraknot-db --help lists the commands and their options.")


def database_error(error: DBAPIError, *, doing: str = "The command", undone: str = "", line: int = 1) -> NeuraknotError:
    """Return the error for a server's answer.

    Args:
        error: psycopg2's error, as SQLAlchemy wraps it.
        doing: what failed, as the subject of a sentence.
        undone: what became of its work, as far as that was seen.
        line: the number of the statement's first line, in the file that holds it.
    """
    state = getattr(error.orig, "pgcode", None)
    primary, details = _words(error, line)
    if is_lost(error):
        return UnreachableError(f"{doing} lost its connection{undone}: {primary}.", hint=_AGAIN)
    if state in {LOCK_NOT_AVAILABLE, DEADLOCK}:
        if getattr(error, "untold", False):
            from neuraknot_db.database import other_sessions  # few runs meet another session

            details = (*other_sessions.told(getattr(error, "held_by", ())), *details)
        return LockUnavailableError(
            f"{doing} could not have a lock in time{undone}: {primary}.",
            hint=_until_free(getattr(error, "held_by", ())),
            details=details,
        )
    if state == _READ_ONLY:
        return ReadOnlyError()
    if state == _INSUFFICIENT_PRIVILEGE:
        return RefusedError(
            f"{doing} lacks a privilege: {primary}.",
            hint="Connect as the role that owns what it changes, or have that role grant the privilege.",
            details=details,
        )
    if state == _QUERY_CANCELED:
        return MigrationFailedError(
            f"{doing} was cancelled{undone.replace(' was', '')}: {primary}.",
            hint=f"{_AGAIN} Was it too slow? NEURAKNOT_STATEMENT_TIMEOUT=1h, or statement_timeout in the revision.",
            details=details,
        )
    return MigrationFailedError(f"{doing} failed{undone}: {primary}.", hint=_cause(error), details=details)


def is_cancelled(error: BaseException) -> bool:
    """Whether a statement was cancelled, unless the server says that somebody asked for it."""
    cancelled = isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) == _QUERY_CANCELED
    return cancelled and "user request" not in str(error)


def is_silent(error: BaseException) -> bool:
    """Whether the connection was lost without a word from the server."""
    return is_lost(error) and getattr(getattr(error, "orig", None), "pgcode", None) is None


def _cause(error: DBAPIError) -> str | None:
    """Return what to do about a failure that is not the statement's own; None if it is."""
    state = getattr(error.orig, "pgcode", None) or ""
    if "max_locks_per_transaction" in str(error.orig):
        return "It takes more locks than the server has: touch fewer tables in one revision, or raise that parameter."
    for known, hint in _CAUSES.items():
        if state.startswith(known) and state != _UNDEFINED_FILE:
            return hint
    statement = error.statement or ""
    if state in (_SYNTAX_ERROR, "") and _PSQL.search(statement):
        return "COPY ... FROM stdin, and lines that begin with \\, are psql's: write INSERT, as pg_dump --inserts does."
    context = getattr(getattr(error.orig, "diag", None), "context", None) or ""
    raised = _RAISED_BY.match(context)
    if raised and raised[1] not in statement and raised[1] != "inline_code_block":
        return (
            f"The function {raised[1]} refuses it, a trigger's or an event trigger's: see \\d TABLE and \\dy in psql."
        )
    return None


def _until_free(held_by: Collection[Session]) -> str:
    """Return what to do about a lock, from the sessions that `migrate.retry` has seen to hold it."""
    if not held_by:
        return "Try again later. Who holds it, while it does: neuraknot-db plan"
    from neuraknot_db.database import other_sessions  # few runs meet another session

    return f"Try again later, or end what holds it: {other_sessions.ending(held_by)}"


def is_lost(error: BaseException) -> bool:
    """Whether the connection was lost, with or without a message from the server."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, ResourceClosedError)  # a further statement on a lost connection
    state = getattr(error.orig, "pgcode", None)
    ended = isinstance(error, OperationalError | InterfaceError) if state is None else state.startswith(("08", "57P"))
    return ended or error.connection_invalidated


def is_error(error: BaseException) -> bool:
    """Whether the server reports a failed statement on a connection that still works."""
    return isinstance(error, DBAPIError) and not is_lost(error)


def login_error(
    words: str,
    settings: Settings,
    *,
    database: str | None = None,
    databases: Callable[[], Iterable[str]] = tuple,
) -> NeuraknotError:
    """Return the error for a failed login's message.

    Args:
        words: the message.
        settings: of the login.
        database: another database than that of the settings.
        databases: returns the names of those that the server has; called if it has no such database.
    """
    names = {"place": settings.place, "user": settings.user, "database": database or settings.database}
    details = tuple(line.strip() for line in words.strip().splitlines() if line.strip())
    for needles, message, hint in _LOGIN_REASONS:
        if any(re.search(needle, words) for needle in needles):
            if message == _NO_DATABASE and (near := _near(names["database"], databases())):
                hint = f"There is {' and '.join(near)}: DB_NAME={shlex.quote(near[0])}, or correct DATABASE_URL."
            else:
                hint = hint.format(**names)
            return UnreachableError(message.format(**names), hint=hint, details=details)
    if "startup parameter" in words:
        return RefusedError(POOLER, hint=POOLER_HINT)
    if any(needle in words for needle in ("invalid connection option", "for connection option", ' value: "')):
        return UsageError(
            "DATABASE_URL holds a parameter, or a value of one, that libpq does not know.",
            hint="The usual ones: sslmode, sslrootcert, connect_timeout (in seconds), application_name.",
            details=details,
        )
    if any(map(_ANSWER.search, details)):
        return UnreachableError(
            f"{settings.place} refused the login of user {settings.user}.",
            hint="The server's own words say why: correct DB_USER, DB_PASSWORD and DB_NAME, or DATABASE_URL.",
            details=details,
        )
    return UnreachableError(
        f"{settings.place} can't be reached.",
        hint="See that the server runs and that DB_HOST and DB_PORT (or DATABASE_URL) name it.",
        details=details,
    )


def _near(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that differ only in case, or in a letter or two; of a short name, these are most of it."""
    import difflib  # few logins fail

    cutoff = 0.8 if len(name) >= _SHORTEST_MISTYPED else 1.0
    by_folded = {each.casefold(): each for each in names}
    return [by_folded[each] for each in difflib.get_close_matches(name.casefold(), by_folded, n=2, cutoff=cutoff)]


def is_answer(words: str) -> bool:
    """Whether a failed login's message is a refusal by a server, in any language."""
    return _ANSWER.search(words) is not None


def _words(error: DBAPIError, line: int) -> tuple[str, tuple[str, ...]]:
    """Return the server's message without its period, and the statement with the failed position."""
    diag = getattr(error.orig, "diag", None)
    primary = getattr(diag, "message_primary", None) or str(error.orig).strip().split("\n", 1)[0]
    details: list[str] = []
    if detail := _without_data(getattr(diag, "message_detail", None) or "", getattr(error.orig, "pgcode", None) or ""):
        details.append(detail)
    if server_hint := getattr(diag, "message_hint", None):
        details.append(server_hint)
    if context := getattr(diag, "context", None):
        details.append(_excerpt(_without_literals(redacted(context.split("\n", 1)[0])))[0])
    if error.statement:
        position = getattr(diag, "statement_position", None)
        shown = _redacted(error.statement, position)
        if shown.hides_position:
            primary = _QUOTED.sub('"***"', primary)
        details += _statement(shown.statement, shown.position, line)
    return primary.rstrip("."), tuple(details)


def _without_literals(context: str) -> str:
    """Remove the literals if the context is SQL of a function, which may have been built from rows."""
    found = _INNER_SQL.fullmatch(context)
    if found is None:
        return context
    from neuraknot_db.database import sql_text  # few runs need it

    return f"{found[1]}{sql_text.without_literals(found[2])}{found[3]}"


def _without_data(detail: str, state: str) -> str:
    """Return a detail without the values of a refused row, which don't belong in a log.

    The message may be in any language: only the column names are taken from it.
    """
    if not state.startswith(_REFUSED_ROWS):
        return detail
    columns = re.match(r"[^(]*\((.*?)\)=\(", detail, re.DOTALL)
    return f"Key ({columns[1]}); its values are not shown." if columns else ""


class _Redacted(NamedTuple):
    statement: str
    position: str | None
    hides_position: bool


def _redacted(statement: str, position: str | None) -> _Redacted:
    """Redact the statement before it is cut, since part of a password would go unnoticed; adjust the position.

    A position within a password is dropped, and what the server quotes from there is hidden.
    """
    shown = redacted(statement)
    if position is None or shown == statement:
        return _Redacted(shown, position, hides_position=False)
    before = redacted(statement[: int(position) - 1])
    if not shown.startswith(before):
        return _Redacted(shown, None, hides_position=True)
    return _Redacted(shown, str(len(before) + 1), hides_position=shown.startswith("***", len(before)))


def _statement(statement: str, position: str | None, line: int = 1) -> list[str]:
    """Return the statement, numbered from `line` and cut, with a caret under the server's position (1-based)."""
    lines = statement.split("\n")
    if position is None:
        first, last, row, column = 0, min(len(lines), 2 * _SHOWN_AROUND), -1, 0
    else:
        before = statement[: int(position) - 1]
        row, column = before.count("\n"), len(before) - (before.rfind("\n") + 1)
        first, last = max(0, row - _SHOWN_AROUND), min(len(lines), row + _SHOWN_AROUND + 1)
    shown: list[str] = []
    for index in range(first, last):
        text, at = _excerpt(lines[index], column if index == row else 0)
        if text.strip() or index == row:
            shown.append(f"{index + line:>4} | {text}")
        if index == row:
            below = "".join("\t" if each == "\t" else " " * display.width(each) for each in text[:at])
            shown.append(f"     | {below}^")
    return [*shown, "     | ..."] if last < len(lines) and any(map(str.strip, lines[last:])) else shown


def _excerpt(line: str, column: int = 0) -> tuple[str, int]:
    """Return a readable part of a line around a column, and the column within it."""
    start = max(0, min(column - _LONGEST // 2, len(line) - _LONGEST))
    before, after = "…" * (start > 0), "…" * (start + _LONGEST < len(line))
    return f"{before}{line[start : start + _LONGEST]}{after}", column - start + len(before)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether this is a lock timeout or a deadlock."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) in {LOCK_NOT_AVAILABLE, DEADLOCK}
