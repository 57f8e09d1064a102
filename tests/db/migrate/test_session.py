"""The session that revisions run in: its parameters are ours, and nothing that a revision leaves reaches the next."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from neuraknot_db import settings
from neuraknot_db.database import lock, parameters, session
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project
from tests.db.running import held

WRONG = {
    "search_path": "pg_catalog",
    "client_encoding": "latin1",
    "standard_conforming_strings": "off",
    "backslash_quote": "on",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Tokyo",
    "timezone_abbreviations": "India",
    "lc_monetary": "C.UTF-8",
    "lc_numeric": "C.UTF-8",
    "lc_time": "C.UTF-8",
    "xmloption": "document",
    "default_text_search_config": "pg_catalog.german",
    "quote_all_identifiers": "on",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "plpgsql.check_asserts": "off",
    "plpgsql.extra_errors": "all",
    "xmlbinary": "hex",
    "row_security": "off",
    "gin_fuzzy_search_limit": "7",
    "check_function_bodies": "off",
    "password_encryption": "md5",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "idle_session_timeout": "7min",
    "client_min_messages": "error",
    "session_replication_role": "replica",
    "lock_timeout": "1h",
    "statement_timeout": "1h",
    "idle_in_transaction_session_timeout": "1h",
}
"""Another value for each parameter that we set."""

# What a server has no other value for, or the operating system may refuse.
NOT_SET_WRONG = {
    "default_tablespace",
    "default_table_access_method",
    "default_toast_compression",
    "exit_on_error",
    "client_connection_check_interval",
} | {f"tcp_{name}" for name in ("keepalives_idle", "keepalives_interval", "keepalives_count", "user_timeout")}


@pytest.fixture
def migrator(database: Database) -> Iterator[Database]:
    role = f"migrator_{os.getpid()}"
    database.run(f"CREATE ROLE {role} LOGIN SUPERUSER")
    yield database.as_user(role)
    database.run(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def shown(database: Database, **environ: str) -> dict[str, str]:
    """What a session of ours has, of each parameter that was set wrong."""
    found = settings.read({"DATABASE_URL": database.url})
    assert found is not None
    before = {name: os.environ.get(name) for name in environ}
    os.environ.update(environ)
    try:
        with session.open_session(found) as connection:
            query = f"SELECT name, setting FROM pg_settings WHERE lower(name) = ANY ('{{{','.join(WRONG).lower()}}}')"
            return {row.name: row.setting for row in connection.exec_driver_sql(query)}
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@pytest.mark.parametrize("whose", ["role", "database", "client"])
def test_no_parameter_of_a_role_a_database_or_a_client_reaches_a_revision(migrator: Database, whose: str) -> None:
    usual = shown(migrator)
    assert usual["TimeZone"] == "UTC"
    role = migrator.user
    where = {"role": f"ALTER ROLE {role} ", "database": f'ALTER DATABASE "{migrator.name}" '}.get(whose)
    if where:
        migrator.run("; ".join(f"{where}SET {name} = {quoted(name, value)}" for name, value in WRONG.items()))
        assert shown(migrator) == usual
        return
    options = " ".join(f"-c {name.lower()}={value.replace(' ', chr(92) + ' ')}" for name, value in WRONG.items())
    assert (
        shown(migrator, PGOPTIONS=options, PGTZ="Asia/Tokyo", PGDATESTYLE="German", PGCLIENTENCODING="latin1") == usual
    )


def quoted(name: str, value: str) -> str:
    return value if name == "DateStyle" else f"'{value}'"


def test_each_parameter_that_is_set_is_tried() -> None:
    assert {*parameters.PARAMETERS, *settings.TIMEOUTS, "session_replication_role"} == {*WRONG, *NOT_SET_WRONG}


def test_a_session_that_would_check_no_foreign_key_is_refused(database: Database) -> None:
    role = f"plain_{os.getpid()}"
    database.run(
        f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role};"
        f" ALTER ROLE {role} SET session_replication_role = 'replica'"
    )
    try:
        done = database.as_user(role).alembic("upgrade", "head")
        said(done, 5, "session_replication_role is not origin", f'ALTER ROLE "{role}" RESET session_replication_role\n')
    finally:
        database.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


LEFT = {
    "a temporary table": "CREATE TEMP TABLE users (id int)",
    "a temporary view": "CREATE TEMP VIEW users AS SELECT 1 AS id",
    "one that a function made": "DO $$BEGIN EXECUTE 'CREATE TEMP' || ' TABLE users (id int)'; END$$",
    "a prepared statement": "PREPARE it AS SELECT 1",
    "a channel": "LISTEN it",
    "a cursor": "DECLARE it CURSOR WITH HOLD FOR SELECT 1",
    "a search path": "SET search_path = pg_temp, public",
    "a parameter": "SELECT set_config('DateStyle', 'German', false)",
    "a role": "SET ROLE pg_monitor",
    "a parameter that a function sets": "CREATE FUNCTION tune() RETURNS text LANGUAGE sql AS"
    " $$SELECT set_config('DateStyle', 'German', false)$$; SELECT tune()",
    "a sequence's value": "CREATE SEQUENCE public.counted; SELECT nextval('public.counted')",
}
FOUND = """
ALTER TABLE users ADD COLUMN seen{} text;
DO $$ DECLARE value bigint; BEGIN
    IF EXISTS (SELECT FROM pg_prepared_statements) OR EXISTS (SELECT FROM pg_listening_channels())
       OR EXISTS (SELECT FROM pg_cursors WHERE is_holdable) OR current_setting('search_path') <> 'public'
       OR current_setting('DateStyle') <> 'ISO, MDY' OR current_user <> session_user
       OR EXISTS (SELECT FROM pg_class WHERE pg_my_temp_schema() = relnamespace)
    THEN RAISE 'something was left'; END IF;
    IF to_regclass('public.counted') IS NULL THEN RETURN; END IF;
    BEGIN value := currval('public.counted'); RAISE 'currval() was left';
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END;
END $$
"""


@pytest.mark.parametrize("how", ["upgrade", "reset"])
def test_nothing_that_a_revision_leaves_in_the_session_reaches_the_next(
    database_at_head: Database, project: Project, how: str
) -> None:
    before = "004"
    for number, (what, sql) in enumerate(LEFT.items()):
        if how == "reset" and what == "a channel":
            continue  # in one transaction LISTEN takes effect only in the end
        leaving, looking = f"{100 + 2 * number}", f"{101 + 2 * number}"
        project.add(leaving, sql, after=before)
        project.add(looking, FOUND.format(looking), after=leaving)
        before = looking
    command = ["upgrade", "head"] if how == "upgrade" else ["reset", "--confirm", database_at_head.name]
    done = database_at_head.neuraknot_db(*command, cwd=project.root)
    assert done.code == 0, done.err
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.users'::regclass AND attname ~ '^seen'"
    assert database_at_head.value(columns) == len(LEFT) - (how == "reset")


def test_what_sql_from_another_file_sets_ends_with_its_revision(database_at_head: Database, project: Project) -> None:
    (project.versions / "load.sql").write_text("SELECT set_config('TimeZone', 'Asia/Tokyo', false)")
    path = project.add("005", "SELECT 1", after="004")
    read = "op.execute(open(__file__.rpartition('/')[0] + '/load.sql').read())"
    path.write_text(path.read_text().replace("op.execute('SELECT 1')", read))
    project.add("006", "CREATE TABLE zone AS SELECT current_setting('TimeZone')", after="005")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.value("SELECT current_setting FROM zone") == "UTC"


@pytest.mark.slow
def test_what_a_try_leaves_is_gone_before_the_next(database_at_head: Database, project: Project) -> None:
    project.add("005", "PREPARE it AS SELECT 1; ALTER TABLE users ADD COLUMN note text", after="004")
    with held(database_at_head, "SELECT FROM public.users"):
        done = database_at_head.alembic(
            "upgrade",
            "head",
            cwd=project.root,
            NEURAKNOT_LOCK_TIMEOUT="200ms",
            NEURAKNOT_LOCK_TRIES="2",
            NEURAKNOT_LOCK_PAUSE="100ms",
        )
    said(done, 4, "try 2 of 2; given up")
    assert "already exists" not in done.err


@pytest.mark.slow
def test_a_block_keeps_its_revisions_timeouts_and_is_not_run_again(
    database_at_head: Database, project: Project
) -> None:
    path = project.add("005", "SELECT 1", after="004", extra='lock_timeout = "700ms"\nstatement_timeout = "1h"')
    seen = "CREATE TABLE seen AS SELECT current_setting('lock_timeout'), current_setting('statement_timeout') AS s"
    block = f'with op.get_context().autocommit_block():\n        op.execute("{seen}")\n'
    path.write_text(path.read_text().replace("op.execute('SELECT 1')", block + "    op.execute('LOCK TABLE users')", 1))
    with held(database_at_head, "SELECT FROM public.users"):
        done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 4, "try 1 of 10; given up")
    assert database_at_head.run("SELECT * FROM public.seen") == [("700ms", "1h")]


def test_a_lock_that_was_given_up_is_taken_again(database_at_head: Database, project: Project) -> None:
    give_up = f"SELECT pg_advisory_unlock({lock.KEY})"
    database_at_head.run(f"CREATE FUNCTION public.give_up() RETURNS void LANGUAGE sql AS $${give_up}$$")
    project.add("005", "SELECT public.give_up()", after="004")
    held_now = (
        f"SELECT count(*) AS n FROM pg_locks WHERE pid = pg_backend_pid() AND objid = {lock.KEY & 0xFFFFFFFF}::oid"
    )
    project.add("006", f"CREATE TABLE locked AS {held_now}", after="005")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.value("SELECT n FROM public.locked") == 1
