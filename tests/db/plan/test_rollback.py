"""Back by a run: which one the log names, when it names none, and that what was shown is what is done."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import RefusedError
from neuraknot_db.history.runs import Run
from neuraknot_db.plan import rollback
from tests.db.conftest import Database, Project
from tests.db.running import held
from tests.db.schemas import old_schema
from tests.projects import PROJECT

AS_HANAKO: dict[str, Any] = {"NEURAKNOT_ENV": "prod", "NEURAKNOT_STARTED_BY": "hanako"}
STEPS = {"up": "upgrade", "down": "downgrade"}
REVISIONS = ("base", "001", "002", "003", "004")


def rows_of(history: str) -> list[tuple[str | None, ...]]:
    """The rows (run, revision, direction, outcome, before, after) of runs such as `up 002` and `down 001`, from base.

    `up 004 killed 002` is a run to 004 of which only 002 landed, `up 004 failed` one whose first revision failed;
    `old 002` was written in format 1; `lost 003` is no run, but moves the database.
    """
    rows: list[tuple[str | None, ...]] = []
    at = 0
    for words in filter(None, history.split(", ")):
        kind, target, *how = words.split()
        run, to = str(uuid.uuid4()), REVISIONS.index(target)

        def name(index: int) -> str | None:
            return REVISIONS[index] if index else None

        if kind == "lost":
            at = to
            continue
        if kind == "old":
            rows += [(None, REVISIONS[each], "upgrade", "succeeded", None, None) for each in range(at + 1, to + 1)]
            at = to
            continue
        direction = STEPS.get(kind, kind)
        if kind == "mark":
            rows.append((run, None, kind, "succeeded", None, None))
            continue
        rows.append((run, None, direction, "started", name(at), name(to)))
        if how[:1] == ["failed"]:
            rows.append((run, REVISIONS[at + 1], direction, "failed", name(at), name(at)))
            continue
        if kind == "reset":
            rows.append((run, None, "reset", "succeeded", name(at), name(to)))
            at, direction = 0, "upgrade"
        last = REVISIONS.index(how[1]) if how else to
        if kind in ("stamp", "adopt"):
            rows.append((run, target, direction, "succeeded", name(at), name(to)))
            at = to
        while at != last:
            step = 1 if last > at else -1
            revision = REVISIONS[at + 1] if step > 0 else REVISIONS[at]
            rows.append((run, revision, direction, "succeeded", name(at), name(at + step)))
            at += step
    return rows


def written(history: str, at: str) -> str:
    """The SQL that has the log hold these runs, and the database be at a revision."""
    values = ",".join(
        f"({', '.join('NULL' if part is None else repr(part) for part in row)}, now(), 0, 1, 0, 'x', 'host', 'hanako')"
        for row in rows_of(history)
    )
    columns = "run, revision, direction, outcome, before, after, started_at, duration_ms, attempt, lock_wait_ms"
    log = f"INSERT INTO neuraknot_db.migration_log ({columns}, tool_version, client_host, started_by) VALUES {values};"
    return (
        "TRUNCATE neuraknot_db.migration_log; DELETE FROM public.alembic_version;"
        f"{log if values else ''} INSERT INTO public.alembic_version SELECT '{at}' WHERE '{at}' <> 'base'"
    )


FOUND = [
    ("up 002, up 004", "004", "002"),
    ("up 002, up 004, down 002", "002", None),
    ("up 002, up 004, down 003", "003", "002"),  # the rest of a run that was partly undone
    ("up 002, up 004, down 001", "001", None),
    ("up 004, down 002, up 003", "003", "002"),
    ("up 004, down 002, up 003, down 002", "002", None),
    ("up 002, up 004 killed 003", "003", "002"),
    ("up 002, up 004 failed", "002", None),
    ("up 003, down 001, up 004, down 002", "002", "001"),
    ("old 002, up 004", "004", "002"),
    ("reset 002, up 003", "003", "002"),
    ("stamp 003, down 002, up 004", "004", "002"),
    ("adopt 002, mark base, up 004", "004", "002"),
    ("up 002, lost 003, up 004", "004", "003"),  # what was done by hand before the run is no part of it
]
REFUSED = [
    ("", "base", "at no revision: there is nothing to roll back"),
    ("up 004, down base", "base", "at no revision: there is nothing to roll back"),
    ("", "004", "By its log, no run of this tool has brought the database to where it is."),
    ("old 004", "004", "rows of an older version, which name no run"),
    ("old 002, up 004, down 002", "002", "rows of an older version"),
    ("up 002, reset 004", "004", "The log leads back to a reset of "),
    ("up 002, reset 004, down 003", "003", "a reset can't be rolled back"),
    ("up 002, stamp 003", "003", "a stamp can't be rolled back"),
    ("up 004, stamp 003, down 002", "002", "a stamp can't be rolled back"),
    ("adopt 003", "003", "an adopt can't be rolled back"),
    ("up 002, up 004", "003", "By its log the database came to 004, and it is at 003: it was restored, or changed"),
    (
        "up 002, lost 003, down 002",
        "002",
        "By its log the database came to 002, and it was at 003: it was restored, or changed",
    ),
]


@pytest.mark.slow
def test_the_log_names_the_run_or_the_reason(at: Callable[[str], Database], caplog: pytest.LogCaptureFixture) -> None:
    database, script = at("head"), ScriptDirectory(str(PROJECT / "alembic"))

    with database.connect() as connection:

        def found(history: str, at: str) -> Run:
            connection.exec_driver_sql(written(history, at))
            return rollback.find(connection, script, DatabaseState.of(connection))

        for history, now, before in FOUND:
            caplog.clear()
            run = found(history, now)
            assert (run.before, run.by) == (before, "hanako"), history
            assert ("passed over, since it brought no revision: the upgrade" in caplog.text) == ("failed" in history)
        for history, now, words in REFUSED:
            with pytest.raises(RefusedError) as refused:
                found(history, now)
            assert words in refused.value.message, history


def going_back(database: Database) -> list[str]:
    """The command line that a plan gives."""
    said = database.neuraknot_db("plan", "--rollback", **AS_HANAKO).err.splitlines()[-1]
    before, _, words = said.partition(": alembic ")
    assert before == "to take it back"
    return words.split()


@pytest.mark.slow
def test_run_by_run_and_never_forward(database: Database) -> None:
    for target in ("001", "003", "head"):
        assert database.alembic("upgrade", target, **AS_HANAKO).code == 0
    planned = database.neuraknot_db("plan", "--rollback", "--count", **AS_HANAKO)
    assert planned.code == 0, planned.err
    first, second, *_ = " ".join(planned.out.split()).split("Back to where ")
    assert first.endswith(": 1 revision from 004 back to 003 ")
    assert second.startswith("this run began: upgrade of 20")
    assert " by hanako on " in second
    assert ", 003 -> 004. 004 take back: " in second
    assert f"to take it back: alembic -x confirm={database.name} -x from=004 downgrade 003\n" in planned.err
    for before in ("003", "001", None):
        done = database.alembic(*going_back(database), **AS_HANAKO)
        assert done.code == 0, done.err
        assert database.run("SELECT version_num FROM public.alembic_version") == ([(before,)] if before else [])
    assert database.neuraknot_db("plan", "--rollback", **AS_HANAKO).code == 5
    shown = database.neuraknot_db("log", "--runs").out.splitlines()
    assert max(map(len, shown)) <= 80
    assert shown[1:3] == ["    001", f"    hanako on {os.uname().nodename}"]
    runs = json.loads(database.neuraknot_db("log", "--runs", "--json").out)
    assert [(run["kind"], run["outcome"], run["before"], run["after"], run["revisions"]) for run in runs] == [
        ("upgrade", "succeeded", None, "001", ["001"]),
        ("upgrade", "succeeded", "001", "003", ["002", "003"]),
        ("upgrade", "succeeded", "003", "004", ["004"]),
        ("downgrade", "succeeded", "004", "003", ["004"]),
        ("downgrade", "succeeded", "003", "001", ["003", "002"]),
        ("downgrade", "succeeded", "001", None, ["001"]),
    ]


@pytest.mark.slow
def test_what_it_loses_is_told_without_what_loses_nothing(database: Database) -> None:
    assert database.alembic("upgrade", "003").code == 0
    rows = "INSERT INTO public.users (cognito_user_id, email, display_name, avatar_url) VALUES ('a', 'b', 'c', 'd')"
    database.run(rows)
    told = json.loads(database.neuraknot_db("plan", "--rollback", "--count", "--json").out)["rollback"]
    assert [(each["revision"], each["phrase"], each["rows"]) for each in told["losses"]] == [
        ("003", "values of users.avatar_url", 1),
        ("001", "rows of users", 1),
    ]
    assert told["told"].startswith("upgrade of 20")
    assert told["told"].endswith(f" by postgres on {os.uname().nodename}")


@pytest.mark.slow
def test_a_way_back_that_is_none_is_refused_before_anything(at: Callable[[str], Database], project: Project) -> None:
    database = at("head")
    path = project.add("005", "CREATE TABLE public.five ()", "DROP TABLE public.five", after="004")
    [below] = project.versions.glob("004_*")  # which stays, so that it needs no way back
    below.write_text(below.read_text(encoding="utf-8").partition("def downgrade")[0], encoding="utf-8")
    assert database.alembic("upgrade", "head", cwd=project.root).code == 0
    source = path.read_text(encoding="utf-8")
    function = source[source.index("def downgrade") :]
    assert database.neuraknot_db("plan", "--rollback", cwd=project.root).code == 0
    ways = {
        "its downgrade() is missing": "",
        "its downgrade() only raises": 'def downgrade() -> None:\n    """No."""\n    raise NotImplementedError("no")\n',
    }
    for why, instead in ways.items():
        path.write_text(source.replace(function, instead), encoding="utf-8")
        done = database.neuraknot_db("plan", "--rollback", cwd=project.root)
        assert done.code == 5
        assert f"Revision 005 has no way back: {why}.\n" in done.err
        assert "alembic/versions/005_added.py" in done.err
    path.unlink()
    done = database.neuraknot_db("plan", "--rollback", cwd=project.root)
    assert done.code == 5
    assert "The database is at revision 005, which is not in alembic/versions." in done.err


def test_what_a_run_would_refuse_is_told_with_its_hint(at: Callable[[str], Database]) -> None:
    database = at("head")
    done = database.neuraknot_db("plan", "--rollback", NEURAKNOT_ENV="prod")
    assert done.code == 5
    assert "nothing was changed.\nHint: Is it the right database? Then NEURAKNOT_ENV=test, or: " in done.err


def test_a_name_with_line_breaks_is_one_line(database: Database) -> None:
    assert database.alembic("upgrade", "001", NEURAKNOT_STARTED_BY="ha%na\n'::error::日本\n").code == 0
    for command in (["log"], ["log", "--runs"], ["plan", "--rollback"]):
        shown = database.neuraknot_db(*command).out
        assert "ha%na '::error::日本 on " in " ".join(shown.split()), command
        assert "\n'" not in shown


def test_while_a_migration_runs_nothing_is_planned(database_at_head: Database) -> None:
    from neuraknot_db.database.lock import KEY

    with held(database_at_head, f"SELECT pg_advisory_lock({KEY})"):
        done = database_at_head.neuraknot_db("plan", "--rollback")
    assert done.code == 4
    assert "Error: A migration runs now, and what it will have done is not known: pid " in done.err


@pytest.mark.slow
def test_from_holds_a_command_to_where_the_database_was(database_at_head: Database) -> None:
    for command in ("downgrade 002", "upgrade head", "downgrade 004"):
        done = database_at_head.alembic("-x", "from=003", *command.split())
        assert done.code == 4, done.err
        assert "Error: The database is at 004, and not at 003, as -x from says: it was moved meanwhile." in done.err
        assert done.err.endswith(
            ": neuraknot-db plan\n" if "upgrade" in command else ": neuraknot-db plan --rollback\n"
        )
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "004"
    for given, words in {"from=": "names no revision", "from=004": "means nothing to --sql"}.items():
        done = database_at_head.alembic("-x", given, "downgrade", "004:002", "--sql")
        assert (done.code, done.out) == (2, "")
        assert words in done.err
    assert database_at_head.alembic("-x", "from=004", "downgrade", "base").code == 0
    assert database_at_head.alembic("-x", "from=base", "upgrade", "001").code == 0
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "001"


def test_what_finds_its_revision_itself_takes_none(database: Database) -> None:
    done = database.neuraknot_db("plan", "--rollback", "003")
    assert done.code == 2
    assert "--rollback finds its revision itself, and 003 is given." in done.err


@pytest.mark.slow
def test_what_the_commands_really_write_leads_back_as_the_table_says(database: Database, project: Project) -> None:
    def back() -> str:
        done = database.neuraknot_db("plan", "--rollback", "--json", cwd=project.root)
        return str(json.loads(done.out)["target"]) if done.code == 0 else done.err

    database.run(old_schema("002"))
    assert database.neuraknot_db("adopt").code == 0
    assert "an adopt can't be rolled back." in back()
    project.add("005", "SELECT 1/0", after="004")
    assert database.alembic("upgrade", "head", cwd=project.root).code == 7
    assert back() == "002"  # 003 and 004 had landed
    assert database.alembic("downgrade", "003").code == 0
    assert back() == "002"
    assert database.alembic("stamp", "002").code == 0
    assert "a stamp can't be rolled back." in back()
    assert database.neuraknot_db("reset", "--confirm", database.name).code == 0
    assert "a reset can't be rolled back." in back()
    assert database.alembic("downgrade", "002").code == 0
    assert database.alembic("upgrade", "004").code == 0
    assert back() == "002"
    runs = json.loads(database.neuraknot_db("log", "--runs", "--json").out)
    assert [(run["kind"], run["outcome"], run["before"], run["after"]) for run in runs] == [
        ("adopt", "succeeded", None, "002"),
        ("upgrade", "failed", "002", "004"),
        ("downgrade", "succeeded", "004", "003"),
        ("stamp", "succeeded", "003", "002"),
        ("reset", "succeeded", "002", "004"),
        ("downgrade", "succeeded", "004", "002"),
        ("upgrade", "succeeded", "002", "004"),
    ]
    assert [run["error"] and "division by zero" in run["error"] for run in runs] == [None, True, *[None] * 5]
    assert "    Revision 005 failed and was rolled back: division by zero" in database.neuraknot_db("log", "--runs").out
    database.run("UPDATE public.alembic_version SET version_num = '003'")
    assert "By its log the database came to 004, and it is at 003" in back()
    database.run("INSERT INTO public.alembic_version VALUES ('004')")
    assert "at several revisions at once (003, 004)" in back()
