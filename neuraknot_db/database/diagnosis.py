"""From an exception to an error that a person can act on."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from alembic.util import CommandError
from alembic.util.exc import DatabaseNotAtHead
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ResourceClosedError

from neuraknot_db.database import sqlstate
from neuraknot_db.errors import (
    LockUnavailableError,
    MigrationFailedError,
    NeuraknotError,
    RefusedError,
    SchemaDiffersError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    from neuraknot_db.database.other_sessions import Session

_SET = re.compile(r"\bset\s+(?:local\s+)?transaction", re.IGNORECASE)
"""SET TRANSACTION, or its parameters: refused in a transaction that has begun its work."""
_EXTENSION = re.compile(r"\bcreate\s+extension\b", re.IGNORECASE)
CALLED = re.compile(r"([a-zA-Z0-9_$.]+|\"[^\"]+\")\(")
"""A function's name, as the server quotes it, in a line of any language."""
_PSQLS = re.compile(r"\\|:[\w'\"{]")
_FROM_STDIN = re.compile(r"\bfrom\s+stdin\b(?:[^;]*;\s*$)?", re.IGNORECASE)
"""COPY's words; with the blanks after its semicolon, up to the first row."""

# By SQLSTATE, or its class: the server's state is the cause, and no file is to blame.
_CAUSES = {
    sqlstate.UNTRANSLATABLE: (
        "The database can't store that text: make one in UTF-8 (neuraknot-db create_db) and move there."
    ),
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
REVISIONS = "`alembic history` shows the revisions that exist."
_AGAIN = "Run the command again."


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
            hint="Which one to move behind the other: neuraknot-db renumber --check",
            details=(words,),
        )
    if "revision" in words.lower():
        return UsageError(f"{words}.", hint=REVISIONS)
    if "script_location" in words:
        return UsageError(
            "There is no alembic.ini here.", hint="Run this in the root of the checkout, or name the file with -c PATH."
        )
    return UsageError(f"{words}.", hint="`neuraknot-db --help` lists the commands and their options.")


def database_error(
    error: DBAPIError, *, doing: str = "The command", undone: str = "", line: int | None = None, ours: bool = False
) -> NeuraknotError:
    """Return the error for a server's answer.

    Args:
        error: psycopg2's error, as SQLAlchemy wraps it.
        doing: what failed, as the subject of a sentence.
        undone: what became of its work, as far as that was seen.
        line: the number of the statement's first line, in the file that holds it; None if no file does.
        ours: whether the statement is this project's own, which nobody needs to see.
    """
    from neuraknot_db.database import excerpt  # few runs fail

    state = sqlstate.of(error)
    primary, details = excerpt.words(error, line, ours=ours)
    if is_lost(error):
        return UnreachableError(f"{doing} lost its connection{undone}: {primary}.", hint=_AGAIN)
    if is_lock_timeout(error):
        if getattr(error, "untold", False):
            from neuraknot_db.database import other_sessions  # few runs meet another session

            details = (*other_sessions.told(getattr(error, "held_by", ())), *details)
        return LockUnavailableError(
            f"{doing} could not get a lock in time{undone}: {primary}.",
            hint=_until_free(getattr(error, "held_by", ())),
            details=details,
        )
    if state == sqlstate.READ_ONLY:
        return RefusedError(
            f"{doing} met a read-only transaction{undone}: {primary}.",
            hint="Connect to the primary (DB_HOST, DATABASE_URL), or end what makes it read-only.",
            details=details,
        )
    if state == sqlstate.INSUFFICIENT_PRIVILEGE:
        return RefusedError(
            f"{doing} lacks a privilege{undone}: {primary}.",
            hint="Connect as a role that may do it, or let an administrator do it or grant it.",
            details=details,
        )
    if state == sqlstate.QUERY_CANCELED:
        return MigrationFailedError(
            f"{doing} was cancelled{undone.replace(' was', '')}: {primary}.",
            hint=f"{_AGAIN} Was it too slow? NEURAKNOT_STATEMENT_TIMEOUT=1h, or statement_timeout in the revision.",
            details=details,
        )
    return MigrationFailedError(f"{doing} failed{undone}: {primary}.", hint=_cause(error), details=details)


