"""An ALTER behind somebody's lock: the application waits no longer than lock_timeout, and the blocker is named."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.migrate import retry
from neuraknot_db.settings import Limits
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project
from tests.db.running import MIGRATOR, held, log_of, running, wait_until
from tests.projects import PROJECT

BRISK = {"NEURAKNOT_LOCK_TIMEOUT": "500ms", "NEURAKNOT_LOCK_PAUSE": "100ms"}
READER = "SELECT count(*) FROM public.users"


class Application:
    """Queries tables over and over again, each over a connection of its own, and keeps the longest time."""

    def __init__(self, database: Database, *tables: str) -> None:
        self.longest = 0.0
        self.errors: list[Exception] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._query, args=(database, table)) for table in tables]

    def __enter__(self) -> Application:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _query(self, database: Database, table: str) -> None:
        try:
            with database.connect() as connection:
                while not self._ended.wait(0.01):
                    started = time.monotonic()
                    connection.exec_driver_sql(f"SELECT 1 FROM public.{table} LIMIT 1")
                    self.longest = max(self.longest, time.monotonic() - started)
        except DBAPIError as error:
            self.errors.append(error)


@pytest.mark.slow
def test_an_application_waits_no_longer_than_lock_timeout_and_the_revision_goes_through_in_the_end(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "ALTER TABLE public.users ADD COLUMN note text", after="004")
    with (
        held(database_at_head, READER) as reader,
        Application(database_at_head, "users") as application,
        running(
            database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, NEURAKNOT_LOCK_PAUSE="200ms"
        ) as migration,
    ):
        migration.says("no lock in time, try 2 of 10")
        pid = reader.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        reader.rollback()
        done = migration.ended()
    assert done.code == 0, done.err
    assert not application.errors
    assert 1.5 < application.longest <= 2.5
    assert f"  held by pid {pid}, reports (postgres), in a transaction for " in done.err
    assert f", idle in transaction: {READER}\n" in done.err
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "005"
    rows = log_of(database_at_head, "revision, outcome, attempt, lock_wait_ms > 2000, error ~ 'lock timeout'")[-3:]
    assert rows[0] == ("005", "failed", 1, False, True)
    assert rows[1][:3] == ("005", "failed", 2)
    assert rows[2] == ("005", "succeeded", 3, True, None)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["15"], indirect=True)  # a minute on one server is enough
def test_a_reader_of_a_minute_under_the_defaults(database_at_head: Database, project: Project, tmp_path: Path) -> None:
    project.add("005", "ALTER TABLE public.users ADD COLUMN note text", after="004")
    with (
        held(database_at_head, READER) as reader,
        Application(database_at_head, "users") as application,
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration,
    ):
        migration.says("no lock in time, try 1 of 10")
        time.sleep(60)
        assert migration.process.poll() is None, migration.so_far
        reader.rollback()
        done = migration.ended(seconds=90)
    assert done.code == 0, done.err
    assert not application.errors
    assert 1.5 < application.longest <= 2.5
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "005"


@pytest.mark.slow
def test_three_tables_make_the_application_wait_no_longer_than_the_sum(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    tables = ("users", "conversations", "messages")
    path = project.add("005", "SELECT 1", after="004")
    statements = "".join(f"    op.execute('ALTER TABLE public.{table} ADD COLUMN note text')\n" for table in tables)
    path.write_text(path.read_text().replace("    op.execute('SELECT 1')\n", statements, 1))
    with (
        held(database_at_head, "SELECT count(*) FROM public.messages") as reader,
        Application(database_at_head, *tables) as application,
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, **BRISK) as migration,
    ):
        migration.says("no lock in time, try 2 of 10")
        reader.rollback()
        done = migration.ended()
    assert done.code == 0, done.err
    assert not application.errors
    assert 0.4 < application.longest <= 3 * 0.5 + 0.5


@contextlib.contextmanager
def released_in_turn(*readers: Connection, pause: float) -> Iterator[None]:
    """Let one reader after the other go."""

    def release() -> None:
        for reader in readers:
            time.sleep(pause)
            reader.rollback()

    thread = threading.Thread(target=release)
    thread.start()
    yield
    thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "form", ["op.execute('LOCK TABLE public.{}')", "op.add_column('{}', sa.Column('note', sa.Text()))"]
)
def test_what_was_waited_for_one_table_is_taken_off_for_the_next(
    database_at_head: Database, project: Project, tmp_path: Path, form: str
) -> None:
    """`lock_timeout` counts for each lock, and those who wait for the first one wait for all."""
    tables = ("users", "conversations", "messages")
    path = project.add("005", "SELECT 1", after="004")
    statements = "".join(f"    {form.format(table)}\n" for table in tables)
    path.write_text(
        "import sqlalchemy as sa\n" + path.read_text().replace("    op.execute('SELECT 1')\n", statements, 1)
    )
    with (
        held(database_at_head, "SELECT count(*) FROM public.users") as first,
        held(database_at_head, "SELECT count(*) FROM public.conversations") as second,
        held(database_at_head, "SELECT count(*) FROM public.messages") as third,
        Application(database_at_head, "users") as application,
        running(
            database_at_head,
            *("upgrade", "head"),
            said=tmp_path / "said",
            cwd=project.root,
            NEURAKNOT_LOCK_TIMEOUT="2s",
            NEURAKNOT_LOCK_TRIES="1",
        ) as migration,
    ):
        waiting = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event_type = 'Lock'"
        wait_until(lambda: database_at_head.value(waiting) == 1)
        with released_in_turn(first, second, pause=1.3):
            done = migration.ended()
        third.rollback()
    said(done, 4)
    # Each lock within 2 s, but one after the other: 1.3 s, then at most what is left of the two seconds, or a share.
    assert 1.2 < application.longest < 3.0


@pytest.mark.slow
def test_after_a_long_statement_a_quarter_is_left_to_the_next(database_at_head: Database, project: Project) -> None:
    path = project.add("005", "SELECT pg_sleep(1)", after="004")
    shown = "DO $$ BEGIN ASSERT current_setting('lock_timeout') = '200ms', current_setting('lock_timeout'); END $$"
    path.write_text(path.read_text().replace("pg_sleep(1)')\n", f'pg_sleep(1)\')\n    op.execute("""{shown}""")\n', 1))
    done = database_at_head.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_LOCK_TIMEOUT="800ms")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_the_last_try_fails_too_and_nothing_is_changed(database_at_head: Database, project: Project) -> None:
    project.add("005", "ALTER TABLE public.users ADD COLUMN note text", after="004")
    with held(database_at_head, READER):
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, **BRISK, NEURAKNOT_LOCK_TRIES="3")
    said(done, 4, "Revision 005 could not get a lock in time", "try 3 of 3; given up", "held by pid")
    assert "Hint: The database is at 004. Run the command again later" in done.err
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "004"
    assert [row[1:] for row in log_of(database_at_head, "revision, outcome, attempt") if row[0] == "005"] == [
        ("failed", 1),
        ("failed", 2),
        ("failed", 3),
    ]


def test_a_revision_may_have_timeouts_of_its_own(database_at_head: Database, project: Project) -> None:
    project.add(
        "005",
        "DO $$ BEGIN RAISE NOTICE '% %', current_setting('lock_timeout'), current_setting('statement_timeout'); END $$",
        after="004",
        extra="lock_timeout = '700ms'\nstatement_timeout = '1h'",
    )
    project.add(
        "006",
        "DO $$ BEGIN RAISE NOTICE '% %', current_setting('lock_timeout'), current_setting('statement_timeout'); END $$",
        after="005",
    )
    done = database_at_head.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_STATEMENT_TIMEOUT="20min")
    assert done.code == 0, done.err
    assert "NOTICE:  700ms 1h\n" in done.err
    assert "NOTICE:  2s 20min\n" in done.err


def test_the_sessions_parameters(database_at_head: Database, project: Project) -> None:
    names = ("idle_in_transaction_session_timeout", "client_connection_check_interval", "quote_all_identifiers")
    shown = " || ' ' || ".join(f"current_setting('{name}')" for name in names)
    project.add("005", f"DO $$ BEGIN RAISE NOTICE '%', {shown}; END $$", after="004")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert "NOTICE:  5min 1s off\n" in done.err


def test_a_statement_that_takes_too_long_is_ended(database_at_head: Database, project: Project) -> None:
    project.add(
        "005", "CREATE TABLE public.five (); SELECT pg_sleep(60)", after="004", extra="statement_timeout = '300ms'"
    )
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "Revision 005 was ended and rolled back: a statement took 3", " ms, and statement_timeout is 300ms")
    assert done.err.rstrip().endswith(
        'To give it more time, put `statement_timeout = "600ms"` below down_revision in alembic/versions/005_added.py,'
        " and run the command again."
    )
    assert database_at_head.value("SELECT to_regclass('public.five')") is None
    assert log_of(database_at_head, "revision, outcome, attempt")[-1] == ("005", "failed", 1)


ROLES_OWN = {
    "statement_timeout": "200ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "200ms",
    "idle_session_timeout": "200ms",
    "transaction_timeout": "200ms",
    "search_path": "elsewhere",
    "default_transaction_isolation": "serializable",
    "standard_conforming_strings": "off",
}


@pytest.mark.slow
def test_what_a_role_brings_along_does_not_get_in_the_way(database: Database, project: Project, tmp_path: Path) -> None:
    project.add("005", "SELECT pg_sleep(0.5); ALTER TABLE public.users ADD COLUMN note text", after="004")
    path = project.add("006", "SELECT 1", after="005")
    path.write_text(path.read_text().replace("def upgrade() -> None:\n", "def upgrade() -> None:\n    sleep(0.5)\n"))
    path.write_text("from time import sleep\n" + path.read_text())
    assert database.alembic("upgrade", "head").code == 0
    with held(database, READER) as reader, database.connect() as other:
        for name, value in ROLES_OWN.items():
            if name != "transaction_timeout" or database.server != "15":
                other.exec_driver_sql(f"ALTER DATABASE \"{database.name}\" SET {name} = '{value}'")
        slow = {**BRISK, "NEURAKNOT_LOCK_PAUSE": "1s"}
        with running(database, "upgrade", "head", said=tmp_path / "said", cwd=project.root, **slow) as migration:
            migration.says("no lock in time, try 1")
            reader.rollback()
            done = migration.ended()
        assert done.code == 0, done.err
        assert other.exec_driver_sql("SELECT version_num FROM public.alembic_version").scalar() == "006"


@pytest.mark.slow
def test_a_deadlock_is_tried_again(database_at_head: Database, project: Project, tmp_path: Path) -> None:
    project.add("005", "LOCK TABLE public.users; LOCK TABLE public.messages", after="004")
    patient = {"NEURAKNOT_LOCK_TIMEOUT": "30s", "NEURAKNOT_LOCK_PAUSE": "100ms"}
    with (
        held(database_at_head, "SET deadlock_timeout = '1h'; LOCK TABLE public.messages IN SHARE MODE") as other,
        running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root, **patient) as migration,
    ):
        waiting = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event_type = 'Lock'"
        wait_until(lambda: database_at_head.value(waiting) == 1)
        with contextlib.suppress(DBAPIError):
            other.exec_driver_sql("LOCK TABLE public.users IN SHARE MODE")
        other.rollback()
        done = migration.ended()
    assert done.code == 0, done.err
    assert "try 1 of 10" in done.err
    errors = log_of(database_at_head, "outcome, attempt, error ~ 'deadlock detected'")[-2:]
    assert errors == [("failed", 1, True), ("succeeded", 2, None)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1/0",
        "INSERT INTO public.users (id) VALUES (NULL)",
        "DO $$ BEGIN RAISE 'no' USING ERRCODE = '40001'; END $$",
    ],
)
def test_nothing_else_is_tried_again(database_at_head: Database, project: Project, sql: str) -> None:
    project.add("005", sql, after="004")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root, **BRISK)
    assert done.code == 7
    assert "try 1" not in done.err
    assert log_of(database_at_head, "revision, outcome, attempt")[-1] == ("005", "failed", 1)


def test_the_pauses_double_up_to_a_limit_and_the_counting_begins_anew_with_each_revision(database: Database) -> None:
    pauses: list[float] = []
    doing = iter(["005"] * 6 + ["006"] * 20)
    now = ""

    def attempt() -> None:
        nonlocal now
        now = next(doing)
        with database.engine().connect() as other:
            other.exec_driver_sql("LOCK TABLE busy NOWAIT")

    database.run("CREATE TABLE busy ()")
    with held(database, "LOCK TABLE busy"), database.engine().connect() as connection, pytest.raises(DBAPIError):
        retry.on_lock_timeout(
            attempt, connection, what=lambda: now, limits=Limits(), sleep=pauses.append, jitter=lambda: 0.5
        )
    assert pauses == [3, 6, 12, 24, 30, 30, 3, 6, 12, 24, 30, 30, 30, 30, 30]


@pytest.mark.slow
def test_the_version_moved_by_somebody_without_the_lock(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    project.add("005", "ALTER TABLE public.users ADD COLUMN note text", after="004")
    with (
        held(database_at_head, READER) as reader,
        running(database_at_head, "upgrade", "+1", said=tmp_path / "said", cwd=project.root, **BRISK) as migration,
    ):
        migration.says("no lock in time, try 1")
        database_at_head.run("UPDATE public.alembic_version SET version_num = '003'")
        reader.rollback()
        done = migration.ended()
    said(done, 4, "003", "without the lock")
    assert database_at_head.value("SELECT count(*) FROM pg_attribute WHERE attname = 'note'") == 0


@pytest.mark.slow
def test_a_reset_waits_for_no_lock_longer_than_that_and_says_who_holds_it(
    database_at_head: Database, tmp_path: Path
) -> None:
    arguments = ("reset", "--confirm", database_at_head.name)
    with (
        held(database_at_head, READER) as reader,
        Application(database_at_head, "users") as application,
        running(
            database_at_head, *arguments, said=tmp_path / "said", program="neuraknot-db", cwd=PROJECT, **BRISK
        ) as migration,
    ):
        migration.says("The reset: no lock in time, try 2 of 10")
        longest = application.longest
        reader.rollback()
        done = migration.ended()
    assert done.code == 0, done.err
    assert "held by pid" in done.err
    assert longest <= 1.0
    assert database_at_head.neuraknot_db("verify").code == 0


@pytest.mark.slow
def test_a_reset_of_a_database_without_a_log_is_tried_again(database: Database, tmp_path: Path) -> None:
    database.run("CREATE TABLE public.old (x int)")
    arguments = ("reset", "--confirm", database.name)
    with (
        held(database, "SELECT count(*) FROM public.old") as reader,
        running(
            database, *arguments, said=tmp_path / "said", program="neuraknot-db", cwd=PROJECT, **BRISK
        ) as migration,
    ):
        migration.says("The reset: no lock in time, try 1 of 10")
        reader.rollback()
        done = migration.ended()
    assert done.code == 0, done.err
    assert ("reset", "succeeded") in log_of(database, "direction, outcome")
