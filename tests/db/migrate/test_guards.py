"""What must not happen by accident: each guard from both sides."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project
from tests.db.forking import BIN
from tests.db.running import MIGRATOR, held, log_of, running, wait_until
from tests.projects import PROJECT

MARKER = "SELECT value FROM neuraknot_db.settings WHERE name = 'environment'"
VERSION = "SELECT version_num FROM public.alembic_version"


@contextmanager
def production(database: Database) -> Iterator[Database]:
    assert database.neuraknot_db("mark", "prod").code == 0
    database.run(
        "INSERT INTO public.users (cognito_user_id, email, display_name, avatar_url)"
        " SELECT g, g, g, 'x' FROM generate_series(1, 1234) g"
    )
    yield database


def test_the_first_upgrade_stores_the_environment_and_mark_changes_it(database: Database) -> None:
    assert database.alembic("upgrade", "001", NEURAKNOT_ENV="staging").code == 0
    assert database.value(MARKER) == "staging"
    done = database.neuraknot_db("mark", "prod")
    assert (done.code, database.value(MARKER)) == (0, "prod")
    assert "marked as prod (before: staging)" in done.err
    assert log_of(database)[-1] == (None, "mark", "succeeded")


@pytest.mark.parametrize(
    ("marker", "named", "code"),
    [
        ("prod", "dev", 5),
        ("dev", "prod", 5),
        ("prod", "staging", 5),
        ("dev", "test", 0),
        ("prod", "prod", 0),
        ("prod", "", 0),
        ("dev", "", 0),
    ],
)
def test_a_marker_that_contradicts(database_at_head: Database, marker: str, named: str, code: int) -> None:
    assert database_at_head.neuraknot_db("mark", marker).code == 0
    before = database_at_head.value(SCHEMA)
    done = database_at_head.alembic("upgrade", "head", NEURAKNOT_ENV=named)
    if code:
        said(done, code, f"marked as {marker}, and NEURAKNOT_ENV says {named}")
        # Nothing proposes to take the guards of production away.
        assert (f"neuraknot-db mark {named}" in done.err) == (named != "dev")
        reset = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, NEURAKNOT_ENV=named)
        said(reset, code, f"marked as {marker}")
    assert done.code == code, done.err
    assert database_at_head.value(SCHEMA) == before


def test_going_back_in_production_wants_the_databases_name(database_at_head: Database) -> None:
    with production(database_at_head) as database:
        prod = {"NEURAKNOT_ENV": "prod"}
        for arguments in ([], ["-x", "confirm=other"]):
            done = database.alembic(*arguments, "downgrade", "002", cwd=PROJECT, **prod)
            said(done, 5, f"-x confirm={database.name}", "1,234 values of users.avatar_url")
            assert database.value(VERSION) == "004"
        done = database.alembic("-x", f"confirm={database.name}", "downgrade", "002", cwd=PROJECT, **prod)
        assert done.code == 0, done.err
        assert database.value(VERSION) == "002"


def test_going_back_elsewhere_says_what_it_loses_and_goes_on(database_at_head: Database) -> None:
    database_at_head.run(
        "INSERT INTO public.users (cognito_user_id, email, display_name, avatar_url) VALUES ('a', 'b', 'c', 'd')"
    )
    done = database_at_head.alembic("downgrade", "002")
    assert (done.code, "003 loses: 1 values of users.avatar_url" in done.err) == (0, True), done.err


def test_a_count_that_fails_does_not_stop_the_way_back(database_at_head: Database, project: Project) -> None:
    losses = "losses = {'rows of a': 'SELECT count(*) FROM public.nowhere', 'rows of b': 'SELECT 7'}"
    project.add("005", "CREATE TABLE public.a ()", "DROP TABLE public.a", after="004", extra=losses)
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    done = database_at_head.alembic("downgrade", "004", cwd=project.root)
    assert done.code == 0, done.err
    assert "005 loses: an unknown number of rows of a\n  005 loses: 7 rows of b\n" in done.err


@pytest.mark.slow
def test_a_count_that_waits_stops_no_way_back_and_one_that_is_cancelled_does(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    losses = "losses = {'rows of users': 'SELECT count(*) FROM public.users'}"
    project.add("005", "CREATE TABLE public.a ()", "DROP TABLE public.a", after="004", extra=losses)
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    counting = f"FROM pg_stat_activity WHERE {MIGRATOR} AND wait_event_type = 'Lock' AND query LIKE '%users%'"
    with held(database_at_head, "LOCK TABLE public.users"):
        with running(
            database_at_head, "downgrade", "004", cwd=project.root, said=tmp_path / "said", NEURAKNOT_LOCK_TIMEOUT="1h"
        ) as migration:
            wait_until(lambda: database_at_head.run(f"SELECT pg_cancel_backend(pid) {counting}"))
            assert migration.ended().code == 7, migration.so_far
        assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "005"
        done = database_at_head.alembic("downgrade", "004", cwd=project.root, NEURAKNOT_LOCK_TIMEOUT="50ms")
        assert done.code == 0, done.err
    assert "005 loses: an unknown number of rows of users\n" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "code"), [("right", 0), ("wrong", 5), ("too late", 4)])
def test_on_a_terminal_it_asks_and_holds_no_lock_meanwhile(database_at_head: Database, typed: str, code: int) -> None:
    with production(database_at_head) as database:
        ours, theirs = pty.openpty()
        running = subprocess.Popen(
            [str(BIN / "alembic"), "downgrade", "002"],
            env=database.environment(TERM="dumb", NEURAKNOT_ENV="prod"),
            cwd=PROJECT,
            stdin=theirs,
            stderr=theirs,
            stdout=theirs,
        )
        os.close(theirs)
        shown = b""
        while b"to go back: " not in shown:
            shown += os.read(ours, 4096)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT pid = pg_backend_pid()"
        assert (
            database.value(f"{locks} AND database = (SELECT oid FROM pg_database WHERE datname = '{database.name}')")
            == 0
        )
        if typed == "too late":
            database.run("UPDATE public.alembic_version SET version_num = '003'")
        os.write(ours, f"{'no' if typed == 'wrong' else database.name}\n".encode())
        while b"revisions in" not in shown and b"Hint:" not in shown:
            shown += os.read(ours, 4096)
        assert running.wait(60) == code
        os.close(ours)
        assert b"This is production." in shown
        assert database.value(VERSION) == {0: "002", 4: "003", 5: "004"}[code]


def test_a_version_that_did_not_stay_is_found_out(database_at_head: Database, project: Project) -> None:
    """Exit 0 and nothing there: whatever rolled it back, the version on a new connection tells."""
    project.add("005", "SELECT 1", after="004")
    database_at_head.run(
        "CREATE FUNCTION public.back() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.version_num := OLD.version_num; RETURN NEW; END $$;"
        " CREATE TRIGGER back BEFORE UPDATE ON public.alembic_version FOR EACH ROW EXECUTE FUNCTION public.back()"
    )
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "ended without an error, but the database is at 004 and not at 005")


@pytest.mark.parametrize(("environment", "code"), [("test", 0), ("prod", 3)])
def test_what_differs_after_an_upgrade_is_told_and_fails_in_production(
    database: Database, environment: str, code: int
) -> None:
    environ = {"NEURAKNOT_ENV": environment}
    assert database.alembic("upgrade", "003", cwd=PROJECT, **environ).code == 0
    database.run("ALTER TABLE public.users DROP COLUMN avatar_url")
    done = database.alembic("upgrade", "head", cwd=PROJECT, **environ)
    assert done.code == code, done.err
    assert "users.avatar_url" in done.err
    assert database.value(VERSION) == "004"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEURAKNOT_LOCK_TIMEOUT", "soon"),
        ("NEURAKNOT_LOCK_TIMEOUT", "0"),
        ("NEURAKNOT_STATEMENT_TIMEOUT", "2"),
        ("NEURAKNOT_STATEMENT_TIMEOUT", "-1s"),
        ("NEURAKNOT_LOCK_WAIT", "1 day"),
        ("NEURAKNOT_LOCK_TRIES", "0"),
        ("NEURAKNOT_LOCK_PAUSE", "x"),
    ],
)
def test_a_limit_that_is_none(database: Database, name: str, value: str) -> None:
    before = database.value(SCHEMA)
    said(database.alembic("upgrade", "head", cwd=PROJECT, **{name: value}), 2, f"{name} is {value!r}")
    assert database.value(SCHEMA) == before


@pytest.mark.parametrize("extra", ["lock_timeout = 'soon'", "lock_timeout = 0", "statement_timeout = '1 day'"])
def test_a_limit_of_a_revision_that_is_none(database_at_head: Database, project: Project, extra: str) -> None:
    project.add("005", "SELECT 1", after="004", extra=extra)
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 2, "of revision 005 is")
    assert database_at_head.value(VERSION) == "004"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["18"], indirect=True)  # a million rows on one server are enough
def test_a_reset_that_fails_in_its_last_revision_leaves_a_million_rows(
    database_at_head: Database, project: Project, tmp_path: Path
) -> None:
    database_at_head.run(
        "INSERT INTO public.users (cognito_user_id, email, display_name)"
        " SELECT g, g, g FROM generate_series(1, 1000000) g"
    )
    fingerprint = "SELECT count(*), sum(hashtext(u::text)::bigint) FROM public.users u"
    before = database_at_head.run(fingerprint)
    project.add("005", "CREATE TABLE public.five (); SELECT 1/0", after="004")
    reset = ("reset", "--confirm", database_at_head.name)
    done = database_at_head.neuraknot_db(*reset, cwd=project.root)
    said(done, 7, "Revision 005", "  users  1,000,000\n", "every row are still there")
    assert database_at_head.run(fingerprint) == before
    assert database_at_head.neuraknot_db("verify").code == 0


def test_the_confirmation_names_the_command_that_it_is_for(database_at_head: Database) -> None:
    with production(database_at_head) as database:
        done = database.alembic("stamp", "003", NEURAKNOT_ENV="prod")
        said(done, 5, "The confirmation of the stamp was not given")
        assert f"Hint: alembic -x confirm={database.name} stamp 003\n" in done.err
        done = database.alembic("downgrade", "-1", NEURAKNOT_ENV="prod")
        said(done, 5, "The confirmation of the downgrade was not given")
        assert f"Hint: alembic -x confirm={database.name} downgrade -1\n" in done.err
        assert database.value(VERSION) == "004"


@pytest.mark.parametrize("target", ["001", "004", "base"])
def test_a_purge_is_confirmed_in_production(database_at_head: Database, target: str) -> None:
    with production(database_at_head) as database:
        done = database.alembic("stamp", "--purge", target, NEURAKNOT_ENV="prod")
        said(done, 5, f"Hint: alembic -x confirm={database.name} stamp --purge {target}\n")
        assert database.value(VERSION) == "004"


def test_a_purge_that_stamps_nothing_is_told_and_recorded(database_at_head: Database) -> None:
    with production(database_at_head) as database:
        arguments = ("-x", f"confirm={database.name}", "stamp", "--purge", "base")
        done = database.alembic(*arguments, NEURAKNOT_ENV="prod", NEURAKNOT_RESULT="json")
        assert done.code == 0, done.err
        result = json.loads(done.out)
        assert (result["before"], result["after"]) == ("004", None)
        assert "at no revision: alembic_version was emptied" in done.err
        assert database.run(VERSION) == []
        assert log_of(database)[-1] == ("base", "stamp", "succeeded")
        count = len(log_of(database))
        done = database.alembic(*arguments, NEURAKNOT_ENV="prod")
        assert (done.code, "nothing to do" in done.err, len(log_of(database))) == (0, True, count), done.err
