"""`expects` and `ensures`: what a revision says of the data is asked, and what the data says is told."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project
from tests.db.forking import BIN
from tests.db.running import MIGRATOR, log_of, running, wait_until

VERSION = "SELECT version_num FROM public.alembic_version"
PHRASE = "no two users share a name"
TWINS = "SELECT display_name, count(*) FROM users GROUP BY 1 HAVING count(*) > 1 -- 100% ':x'"
USERS = (
    "INSERT INTO public.users (cognito_user_id, email, display_name)"
    " SELECT g, g, 'Anna ' || g / 2 FROM generate_series(2, {}) g"
)
UNIQUE = "ALTER TABLE public.users ADD CONSTRAINT one_name UNIQUE (display_name)"


def declared(name: str, query: str = TWINS, more: str = "") -> str:
    return f"{name} = {{{PHRASE!r}: {query!r}}}\n{more}"


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (declared("expects"), 5, f'Revision 005 expects "{PHRASE}", and 9 rows break that: it was not begun.'),
        (declared("ensures"), 7, f'Revision 005 ensures "{PHRASE}", and 9 rows break that: it was rolled back.'),
        (declared("expects", "SELECT FROM users LIMIT 1"), 5, "and 1 row breaks that"),
        (declared("expects", "VALUES ('0044-03-15 BC'::date)"), 5, "and 1 row breaks that"),
        (declared("expects", "TABLE users"), 5, "and 18 rows break that"),
        (declared("expects", "SELECT 1 FROM nowhere"), 7, "failed and was rolled back: relation"),
        (declared("expects", "SELECT 1/0"), 7, "failed and was rolled back: division by zero"),
        (declared("ensures", "SELECT id FROM users FOR UPDATE"), 7, "line 7 what writes: such a query may only read"),
        (declared("ensures", "SELECT nextval('five')"), 7, "cannot execute nextval() in a read-only transaction"),
        (declared("expects", "WITH d AS (DELETE FROM users RETURNING 1) TABLE d"), 7, "failed and was rolled back"),
        (declared("expects", "SELECT pg_sleep(9)", "statement_timeout = '50ms'"), 7, "and statement_timeout is 50ms"),
    ],
)
def test_rows_that_break_it_and_queries_that_fail(
    database_at_head: Database, project: Project, extra: str, code: int, message: str
) -> None:
    database_at_head.run(USERS.format(19))
    before = database_at_head.value(SCHEMA)
    project.add("005", "CREATE SEQUENCE public.five", after="004", extra=extra)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_RESULT="json")
    said(done, code, message, PHRASE, "005_added.py, line 7")
    assert "Anna" not in done.err + done.out
    assert PHRASE in json.loads(done.out)["error"]
    assert database_at_head.value(SCHEMA) == before
    assert database_at_head.value("SELECT count(*) FROM public.users") == 18
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "failed")


def test_a_query_that_fails_is_shown_where_it_is_written(database_at_head: Database, project: Project) -> None:
    extra = f'expects = {{{PHRASE!r}: """\n-- all\nSELECT id,\n  neither FROM users;\n"""}}'
    project.add("005", "SELECT 1", after="004", extra=extra)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(
        done,
        7,
        "005_added.py, line 10:\n",
        "\n    10 |   neither FROM users;\n       |   ^\nHint: The database is at 004.",
    )


def test_a_right_that_lacks_for_a_question_is_named(database_at_head: Database, project: Project) -> None:
    project.add("005", "SET ROLE pg_monitor", after="004", extra=declared("ensures"))
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "lacks a privilege and was rolled back", PHRASE, "Hint: The database is at 004. Connect as a role")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name", "sent", "message"),
    [
        ("neuraknot-db plan --count", "expects", "SELECT 1", "Error: Interrupted."),
        (
            "alembic upgrade head",
            "ensures",
            "CREATE INDEX CONCURRENTLY names ON users (id)",
            "What its statement did stays",
        ),
        ("alembic upgrade head", "ensures", None, "rolled back, but for what its autocommit_block has sent."),
    ],
)
def test_an_interruption_ends_what_is_asked(
    database_at_head: Database,
    project: Project,
    tmp_path: Path,
    command: str,
    name: str,
    sent: str | None,
    message: str,
) -> None:
    transactional = "CONCURRENTLY" not in (sent or "")
    extra = f"{name} = {{each: f'SELECT pg_sleep({{each}}00)' for each in '34'}}\ntransactional = {transactional}"
    path = project.add("005", sent or "SELECT 5", after="004", extra=extra)
    if sent is None:
        block = 'with op.get_context().autocommit_block():\n        op.execute("ANALYZE")\n    op.execute'
        path.write_text(path.read_text().replace("op.execute", block, 1))
    program, *arguments = command.split()
    asked = f"SELECT count(*) = 1 FROM pg_stat_activity WHERE {MIGRATOR} AND query ~ 'pg_sleep'"
    with running(database_at_head, *arguments, said=tmp_path / "said", program=program, cwd=project.root) as run:
        wait_until(lambda: database_at_head.value(asked))
        run.process.send_signal(signal.SIGINT)
        done = run.ended()
    said(done, 130, "Interrupted", message)


@pytest.mark.parametrize("extra", [declared("expects"), declared("ensures", TWINS + "\n;")])
def test_what_holds_lets_the_revision_through(database_at_head: Database, project: Project, extra: str) -> None:
    project.add("005", UNIQUE, after="004", extra=extra)
    for command in (["upgrade", "head"], ["downgrade", "004"]):
        done = database_at_head.alembic(*command, cwd=project.root)
        assert done.code == 0, done.err
    reset = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    assert (reset.code, database_at_head.value(VERSION)) == (0, "005"), reset.err


@pytest.mark.parametrize("name", ["losses", "expects", "ensures"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("['SELECT 1']", "is ['SELECT 1']"),
        ("{'a': 1}", "is {'a': 1}"),
        ("{' ': 'SELECT 1'}", "has a query without a phrase"),
        ("{'a': '-- none'}", '"a": it holds 0 statements'),
        ("{'a': 'SELECT 1; SELECT 2'}", '"a": it holds 2 statements'),
        ("{'a': 'DELETE FROM users'}", '"a": DELETE is no query'),
        ("{'a': 'COMMIT'}", '"a": COMMIT is no query'),
        ("{'a': \"SELECT 'x\"}", "\"a\": the server can't read 'x"),
        ("{'a': 'SELECT pg_advisory_unlock_all()'}", '"a": it gives up the lock of the run'),
    ],
)
def test_what_is_no_query_is_refused_beforehand(
    at: Callable[[str], Database], project: Project, name: str, value: str, message: str
) -> None:
    database = at("003")
    extra = f"{name} = {value}"
    if name == "losses":
        path = next(project.versions.glob("003*"))
        path.write_text(path.read_text().replace("def upgrade", f"{extra}\ndef upgrade"))
        done = database.alembic("downgrade", "002", cwd=project.root)
    else:
        project.add("005", "SELECT 1", after="004", extra=extra)
        done = database.alembic("upgrade", "head", cwd=project.root)
    said(done, 2, f"{name} of revision {'003' if name == 'losses' else '005'}", message, "Write what ")
    assert database.value(VERSION) == "003"


def test_after_another_revision_of_the_run_it_is_no_refusal(database_at_head: Database, project: Project) -> None:
    database_at_head.run(USERS.format(3))
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SELECT 1", after="005", extra=declared("expects"))
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "Revision 006 expects", "Hint: The database is at 005. Mend what")


def test_a_row_that_comes_after_the_question_fails_the_statement(database_at_head: Database, project: Project) -> None:
    """The question is no lock: it leaves none behind, and a row from then on meets the statement."""
    locks = "SELECT relation FROM pg_locks WHERE relation = 'public.users'::regclass"
    project.add(
        "005",
        f"DO $$BEGIN IF EXISTS ({locks}) THEN RAISE 'locked'; END IF; END$$; {USERS.format(3)}; {UNIQUE}",
        after="004",
        extra=declared("expects"),
    )
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "Revision 005 failed and was rolled back: could not create unique index")
    assert database_at_head.value(VERSION) == "004"


def test_a_lock_within_the_question_is_waited_for_and_tried_again(database_at_head: Database, project: Project) -> None:
    project.add("005", "SELECT 1", after="004", extra=declared("expects", TWINS, "lock_timeout = '50ms'"))
    with database_at_head.engine().begin() as other:
        other.exec_driver_sql("LOCK TABLE public.users")
        tries = {"NEURAKNOT_LOCK_TRIES": "2", "NEURAKNOT_LOCK_PAUSE": "10ms"}
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, **tries)
    said(done, 4, f'Revision 005, at its query for "{PHRASE}" (expects), could not get a lock in time', "try 2 of 2")


def test_a_lock_after_what_stays_is_not_waited_for_again(database_at_head: Database, project: Project) -> None:
    extra = declared("ensures", TWINS, "lock_timeout = '50ms'\ntransactional = False")
    project.add("005", "VACUUM public.messages", after="004", extra=extra)
    with database_at_head.engine().begin() as other:
        other.exec_driver_sql("LOCK TABLE public.users")
        done = database_at_head.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_LOCK_TRIES="2")
    said(done, 4, "(ensures), could not get a lock in time", "try 1 of 2; given up", "What its statement did stays")


def test_outside_of_a_transaction_it_says_what_it_can_not_promise(database_at_head: Database, project: Project) -> None:
    index = "CREATE INDEX CONCURRENTLY IF NOT EXISTS names ON public.users (display_name)"
    extra = declared("ensures", TWINS, declared("expects", "SELECT 1 WHERE false", "transactional = False"))
    project.add("005", index, after="004", extra=extra)
    database_at_head.run(USERS.format(3))
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(
        done, 7, "a row may come after what it expects was asked", "it was not recorded", "What its statement did stays"
    )
    assert database_at_head.value("SELECT to_regclass('public.names') IS NOT NULL") is True
    assert database_at_head.value(VERSION) == "004"
    database_at_head.run("DELETE FROM public.users")
    again = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert (again.code, database_at_head.value(VERSION)) == (0, "005"), again.err


@pytest.mark.parametrize(("name", "code"), [("expects", 5), ("ensures", 7)])
def test_a_reset_that_meets_such_rows_changes_nothing(
    database_at_head: Database, project: Project, name: str, code: int
) -> None:
    database_at_head.run(USERS.format(2))
    project.add("005", USERS.format(3), after="004", extra=declared(name, TWINS) if name == "ensures" else "")
    project.add("006", "SELECT 1", after="005", extra=declared(name, TWINS))
    done = database_at_head.neuraknot_db("reset", "--confirm", database_at_head.name, cwd=project.root)
    said(done, code, f"{name} ", "1 row breaks that", "rolled back")
    assert database_at_head.value("SELECT count(*) FROM public.users") == 1


def test_a_terminal_shows_five_of_the_rows_within_its_width(database_at_head: Database, project: Project) -> None:
    database_at_head.run(USERS.format(19))
    name = "repeat('山田太郎', 40) AS name"
    wide = f"SELECT '\\xde'::bytea b, left(id::text, 4) id, 'hush' || E'\\n' AS secret, NULL AS n, {name} FROM users"
    project.add("005", "SELECT 1", after="004", extra=declared("expects", wide))
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [str(BIN / "alembic"), "upgrade", "head"],
        env=database_at_head.environment(TERM="dumb", COLUMNS="80", DB_PASSWORD="hush"),
        cwd=project.root,
        stderr=theirs,
    )
    os.close(theirs)
    assert running.wait(60) == 5
    lines = os.read(ours, 9999).decode().splitlines()
    os.close(ours)
    [first] = (number for number, line in enumerate(lines, 1) if line.startswith("Error: "))
    rows = lines[first + 1 : first + 6]
    assert all(row.startswith('  {"b":"\\\\xde","id":"') and row.endswith("…") for row in rows), lines
    assert all('"secret":"***\\n","n":null,"name":"山田太郎' in row for row in rows), lines
    assert all(78 <= len(row) + sum(character > "\u2e80" for character in row) <= 80 for row in rows), lines
    assert lines[first + 6].startswith("Hint: ")


def test_a_script_stops_where_a_run_would(database_at_head: Database, project: Project, tmp_path: Path) -> None:
    found = "SELECT display_name AS found, count(*) FROM users GROUP BY 1 HAVING count(*) > 1; -- none"
    project.add("005", "SELECT 1", after="004", extra=declared("ensures", found, declared("expects", found)))
    script = tmp_path / "005.sql"
    for rows, code, version in ((3, 3, "004"), (0, 0, "005")):
        database_at_head.run(f"DELETE FROM public.users; {USERS.format(rows)}")
        script.write_text(database_at_head.alembic("upgrade", "004:005", "--sql", cwd=project.root).out)
        done = subprocess.run(
            ["psql", "-X", "-f", str(script), database_at_head.url], capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert (f'ERROR:  Revision 005 expects "{PHRASE}", and rows break that.' in done.stderr) == (code == 3)
        assert database_at_head.value(VERSION) == version
