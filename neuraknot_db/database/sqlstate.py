"""The SQLSTATEs that mean something to this project, and how to read one.

They are listed in PostgreSQL's documentation, "PostgreSQL Error Codes".
"""

from __future__ import annotations

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
QUERY_CANCELED = "57014"
READ_ONLY, IN_TRANSACTION = "25006", "25001"
INSUFFICIENT_PRIVILEGE = "42501"
UNTRANSLATABLE = "22P05"
SYNTAX_ERROR = "42601"
UNDEFINED_FILE, FEATURE_NOT_SUPPORTED = "58P01", "0A000"
UNDEFINED_FUNCTION, UNDEFINED_OBJECT, UNDEFINED_TABLE = "42883", "42704", "42P01"
"""An operator counts as a function, and a type as an object."""
DUPLICATE_TABLE, DUPLICATE_DATABASE = "42P07", "42P04"
"""An index counts as a table."""
UNIQUE_VIOLATION = "23505"
UNSAFE_NEW_ENUM_VALUE, OBJECT_IN_USE = "55P04", "55006"
LOST = ("08", "57P")
"""How the states of a connection that is gone begin."""
RAISED = "P0001"

_RAISING = frozenset({"exec_stmt_raise", "exec_stmt_assert"})
"""The server's functions, whose names no language translates, that run RAISE and ASSERT in PL/pgSQL."""


def of(error: BaseException) -> str:
    """Return a failed statement's SQLSTATE; empty if the server gave none, as where the connection was lost.

    A function in PL/pgSQL may raise any state: what it raises is `RAISED`, since the state is then no word of the
    server's.

    Args:
        error: psycopg2's error, or SQLAlchemy's around it; anything else has no state.
    """
    cause = getattr(error, "orig", error)
    state = getattr(cause, "pgcode", None)
    return RAISED if state and is_raised(error) else state or ""


def is_raised(error: BaseException) -> bool:
    """Whether RAISE or ASSERT in PL/pgSQL is what failed."""
    diag = getattr(getattr(error, "orig", error), "diag", None)
    return getattr(diag, "source_function", None) in _RAISING
