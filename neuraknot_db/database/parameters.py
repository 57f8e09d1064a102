"""The parameters of every session of ours."""

from __future__ import annotations

# A role, a database or a client may set any of them, and a revision would then mean, make or show something else.
PARAMETERS = {
    # The first: if it is on, names within the others' values are stored with quotes, and definitions are shown so.
    "quote_all_identifiers": "off",
    # Where names are looked up: another one hides tables, or creates them elsewhere.
    "search_path": "public",
    # How text becomes values, and which values.
    "client_encoding": "utf8",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "timezone_abbreviations": "Default",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "xmloption": "content",
    "default_text_search_config": "pg_catalog.simple",
    # How values and definitions are spelled: the snapshots hold one spelling.
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    # Which rows a statement sees.
    "row_security": "on",
    "gin_fuzzy_search_limit": "0",
    # What is created, and whether it is checked.
    "default_tablespace": "",
    "default_table_access_method": "heap",
    "default_toast_compression": "pglz",
    "check_function_bodies": "on",
    "plpgsql.check_asserts": "on",
    "plpgsql.extra_errors": "none",
    "password_encryption": "scram-sha-256",
    # What a transaction promises: a COMMIT that was answered must survive a crash.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "on",
    "exit_on_error": "off",
    # The session is idle, and must survive, between attempts.
    "idle_session_timeout": "0",
    # What the log of the run shows.
    "client_min_messages": "notice",
    # The backend of a killed client ends its statement within a second.
    "client_connection_check_interval": "1s",
    # A client whose machine vanished loses its session, and with it the lock, after a minute.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "45s",
}
SINCE = {
    16_00_00: {"createrole_self_grant": ""},  # what CREATE ROLE grants besides
    17_00_00: {"transaction_timeout": "0"},
}
"""By the first version that has them: they can't be asked for before the server's version is known."""

AFTER_STARTUP = ("DateStyle", "TimeZone")
"""What libpq sends after our options, if PGDATESTYLE or PGTZ is set."""


def startup(given: str = "") -> str:
    """Return libpq's `options` for a connection that begins with all of PARAMETERS: RESET ALL returns to these.

    Args:
        given: the caller's own `options`, which ours override.
    """
    ours = " ".join(f"-c {name}={_escaped(value)}" for name, value in PARAMETERS.items())
    return f"{given} {ours}".lstrip()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