def is_cancelled(error: BaseException) -> bool:
    """Whether a statement was cancelled, unless the server says that somebody asked for it."""
    return sqlstate.of(error) == sqlstate.QUERY_CANCELED and "user request" not in str(error)


def is_silent(error: BaseException) -> bool:
    """Whether the connection was lost without a word from the server."""
    return is_lost(error) and not sqlstate.of(error)


def _cause(error: DBAPIError) -> str | None:
    """Return what to do about a failure that is not the statement's own; None if it is."""
    state, statement = sqlstate.of(error), error.statement or ""
    if "max_locks_per_transaction" in str(error.orig):
        return "It takes more locks than the server has: touch fewer tables in one revision, or raise that parameter."
    for known, hint in _CAUSES.items():
        if state.startswith(known) and state != sqlstate.UNDEFINED_FILE:
            return hint
    if _is_psqls(error, state):
        return (
            "COPY ... FROM stdin, \\commands and :variables are psql's: write what the server reads,"
            " for rows INSERT, as pg_dump --inserts does."
        )
    if state == sqlstate.IN_TRANSACTION and not _SET.search(statement):
        return "It can't be in a transaction: write transactional = False beside upgrade(), which then sends it alone."
    if state in (sqlstate.UNDEFINED_FILE, sqlstate.FEATURE_NOT_SUPPORTED) and _EXTENSION.search(statement):
        return "The server has no such extension: install it there (RDS has those of SHOW rds.extensions)."
    # The last line is of what the statement itself has called.
    *_, outermost = (getattr(error.orig.diag, "context", None) or "").split("\n")  # type: ignore[union-attr]
    called = CALLED.search(outermost)
    if called and "PL/pgSQL" in outermost and called[1] not in statement:
        does = "refuses it" if sqlstate.is_raised(error) else "fails"
        return f"The function {called[1]} {does}, a trigger's or an event trigger's: see \\d TABLE and \\dy in psql."
    return None


def _is_psqls(error: DBAPIError, state: str) -> bool:
    """Whether the server, or psycopg2 before it, stopped at what only psql understands."""
    statement = error.statement or ""
    if state == sqlstate.SYNTAX_ERROR:
        from neuraknot_db.database import excerpt  # few runs fail

        position = excerpt.position_of(error)
        begin = int(position) - 1 if position else len(statement)
        before = _FROM_STDIN.search(statement[:begin])
        return _PSQLS.match(statement, begin) is not None or (before is not None and before.end() == begin)
    return not state and _FROM_STDIN.search(statement) is not None


def _until_free(held_by: Collection[Session]) -> str:
    """Return what to do about a lock, from the sessions that `migrate.retry` has seen to hold it."""
    if not held_by:
        return "Run the command again later. Who holds it, while it does: neuraknot-db plan"
    from neuraknot_db.database import other_sessions  # few runs meet another session

    return f"Run the command again later, or first end what holds it, in psql: {other_sessions.ending(held_by)}"


def is_lost(error: BaseException) -> bool:
    """Whether the connection was lost, with or without a message from the server."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, ResourceClosedError)  # a further statement on a lost connection
    state = sqlstate.of(error)
    ended = state.startswith(sqlstate.LOST) if state else isinstance(error, OperationalError | InterfaceError)
    return ended or error.connection_invalidated


def is_error(error: BaseException) -> bool:
    """Whether the server reports a failed statement on a connection that still works."""
    return isinstance(error, DBAPIError) and not is_lost(error)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether this is a lock timeout or a deadlock."""
    return sqlstate.of(error) in {sqlstate.LOCK_NOT_AVAILABLE, sqlstate.DEADLOCK}
