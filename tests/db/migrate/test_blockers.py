"""Whoever is in the way is named, and nobody else: also behind what a statement does not name."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import lock, other_sessions
from neuraknot_db.migrate import retry
from neuraknot_db.settings import Limits
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Finished, Project
from tests.db.measuring import measured
from tests.db.migrate.test_blocked import Application
from tests.db.running import MIGRATOR, held, log_of, running, wait_until
from tests.projects import PROJECT

BRISK = {"NEURAKNOT_LOCK_TIMEOUT": "500ms", "NEURAKNOT_LOCK_PAUSE": "100ms", "NEURAKNOT_LOCK_TRIES": "2"}

PARTITIONED = "CREATE TABLE public.pt (x int) PARTITION BY RANGE (x);"
IN_THE_WAY = {
    "a table whose name is no regular expression": (
        'CREATE TABLE public."odd(name" (x int)',
        "SELECT FROM public.users",
        "ALTER TABLE public.users ADD COLUMN note text",
    ),
    "a table that the statement's table refers to": (
        "SELECT 1",
        "SELECT FROM public.users",
        "DROP TABLE public.ai_chat_sessions CASCADE",
    ),
    "a partition": (
        f"{PARTITIONED} CREATE TABLE public.pt1 PARTITION OF public.pt FOR VALUES FROM (1) TO (9)",
        "SELECT FROM public.pt1",
        "ALTER TABLE public.pt ADD COLUMN note text",
    ),
    "a name in quotes": (
        'CREATE TABLE public."Odd ""name" (x int)',
        'SELECT FROM public."Odd ""name"',
        'ALTER TABLE public."Odd ""name" ADD COLUMN note text',
    ),
}


def held_by(done: Finished) -> set[str]:
    return {line.strip() for line in done.err.splitlines() if "held by" in line}


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_THE_WAY)
def test_the_one_in_the_way_is_named(database_at_head: Database, project: Project, case: str) -> None:
    prepared, reads, sql = IN_THE_WAY[case]
    database_at_head.run(prepared)
    project.add("005", sql, after="004")
    with held(database_at_head, reads) as reader:
        pid = reader.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, **BRISK)
        with database_at_head.connect() as looking:
            guessed = list(other_sessions.told(other_sessions.holding(looking, sql)))
    said(done, 4, "try 2 of 2; given up", f"or first end what holds it, in psql: SELECT pg_terminate_backend({pid})\n")
    for line in (*held_by(done), *guessed):
        assert line.startswith(f"held by pid {pid}, reports (postgres), in a transaction for "), line
    assert (len(guessed), len(held_by(done)) >= 1) == (1, True), done.err


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 40, 246], ids=["whole", "cut by us", "cut by the server"])
def test_the_literals_of_who_is_in_the_way_are_not_told(
    database_at_head: Database, project: Project, columns: int
) -> None:
    project.add("005", "ALTER TABLE public.users ADD COLUMN note text", after="004")
    measured(project.root, database_at_head)
    query = (
        f"SELECT {', '.join(['id'] * columns)} FROM public.users WHERE email = 'card zqqq-qqqq' OR $$zqqq$$ = 'z''qqq'"
    )
    with held(database_at_head, query):
        done = database_at_head.neuraknot_db("upgrade", "head", cwd=project.root, **BRISK)
        planned = database_at_head.neuraknot_db("plan", cwd=project.root)
        as_json = database_at_head.neuraknot_db("plan", "--json", cwd=project.root)
        with database_at_head.connect() as looking:
            guessed = list(other_sessions.told(other_sessions.holding(looking, "ALTER TABLE public.users")))
    shown = "\n".join([done.err, planned.out, as_json.out, *guessed])
    assert shown.count("SELECT id") >= 4, shown
    assert "qqq" not in shown
    assert "card" not in shown
    assert ("email = '...' OR '...' = '...'" in guessed[0]) == (columns == 1)


@pytest.mark.slow
def test_whoever_holds_the_log_is_named(database_at_head: Database, project: Project) -> None:
    project.add("005", "CREATE TABLE public.five ()", after="004")
    with held(database_at_head, "LOCK TABLE neuraknot_db.migration_log IN SHARE MODE") as reader:
        pid = reader.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, **{**BRISK, "NEURAKNOT_LOCK_TRIES": "1"})
        with database_at_head.connect() as looking:
            found = other_sessions.holding(looking, "INSERT INTO neuraknot_db.migration_log VALUES (1)")
    said(done, 4, f"held by pid {pid}, reports (postgres)", "The log: no lock in time, try 1 of 1; given up")
    assert [each.pid for each in found] == [pid]


@pytest.mark.slow
def test_whoever_only_stands_by_is_not_named(database_at_head: Database, project: Project) -> None:
    project.add("005", "SELECT 1 FROM public.users; LOCK TABLE public.messages", after="004")
    with (
        held(database_at_head, "SELECT FROM public.users", application="bystander"),
        held(database_at_head, "SELECT FROM public.messages"),
    ):
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, **BRISK)
    assert done.code == 4, done.err
    assert "reports (postgres)" in done.err
    assert "bystander" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("server", ["15"], indirect=True)  # the embedded one takes no prepared transactions
def test_a_prepared_transaction_can_be_in_the_way_too(database_at_head: Database, project: Project) -> None:
    project.add("005", "LOCK TABLE public.users", after="004")
    with held(database_at_head, "SELECT FROM public.users; PREPARE TRANSACTION 'left'"):
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, **BRISK)
    database_at_head.run("ROLLBACK PREPARED 'left'")
    said(done, 4, "held by a prepared transaction: SELECT * FROM pg_prepared_xacts")


@pytest.fixture
def owner(database: Database) -> Iterator[Database]:
    """A database seen by its owner, who is no superuser, as on RDS."""
    role = f"owner_{os.getpid()}"
    database.run(f'CREATE ROLE "{role}" LOGIN; ALTER DATABASE "{database.name}" OWNER TO "{role}"')
    yield database.as_user(role)
    database.run(f'REASSIGN OWNED BY "{role}" TO postgres; DROP OWNED BY "{role}"; DROP ROLE "{role}"')


@pytest.mark.slow
def test_what_this_role_is_not_shown_is_said_to_be_so(owner: Database, project: Project) -> None:
    assert owner.alembic("upgrade", "head").code == 0
    project.add("005", "LOCK TABLE public.users", after="004")
    with held(owner.as_user("postgres"), "SELECT FROM public.users") as reader:
        pid = reader.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        done = owner.alembic("upgrade", "head", cwd=project.root, **BRISK)
        said(done, 4, f"held by pid {pid}, reports (postgres); what it does is not shown to this role\n")
        assert f'is shown after GRANT pg_read_all_stats TO "{owner.user}"\n' in done.err
        assert "None" not in done.err
        reader.exec_driver_sql(f"SELECT pg_advisory_lock({lock.KEY})")
        done = owner.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_LOCK_WAIT="100ms")
    said(done, 4, f"pid {pid}, reports, since when is not shown to this role", "GRANT pg_read_all_stats TO")
    assert "None" not in done.err


def test_what_can_not_be_found_out_does_not_hide_the_lock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_sessions, "_HOLDING", "SELECT 1/0")

    def attempt() -> None:
        with database.engine().connect() as other:
            other.exec_driver_sql("DO $$ BEGIN RAISE 'busy' USING ERRCODE = '55P03'; END $$")

    with database.engine().connect() as connection, pytest.raises(DBAPIError, match="busy"):
        retry.on_lock_timeout(attempt, connection, what=lambda: "it", limits=Limits(tries=2), sleep=lambda _: None)


def test_nobody_looks_while_nothing_takes_long(database: Database) -> None:
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'watch' OR datname = current_database()"
    with database.engine().connect() as connection:
        assert (
            retry.on_lock_timeout(lambda: database.value(sessions), connection, what=lambda: "it", limits=Limits()) == 2
        )


@pytest.mark.parametrize("lost", [True, False])
def test_who_looks_does_not_outlive_the_run(database: Database, lost: bool) -> None:
    watching = "FROM pg_stat_activity WHERE application_name = 'neuraknot-db watch' AND datname = current_database()"

    def attempt() -> object:
        with contextlib.suppress(StopIteration):
            for _ in range(500):
                if database.value(f"SELECT count(*) {watching}"):
                    break
                database.value("SELECT pg_sleep(0.02)")
        return database.value(f"SELECT count({'pg_terminate_backend(pid)' if lost else '*'}) {watching}")

    with database.engine().connect() as connection:
        seen = retry.on_lock_timeout(attempt, connection, what=lambda: "it", limits=Limits(lock_timeout=100))
    assert seen == 1
    wait_until(lambda: database.value(f"SELECT count(*) {watching}") == 0)


@pytest.mark.slow
def test_the_log_tells_how_often_a_reset_was_tried_and_how_long_it_waited(
    database_at_head: Database, tmp_path: Path
) -> None:
    arguments = ("reset", "--confirm", database_at_head.name)
    patient = {**BRISK, "NEURAKNOT_LOCK_TRIES": "9"}
    with (
        held(database_at_head, "SELECT FROM public.users") as reader,
        running(
            database_at_head, *arguments, said=tmp_path / "said", program="neuraknot-db", cwd=PROJECT, **patient
        ) as migration,
    ):
        migration.says("The reset: no lock in time, try 2 of 9")
        reader.rollback()
        assert migration.ended().code == 0
    columns = (
        "direction, outcome, attempt, duration_ms >= 490, lock_wait_ms >= 490 * (attempt - 1) AND lock_wait_ms > 0"
    )
    rows = [row[1:] for row in log_of(database_at_head, columns) if row[0] == "reset"]
    assert rows[:2] == [("failed", 1, True, False), ("failed", 2, True, True)]
    assert (rows[-1][:2], rows[-1][3]) == (("succeeded", len(rows)), True)


@pytest.mark.slow
def test_a_reset_waits_no_longer_for_all_tables_than_for_one(database_at_head: Database, tmp_path: Path) -> None:
    arguments = ("reset", "--confirm", database_at_head.name)
    tables = ("ai_agents", "messages", "users")
    once = {"NEURAKNOT_LOCK_TIMEOUT": "2s", "NEURAKNOT_LOCK_TRIES": "1"}
    with (
        contextlib.ExitStack() as stack,
        Application(database_at_head, *tables) as application,
    ):
        readers = [stack.enter_context(held(database_at_head, f"SELECT FROM public.{table}")) for table in tables]
        migration = stack.enter_context(
            running(database_at_head, *arguments, said=tmp_path / "said", program="neuraknot-db", cwd=PROJECT, **once)
        )
        waiting = f"SELECT pid FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event_type = 'Lock'"
        wait_until(lambda: database_at_head.run(waiting))
        released: list[Connection] = []
        while migration.process.poll() is None and len(released) < 2:
            time.sleep(1.3)
            # Whichever of them is waited for.
            blocking = database_at_head.run(f"SELECT unnest(pg_blocking_pids(pid)) FROM ({waiting}) w")
            for reader in readers:
                driver_connection = reader.connection.driver_connection
                assert driver_connection is not None
                if (driver_connection.info.backend_pid,) in blocking:
                    reader.rollback()
                    released.append(reader)
        done = migration.ended()
    said(done, 4)
    assert 1.2 < application.longest < 2.8


def test_the_pauses_are_not_the_same_for_two_that_block_each_other(database: Database) -> None:
    pauses: list[float] = []

    def attempt() -> None:
        with database.engine().connect() as other:
            other.exec_driver_sql("LOCK TABLE busy NOWAIT")

    database.run("CREATE TABLE busy ()")
    with held(database, "LOCK TABLE busy"), database.engine().connect() as connection:
        for _ in range(3):
            with pytest.raises(DBAPIError):
                retry.on_lock_timeout(
                    attempt, connection, what=lambda: "it", limits=Limits(tries=2, pause=4), sleep=pauses.append
                )
    assert len(set(pauses)) == 3
    assert all(3 <= pause <= 5 for pause in pauses)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["alembic_version", "neuraknot_db.migration_log", "neuraknot_db.settings"])
def test_whoever_locks_a_table_of_the_tools_own_is_named_by_every_command(
    database_at_head: Database, table: str
) -> None:
    with held(database_at_head, f"LOCK TABLE {table}") as other:
        pid = other.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for command in (["current"], ["plan"], ["verify"], ["stamp", "004"], ["upgrade", "head"], ["mark", "dev"]):
            if table != "alembic_version" and command[0] in ("current", "verify"):
                continue  # they don't look there
            done = database_at_head.neuraknot_db(*command, cwd=PROJECT, **BRISK)
            said(done, 4, f"held by pid {pid}, reports (postgres)", f"SELECT pg_terminate_backend({pid})\n")
