"""What a failed login means: psycopg2 gives no SQLSTATE for it, only words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable

from neuraknot_db.errors import NeuraknotError, RefusedError, UnreachableError, UsageError
from neuraknot_db.settings import Settings

POOLER = "The address leads to a pooler (PgBouncer, RDS Proxy), where the migration's lock would belong to no one."
POOLER_HINT = "Let DATABASE_URL or DB_HOST name PostgreSQL itself, on RDS the instance's endpoint."
_SHORTEST_MISTYPED = 5
"""Characters of a name of which one or two may be mistyped, and it still tells which one was meant."""

_NO_DATABASE = "There is no database {database} on this server."

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
        "Correct DB_USER and DB_PASSWORD, or DATABASE_URL, and try them: neuraknot-db current",
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

# The server's severity is translated too. The server puts two blanks after it, libpq one after its own messages.
_ANSWER = re.compile(r"failed: [^:]+:  ")


def explained(
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
        hint="See that the server runs and that DB_HOST and DB_PORT (or DATABASE_URL) name it, and try again:"
        " neuraknot-db current",
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
