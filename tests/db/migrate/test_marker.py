"""The environment marker: stored by the first upgrade, changed by `mark`, and what it guards."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Finished
from tests.db.forking import BIN
from tests.db.running import log_of
from tests.db.schemas import SOME_ROWS
from tests.projects import PROJECT

MARKER = "SELECT value FROM neuraknot_db.settings WHERE name = 'environment'"
VERSION = "SELECT version_num FROM alembic_version"


@pytest.fixture
def production(database_at_head: Database) -> Database:
    """A database with rows that is marked as production."""
    assert database_at_head.neuraknot_db("mark", "prod").code == 0
    database_at_head.run(SOME_ROWS)
    database_at_head.run("UPDATE users SET avatar_url = 'https://example.org/a.png'")
    return database_at_head


def on_a_terminal(database: Database, typed: str, *arguments: str, **environ: str) -> Finished:
    """Run plain `alembic` with a terminal on standard input and error, at which somebody types."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "alembic"), *arguments],
        cwd=PROJECT,
        env=database.environment(**environ),
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, f"{typed}\n".encode())
    told = b""
    try:
        while chunk := os.read(ours, 65536):
            told += chunk
    except OSError:
        pass  # the last one at the other end has gone
    os.close(ours)
    return Finished(process.wait(60), "", told.decode())


@pytest.mark.parametrize(("said_by_variable", "marker"), [("staging", "staging"), ("dev", "dev"), ("", "prod")])
def test_the_first_upgrade_stores_it_and_later_ones_keep_it(
    database: Database, said_by_variable: str, marker: str
) -> None:
    assert database.alembic("upgrade", "003", NEURAKNOT_ENV=said_by_variable).code == 0
    assert database.value(MARKER) == marker
    # Where nothing is said later, the marker says what it is.
    done = database.alembic("upgrade", "head", NEURAKNOT_ENV="")
    assert done.code == 0, done.err
    assert f"({marker})" in done.err
    assert database.value(MARKER) == marker


def test_mark_changes_it_and_is_recorded(database_at_head: Database) -> None:
    done = database_at_head.neuraknot_db("mark", "prod")
    assert done.code == 0, done.err
    assert "marked as prod (before: test)" in done.err
    assert database_at_head.value(MARKER) == "prod"
    assert log_of(database_at_head, "direction, outcome")[-1] == ("mark", "succeeded")


def test_a_log_that_is_set_aside_takes_no_marker_along(production: Database) -> None:
    production.run("ALTER TABLE neuraknot_db.migration_log DROP COLUMN checksum")
    aside = "ALTER SCHEMA neuraknot_db RENAME TO neuraknot_db_old"
    said(production.neuraknot_db("log"), 5, f"{aside}, then neuraknot-db mark prod\n")
    production.run(aside)
    done = production.alembic("upgrade", "head", NEURAKNOT_ENV="prod")
    assert (done.code, production.value(MARKER)) == (0, "prod"), done.err
    said(production.neuraknot_db("reset", "--confirm", production.name, NEURAKNOT_ENV="dev"), 5, "marked as prod")
    production.run("ALTER TABLE neuraknot_db.settings DROP CONSTRAINT settings_pkey")
    said(production.neuraknot_db("log"), 5, f"{aside}, then mark its environment: neuraknot-db mark NAME\n")


@pytest.mark.parametrize("marker", ["prod", "staging", None])
def test_production_is_marked_as_something_else_only_by_its_name(
    database_at_head: Database, marker: str | None
) -> None:
    database, name = database_at_head, database_at_head.name
    database.neuraknot_db("mark", marker or "prod")
    if marker is None:
        database.run("DELETE FROM neuraknot_db.settings WHERE name = 'environment'")

    def mark(*arguments: str) -> Finished:
        return database.neuraknot_db("mark", *arguments, NEURAKNOT_ENV="")

    said(mark("dev"), 5, "counts as production", "its name was not given", "neuraknot-db mark dev --confirm NAME")
    said(mark("dev", "--confirm", "other"), 5, f"The confirmation is 'other', and the database is '{name}'")
    assert database.run(MARKER) == [(marker,)] * (marker is not None)
    assert mark("staging").code == 0  # that is production as well
    assert mark("dev", "--confirm", name).code == 0
    assert database.value(MARKER) == "dev"
    assert mark("test").code == 0


def test_a_name_that_nobody_can_read_is_no_environment(database_at_head: Database) -> None:
    for name in (" ", "pr\nod", "d\tev", "\x1b[31mdev", "\udcff", "prod\u202e", "dev\u200b", "-x", "a" * 64):
        said(database_at_head.neuraknot_db("mark", "--", name), 2, "not a valid environment name")
        if name != " ":
            said(database_at_head.alembic("current", NEURAKNOT_ENV=name), 2, "not a valid environment name")
    assert database_at_head.value(MARKER) == "test"


@pytest.mark.parametrize(
    "arguments",
    [
        ("alembic", "upgrade", "head"),
        ("alembic", "-x", "confirm=DATABASE", "downgrade", "-1"),
        ("alembic", "stamp", "003"),
        ("neuraknot-db", "reset", "--confirm", "DATABASE", "--environment", "prod"),
    ],
)
@pytest.mark.parametrize(("marker", "said_by_variable"), [("prod", "dev"), ("prod", "staging")])
def test_a_contradiction_is_refused(
    database_at_head: Database, marker: str, said_by_variable: str, arguments: tuple[str, ...]
) -> None:
    database_at_head.neuraknot_db("mark", marker)
    before = database_at_head.value(SCHEMA)
    program, *rest = (word.replace("DATABASE", database_at_head.name) for word in arguments)
    done = database_at_head.program(program, *rest, NEURAKNOT_ENV=said_by_variable)
    said(done, 5, f"marked as {marker}, and NEURAKNOT_ENV says {said_by_variable}")
    assert database_at_head.value(SCHEMA) == before
    assert database_at_head.value(VERSION) == "004"


@pytest.mark.slow
def test_capitals_make_no_other_environment(production: Database) -> None:
    done = production.alembic("upgrade", "head", NEURAKNOT_ENV="PROD")
    assert done.code == 0, done.err
    confirmed = ("reset", "--confirm", production.name)
    said(production.neuraknot_db(*confirmed, NEURAKNOT_ENV="Prod"), 5, "counts as production")
    done = production.neuraknot_db(*confirmed, "--environment", "PROD", NEURAKNOT_ENV="Prod")
    assert done.code == 0, done.err
    assert production.value(MARKER) == "prod"


def test_two_names_for_what_is_no_production_do_not_contradict(database_at_head: Database) -> None:
    assert database_at_head.alembic("upgrade", "head", NEURAKNOT_ENV="dev").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("said_by_variable", ["prod", ""])
def test_a_reset_where_the_marker_says_production(production: Database, said_by_variable: str) -> None:
    confirmed = ("reset", "--confirm", production.name)
    said(
        production.neuraknot_db(*confirmed, NEURAKNOT_ENV=said_by_variable),
        5,
        "counts as production",
        "--environment prod",
    )
    said(
        production.neuraknot_db(*confirmed, "--environment", "dev", NEURAKNOT_ENV=said_by_variable),
        5,
        "'prod', not 'dev'",
    )
    assert production.value("SELECT count(*) FROM users") != 0
    done = production.neuraknot_db(*confirmed, "--environment", "prod", NEURAKNOT_ENV=said_by_variable)
    assert done.code == 0, done.err
    assert production.value("SELECT count(*) FROM users") == 0
    assert production.value(MARKER) == "prod"


@pytest.mark.parametrize("said_by_variable", ["prod", ""])
@pytest.mark.parametrize("confirm", [[], ["-x", "confirm=other"]])
def test_a_downgrade_in_production_tells_the_losses_and_wants_the_name(
    production: Database, said_by_variable: str, confirm: list[str]
) -> None:
    done = production.alembic(*confirm, "downgrade", "002", NEURAKNOT_ENV=said_by_variable)
    said(done, 5, "going back from 003 will lose: ", "values of users.avatar_url", f"-x confirm={production.name}")
    assert production.value(VERSION) == "004"
    assert production.value("SELECT count(avatar_url) FROM users") != 0


def test_a_downgrade_in_production_with_the_name(production: Database) -> None:
    done = production.alembic("-x", f"confirm={production.name}", "downgrade", "002", NEURAKNOT_ENV="prod")
    assert done.code == 0, done.err
    assert production.value(VERSION) == "002"


def test_a_downgrade_elsewhere_wants_none(database_at_head: Database) -> None:
    assert database_at_head.alembic("downgrade", "002").code == 0


def test_a_loss_that_can_not_be_counted_yet_is_told_all_the_same(production: Database) -> None:
    production.run("ALTER TABLE users RENAME COLUMN avatar_url TO picture")
    done = production.alembic("downgrade", "002", NEURAKNOT_ENV="prod")
    said(done, 5, "will lose: an unknown number of values of users.avatar_url")


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "code", "version"), [("", 5, "004"), ("yes", 5, "004"), ("DATABASE", 0, "003")])
def test_on_a_terminal_a_downgrade_asks(production: Database, typed: str, code: int, version: str) -> None:
    typed = typed.replace("DATABASE", production.name)
    done = on_a_terminal(production, typed, "downgrade", "-1", NEURAKNOT_ENV="prod")
    assert done.code == code, done.err
    assert "Type the name of the database" in done.err
    assert production.value(VERSION) == version
