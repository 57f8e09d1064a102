"""`plan` tells what would run, what it would lock and who is in the way, and leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import lock
from neuraknot_db.plan.make import make
from neuraknot_db.plan.render import size
from neuraknot_db.plan.survey import conflicts
from neuraknot_db.schema.effects import LockMode
from neuraknot_db.settings import Limits
from tests.db import running
from tests.db.conftest import Database, Project
from tests.db.measuring import measured, settings_of
from tests.projects import PROJECT


def planned(database: Database, *arguments: str, cwd: Path = PROJECT) -> dict[str, Any]:
    done = database.neuraknot_db("plan", "--json", *arguments, cwd=cwd)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def add_revision(project: Project, database: Database, upgrade: str, *, settings: str = "") -> None:
    """A revision 005, measured as its author does it."""
    project.add("005", upgrade, after="004", extra=settings)
    measured(project.root, database)


def test_each_pending_revision_with_each_statement_and_its_locks(at: Callable[[str], Database]) -> None:
    plan = planned(at("002"))
    assert (plan["current"], plan["target"], plan["direction"]) == ("002", "004", "upgrade")
    assert [each["revision"] for each in plan["revisions"]] == ["003", "004"]
    avatars = plan["revisions"][0]
    assert (avatars["lock_waits"], avatars["longest_wait_ms"]) == (2, 4000)
    assert [
        (lock["table"], lock["mode"], lock["held"], lock["blocks"])
        for statement in avatars["statements"]
        for lock in statement["locks"]
    ] == [
        ("ai_agents", "ACCESS EXCLUSIVE", None, "reads and writes"),
        ("users", "ACCESS EXCLUSIVE", None, "reads and writes"),
    ]
    lines = (PROJECT / avatars["path"]).read_text().splitlines()
    for statement in avatars["statements"]:
        assert statement["sql"].startswith(lines[statement["line"] - 1].strip().rstrip(";"))


@pytest.mark.parametrize(("start", "arguments"), [("004", ()), ("002", ("002",))])
def test_nothing_to_do_is_said(at: Callable[[str], Database], start: str, arguments: tuple[str, ...]) -> None:
    database = at(start)
    assert planned(database, *arguments)["revisions"] == []
    assert database.neuraknot_db("plan", *arguments).out.endswith(f": at {start}, nothing to do\n")


@pytest.mark.parametrize(
    ("start", "target", "revisions", "end"),
    [
        ("003", "base", ["003", "002", "001"], None),
        ("003", "-1", ["003"], "002"),
        ("003", "001", ["003", "002"], "001"),
        ("003", "+1", ["004"], "004"),
        ("001", "003", ["002", "003"], "003"),
    ],
)
def test_the_target_is_what_upgrade_and_downgrade_take(
    at: Callable[[str], Database], start: str, target: str, revisions: list[str], end: str | None
) -> None:
    plan = planned(at(start), target)
    assert [each["revision"] for each in plan["revisions"]] == revisions
    assert plan["target"] == end


@pytest.mark.slow
def test_tables_come_with_their_size_and_who_is_in_the_way(at: Callable[[str], Database]) -> None:
    database = at("002")
    database.run(
        "INSERT INTO users (cognito_user_id, email, display_name) SELECT n, n, n FROM generate_series(1, 1234) n;"
        "ANALYZE users"
    )
    with database.engine().connect() as reader:
        reader.exec_driver_sql("SET application_name = 'report'")
        pid = reader.exec_driver_sql("SELECT pg_backend_pid() FROM public.users").scalar()
        plan = planned(database)
        text = database.neuraknot_db("plan").out
    tables = {table["name"]: table for table in plan["tables"]}
    assert tables["users"]["rows"] == 1234
    assert tables["users"]["bytes"] == database.value("SELECT pg_total_relation_size('users')")
    assert tables["ai_agents"]["rows"] is None
    (holder,) = tables["users"]["holders"]
    assert (holder["pid"], holder["application"], holder["mode"]) == (pid, "report", "ACCESS SHARE")
    assert holder["in_the_way"]
    assert holder["transaction_seconds"] >= 0
    assert holder["query"] == "SELECT pg_backend_pid() FROM public.users"
    assert tables["ai_agents"]["holders"] == []
    assert f"in the way: pid {pid}, report" in text
    assert "about 1,234 rows" in text


@pytest.mark.slow
def test_a_lock_that_is_not_in_the_way_is_told_apart(database_at_head: Database, project: Project) -> None:
    add_revision(project, database_at_head, "ANALYZE users")
    with database_at_head.engine().connect() as reader:
        reader.exec_driver_sql("SELECT FROM public.users")
        plan = planned(database_at_head, cwd=project.root)
    (users,) = plan["tables"]
    assert [holder["in_the_way"] for holder in users["holders"]] == [False]
    assert plan["revisions"][0]["longest_wait_ms"] == 0


@pytest.fixture
def two_sessions(database: Database) -> Iterator[tuple[Connection, Connection]]:
    database.run("CREATE TABLE t ()")
    with database.engine().connect() as one, database.engine().connect() as two:
        yield one, two


def test_which_locks_wait_for_which_is_as_the_server_has_it(two_sessions: tuple[Connection, Connection]) -> None:
    one, two = two_sessions
    found = {}
    for held, wanted in product(LockMode, LockMode):
        one.exec_driver_sql(f"LOCK TABLE t IN {held} MODE")
        try:
            two.exec_driver_sql(f"LOCK TABLE t IN {wanted} MODE NOWAIT")
            found[wanted, held] = False
        except DBAPIError:
            found[wanted, held] = True
        one.rollback()
        two.rollback()
    assert found == {(wanted, held): conflicts(wanted, held) for wanted, held in found}


TRACES = """
SELECT jsonb_build_object(
    'tables', (SELECT jsonb_agg(to_jsonb(s) ORDER BY relid) FROM pg_stat_user_tables s
                WHERE schemaname <> 'neuraknot_db' AND relname <> 'alembic_version'),
    -- Autovacuum counts the catalogs' pages and rows when it likes.
    'relations', (SELECT jsonb_agg(to_jsonb(c) - CASE relnamespace WHEN 'pg_catalog'::regnamespace
                                     THEN ARRAY['relpages', 'reltuples', 'relallvisible', 'relallfrozen',
                                                'relfrozenxid', 'relminmxid'] ELSE '{}' END
                                   || jsonb_build_object('xmin', xmin::text) ORDER BY oid)
                    FROM pg_class c WHERE relnamespace::regnamespace::text !~ '^pg_toast'),
    'columns', (SELECT count(*)::text || max(xmin::text::bigint) FROM pg_attribute),
    'schemas', (SELECT jsonb_agg(to_jsonb(n) ORDER BY oid) FROM pg_namespace n),
    'functions', (SELECT count(*) FROM pg_proc))
"""


@pytest.mark.slow
def test_it_leaves_no_trace(at: Callable[[str], Database]) -> None:
    database = at("001")
    for (name,) in database.run("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'"):
        # Nobody else is to count there, or to write into the catalogs, meanwhile.
        database.run(f"ALTER TABLE public.{name} SET (autovacuum_enabled = off)")
    before = database.value(TRACES)
    for target in ("head", "base"):
        assert database.neuraknot_db("plan", target).code == 0
    assert database.value(TRACES) == before


def test_the_result_for_the_launcher_is_the_last_line(at: Callable[[str], Database]) -> None:
    result = json.loads(at("003").neuraknot_db("plan", NEURAKNOT_RESULT="json").out.splitlines()[-1])
    assert (result["command"], result["before"], result["after"], result["ran"]) == ("plan", "003", "003", [])


def test_a_fresh_database_has_nothing_in_use(database: Database) -> None:
    plan = planned(database)
    assert plan["current"] is None
    assert [each["lock_waits"] for each in plan["revisions"]] == [0, 0, 0, 0]
    assert {table["made_by"] for table in plan["tables"]} == {"001"}
    done = database.neuraknot_db("plan")
    assert "tables now" not in done.out
    assert "no such table" not in done.out


def test_what_upgrade_would_refuse_is_said(database: Database) -> None:
    database.run("CREATE TABLE users (id int)")
    assert "neuraknot-db adopt" in planned(database)["refused"]["message"]
    assert "It would be refused" in database.neuraknot_db("plan").out
    in_task = database.neuraknot_db("plan", "--json", ECS_CONTAINER_METADATA_URI_V4="http://127.0.0.1:1/none")
    assert "launcher ecs-run --environment test -- adopt" in json.loads(in_task.out)["refused"]["message"]


def test_an_applied_revision_that_was_edited_would_be_refused(at: Callable[[str], Database], project: Project) -> None:
    path = project.versions / "002_allow_concise_and_no_persona.py"
    path.write_text(path.read_text().replace("'concise'", "'terse'"))
    assert "Revision 002 was edited" in planned(at("003"), cwd=project.root)["refused"]["message"]


def test_an_edit_is_refused_where_nothing_is_pending_too(database_at_head: Database, project: Project) -> None:
    path = project.versions / "002_allow_concise_and_no_persona.py"
    path.write_text(path.read_text().replace("'concise'", "'terse'"))
    plan = planned(database_at_head, cwd=project.root)
    assert plan["revisions"] == []
    assert (plan["refused"]["code"], "Revision 002 was edited" in plan["refused"]["message"]) == (5, True)
    assert "It would be refused: Revision 002" in database_at_head.neuraknot_db("plan", cwd=project.root).out
    assert database_at_head.neuraknot_db("upgrade", "head", cwd=project.root).code == 5


@pytest.mark.slow
def test_who_writes_is_in_the_way_of_a_concurrent_index(database_at_head: Database, project: Project) -> None:
    add_revision(project, database_at_head, f"{ONE}", settings="transactional = False")
    with database_at_head.engine().connect() as writer, database_at_head.engine().connect() as reader:
        writer.exec_driver_sql("LOCK TABLE public.users IN ROW EXCLUSIVE MODE")
        reader.exec_driver_sql("SELECT FROM public.users")
        plan = planned(database_at_head, cwd=project.root)
        pid = writer.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    holders = {holder["pid"]: holder["in_the_way"] for holder in plan["tables"][0]["holders"]}
    assert (len(holders), [each for each in holders if holders[each]]) == (2, [pid])


ONE = "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON users (status)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("upgrade", "settings", "code", "words"),
    [
        (f"{ONE}; ANALYZE users", "transactional = False", 5, "its upgrade holds 2 statements"),
        ("ALTER TABLE users ADD b int", 'lock_timeout = "0"', 2, "no limit would stop the whole application"),
        ("ALTER TABLE users ADD b int", 'lock_timeout = "soon"', 2, "which is not a valid duration"),
        ("ALTER TABLE users ADD b int", "transactional = 0", 2, "transactional of revision 005 is 0."),
        ("CREATE INDEX CONCURRENTLY ON users (status)", "transactional = False", 5, "an index without a name"),
    ],
)
def test_what_a_revision_is_refused_for_is_said(
    database_at_head: Database, project: Project, upgrade: str, settings: str, code: int, words: str
) -> None:
    add_revision(project, database_at_head, upgrade, settings=settings)
    refusal = planned(database_at_head, cwd=project.root)["refused"]["message"]
    assert words in refusal
    done = database_at_head.neuraknot_db("upgrade", "head", cwd=project.root)
    assert done.code == code
    assert words in done.err
    assert f"! It would be refused: {refusal}" in " ".join(
        database_at_head.neuraknot_db("plan", cwd=project.root).out.split()
    )


@pytest.mark.slow
def test_what_a_database_is_refused_for_is_said(at: Callable[[str], Database]) -> None:
    database = at("003")
    database.run("CREATE SCHEMA IF NOT EXISTS neuraknot_db")
    role = f"planner_{database.name}"
    database.run(f"CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public, neuraknot_db TO {role}")
    database.run(f"GRANT USAGE ON SCHEMA public, neuraknot_db TO {role}")
    try:
        refused(database.as_user(role), "upgrade", "head", words="may not write the table public.alembic_version")
        database.run(f"GRANT INSERT, UPDATE, DELETE ON alembic_version TO {role}")
        refused(database.as_user(role), "upgrade", "head", words="may not keep the log of migrations")
    finally:
        database.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
    database.run(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
    refused(database, "upgrade", "head", words="This session is read-only")
    with database.connect() as connection:
        connection.exec_driver_sql("SET default_transaction_read_only = off")
        connection.exec_driver_sql(f'ALTER DATABASE "{database.name}" RESET ALL')
    database.run("UPDATE neuraknot_db.settings SET value = 'prod' WHERE name = 'environment'")
    refused(database, "upgrade", "head", words="is marked as prod, and NEURAKNOT_ENV says test")
    refused(database, "downgrade", "002", words=f"-x confirm={database.name}", env="prod")


def refused(database: Database, *command: str, words: str, env: str = "test") -> None:
    """A command is refused, and the plan of it had said so."""
    done = database.neuraknot_db("plan", "--json", command[1], NEURAKNOT_ENV=env)
    assert done.code == 0, done.err
    assert words in json.loads(done.out)["refused"]["message"]
    done = database.neuraknot_db(*command, NEURAKNOT_ENV=env)
    assert (done.code, words in done.err) == (5, True), done.err


@pytest.mark.slow
def test_the_work_is_told_with_the_size_of_the_table(database_at_head: Database, project: Project) -> None:
    add_revision(
        project, database_at_head,
        "ALTER TABLE users ALTER COLUMN status TYPE varchar(60);"
        "ALTER TABLE messages ALTER COLUMN sender_type TYPE varchar(10)",
    )  # fmt: skip
    database_at_head.run("ANALYZE users, messages")
    text = " ".join(database_at_head.neuraknot_db("plan", cwd=project.root).out.split())
    assert "users: ACCESS EXCLUSIVE, blocks reads and writes; reads every row to build an index (about 0 rows, " in text
    anew = "messages: ACCESS EXCLUSIVE, blocks reads and writes; writes the whole table and its indexes anew (about"
    assert anew in text


@pytest.mark.slow
def test_a_schema_that_is_not_the_measured_one_is_said(at: Callable[[str], Database]) -> None:
    database = at("003")
    database.run("ALTER TABLE users DROP COLUMN avatar_url; DROP TABLE ai_tool_usage")
    doubt = planned(database)["doubt"]
    assert doubt.startswith("The schema is not what revision 003 should hold (2 differences): what was measured may")
    assert f"! {doubt}" in " ".join(database.neuraknot_db("plan").out.split())
    text = " ".join(database.neuraknot_db("plan", "base").out.split())
    assert (
        "ai_tool_usage: ACCESS EXCLUSIVE, blocks reads and writes; every row goes; there is no such table now" in text
    )
    assert planned(at("003"))["doubt"] is None


@pytest.mark.parametrize("how", ["never", "edited", "broken"])
def test_a_revision_that_was_not_measured_is_said(database_at_head: Database, project: Project, how: str) -> None:
    path = project.add("005", "ALTER TABLE users ADD b int", after="004")
    words = "it was not measured"
    if how == "edited":
        measured(project.root, database_at_head)
        path.write_text(path.read_text().replace("ADD b int", "ADD b text"))
        words = "it was edited after it was measured"
    elif how == "broken":
        (project.root / "alembic" / "snapshots" / "005.effects.json").write_text("{")
        words = "005.effects.json can't be read"
    (revision,) = planned(database_at_head, cwd=project.root)["revisions"]
    assert (revision["statements"], revision["may_lock_more"]) == ([], True)
    assert revision["failure"] == f"Not known: {words}. neuraknot-db snapshot measures it."
    text = " ".join(database_at_head.neuraknot_db("plan", cwd=project.root).out.split())
    assert f"! {revision['failure']}" in text
    assert text.endswith("Whom it keeps waiting shows only when it runs.")


@pytest.mark.slow
def test_timeouts_are_the_revisions_own(database_at_head: Database, project: Project) -> None:
    add_revision(
        project, database_at_head,
        "ALTER TABLE users ADD x int; ALTER TABLE messages ADD x int; DROP TABLE ai_tool_usage",
        settings='lock_timeout = "500ms"\nstatement_timeout = "1h"',
    )  # fmt: skip
    (revision,) = planned(database_at_head, cwd=project.root)["revisions"]
    # Dropping a table drops its foreign keys, and so locks the tables that it refers to.
    assert (revision["lock_timeout_ms"], revision["statement_timeout_ms"], revision["lock_waits"]) == (
        500,
        3_600_000,
        4,
    )
    assert revision["longest_wait_ms"] == 2000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sql", "limits", "waits", "longest"),
    [
        ("ALTER TABLE users ADD COLUMN IF NOT EXISTS b int", (2_000, 900_000), 1, 2_000),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON messages (content)", (0, 0), 0, 0),
    ],
)
def test_limits_outside_of_a_transaction_are_those_that_the_run_sets(
    database_at_head: Database, project: Project, sql: str, limits: tuple[int, int], waits: int, longest: int
) -> None:
    add_revision(project, database_at_head, sql, settings="transactional = False")
    plan = planned(database_at_head, cwd=project.root)
    (revision,) = plan["revisions"]
    assert (revision["lock_timeout_ms"], revision["statement_timeout_ms"]) == limits
    assert (revision["lock_waits"], revision["longest_wait_ms"]) == (waits, longest)
    text = " ".join(database_at_head.neuraknot_db("plan", cwd=project.root).out.split())
    assert ("Keeps no query of the application waiting." in text) is (waits == 0)

    # The run itself says what it sets: a trigger on DDL is told of it.
    database_at_head.run(
        "CREATE FUNCTION tell() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'limits % %',"
        " current_setting('lock_timeout'), current_setting('statement_timeout'); END$$;"
        "CREATE EVENT TRIGGER tell ON ddl_command_start WHEN TAG IN ('ALTER TABLE', 'CREATE INDEX')"
        " EXECUTE FUNCTION tell()"
    )
    done = database_at_head.neuraknot_db("upgrade", "head", cwd=project.root)
    assert ("limits 0 0" if limits == (0, 0) else "limits 2s 15min") in done.err


@pytest.mark.slow
def test_who_keeps_the_tables_from_being_read_is_told(database_at_head: Database, project: Project) -> None:
    add_revision(project, database_at_head, "ALTER TABLE messages ALTER COLUMN sender_type TYPE text")
    with database_at_head.engine().connect() as other:
        other.exec_driver_sql("SET application_name = 'import'")
        pid = other.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        other.exec_driver_sql("LOCK TABLE public.users")
        plan = planned(database_at_head, cwd=project.root)
        text = database_at_head.neuraknot_db("plan", cwd=project.root).out
    assert plan["doubt"].endswith("whether the schema is what it should be is not known.")
    assert f"! {plan['doubt']}" in " ".join(text.split())
    tables = {table["name"]: table for table in plan["tables"]}
    (holder,) = tables["users"]["holders"]
    assert (holder["pid"], holder["application"], holder["in_the_way"]) == (pid, "import", True)
    assert tables["users"]["bytes"] is None
    assert "users" in text
    assert f"in the way: pid {pid}, import" in text
    assert tables["messages"]["bytes"] > 0
    assert plan["revisions"][0]["statements"][0]["locks"][0]["mode"] == "ACCESS EXCLUSIVE"


@pytest.mark.slow
def test_without_a_revision_too(database: Database) -> None:
    database.run("CREATE TABLE theirs (id int CHECK (id > 0))")
    with database.engine().connect() as other:
        other.exec_driver_sql("LOCK TABLE public.theirs")
        plan = planned(database)
    assert plan["doubt"]
    assert len(plan["revisions"]) == 4
    assert [table["name"] for table in plan["tables"] if table["holders"]] == ["theirs"]


@pytest.mark.slow
def test_what_goes_by_cascade_is_locked_too(database_at_head: Database, project: Project) -> None:
    add_revision(project, database_at_head, "TRUNCATE ai_agents CASCADE")
    (revision,) = planned(database_at_head, cwd=project.root)["revisions"]
    assert (revision["lock_waits"], revision["may_lock_more"]) == (6, False)
    add_revision(project, database_at_head, "DROP FUNCTION update_updated_at_column() CASCADE")
    plan = planned(database_at_head, cwd=project.root)
    assert {table["name"] for table in plan["tables"]} == {
        "users", "user_service_configs", "ai_agents", "conversations",
    }  # fmt: skip
    assert plan["revisions"][0]["longest_wait_ms"] == 8000


@pytest.mark.slow
def test_partitions_and_heirs_that_only_this_database_has_are_locked_with_their_parents(
    database_at_head: Database, project: Project
) -> None:
    tables = "CREATE TABLE parts (id int) PARTITION BY LIST (id); CREATE TABLE base (id int)"
    project.add("005", f"{tables}; CREATE TABLE known PARTITION OF parts FOR VALUES IN (9)", after="004")
    project.add("006", "CREATE INDEX ON parts (id); ALTER TABLE base ADD b int; ALTER TABLE base OWNER TO CURRENT_USER",
                after="005")  # fmt: skip
    assert database_at_head.neuraknot_db("snapshot", cwd=project.root).code == 0
    assert database_at_head.neuraknot_db("upgrade", "005", cwd=project.root).code == 0
    database_at_head.run(
        'CREATE SCHEMA far; CREATE TABLE far."a part" PARTITION OF parts FOR VALUES IN (1);'
        'CREATE TABLE heir () INHERITS (base); INSERT INTO far."a part" VALUES (1); ANALYZE far."a part"'
    )
    plan = planned(database_at_head, cwd=project.root)
    assert [
        (lock["table"], lock["mode"], lock["assumed_as_on"])
        for statement in plan["revisions"][0]["statements"]
        for lock in statement["locks"]
    ] == [
        ("known", "SHARE", None),
        ("parts", "SHARE", None),
        ('far."a part"', "SHARE", "parts"),
        ("base", "ACCESS EXCLUSIVE", None),
        ("heir", "ACCESS EXCLUSIVE", "base"),
    ]
    assert {table["name"]: table["rows"] for table in plan["tables"]}['far."a part"'] == 1
    text = " ".join(database_at_head.neuraknot_db("plan", cwd=project.root).out.split())
    assert "heir: ACCESS EXCLUSIVE, blocks reads and writes; catalogs only: assumed as on base, above it" in text


@pytest.mark.slow
def test_an_index_that_is_locked_is_no_obstacle(database_at_head: Database, project: Project) -> None:
    add_revision(project, database_at_head, "ALTER TABLE users ADD b int")
    with database_at_head.engine().connect() as other:
        other.exec_driver_sql("REINDEX INDEX public.idx_users_email")
        plan = planned(database_at_head, cwd=project.root)
    assert [table["name"] for table in plan["tables"]] == ["users"]
    assert plan["tables"][0]["holders"][0]["in_the_way"]


def test_it_may_not_write(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def write(connection: Connection, *_: object, **__: object) -> None:
        with pytest.raises(DBAPIError, match="read-only transaction"), connection.begin_nested():
            connection.exec_driver_sql("CREATE TABLE trace ()")
        written.append(connection.exec_driver_sql("SHOW transaction_isolation").scalar_one())

    monkeypatch.setattr("neuraknot_db.plan.make.refusal", write)
    with database.engine().connect() as connection:
        make(connection, ScriptDirectory(str(PROJECT / "alembic")), settings_of(database), Limits(), "head")
    assert written == ["repeatable read"]


@pytest.mark.slow
def test_what_other_rows_may_lead_elsewhere_is_said(database_at_head: Database, project: Project) -> None:
    add_revision(project, database_at_head, "DO $$BEGIN UPDATE users SET status = 'suspended' WHERE false; END$$")
    (revision,) = planned(database_at_head, cwd=project.root)["revisions"]
    (statement,) = revision["statements"]
    assert statement["note"] == "measured with the sample rows: other rows may lead it to other tables"
    assert [(lock["table"], lock["mode"]) for lock in statement["locks"]] == [("users", "ROW EXCLUSIVE")]
    assert revision["may_lock_more"]
    text = database_at_head.neuraknot_db("plan", cwd=project.root).out
    assert "Keeps no query" not in text
    assert "Whom it keeps waiting shows only when it runs." in text


@pytest.mark.parametrize("width", [80, 200])
def test_every_line_fits_the_terminal(at: Callable[[str], Database], width: int) -> None:
    database = at("001")
    for target in ("head", "base"):
        lines = database.neuraknot_db("plan", target, COLUMNS=str(width)).out.splitlines()
        assert max(cells(line) for line in lines) <= min(width, 120)


def cells(line: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in line)


def test_bad_input_is_one_sentence_with_its_code(at: Callable[[str], Database]) -> None:
    database = at("004")
    for target, words in (("009", "There is no revision 009."), ("+7", "no way to +7"), ("-7", "no way to -7")):
        done = database.neuraknot_db("plan", target)
        assert (done.code, done.out) == (2, ""), done.err
        assert words in done.err
        assert "Hint: " in done.err
    database.run("UPDATE alembic_version SET version_num = '099'")
    done = database.neuraknot_db("plan")
    assert (done.code, done.out) == (5, "")
    assert "revision 099, which is not in alembic/versions" in done.err


def test_amounts_are_told_in_words() -> None:
    assert [size(count) for count in (0, 1023, 49152, 10**8, 3 * 2**40)] == [
        "0 bytes", "1,023 bytes", "48.0 KiB", "95.4 MiB", "3.0 TiB",
    ]  # fmt: skip


def test_an_untouched_template_is_said_to_fail(database_at_head: Database, project: Project) -> None:
    assert database_at_head.neuraknot_db("revision", "-m", "new", cwd=project.root).code == 0
    told = "! It would fail: it sends an SQL text without a statement, as the template does."
    assert told in database_at_head.neuraknot_db("plan", cwd=project.root, COLUMNS="120").out
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 7


def test_another_migration_that_runs_is_told(at: Callable[[str], Database]) -> None:
    database = at("003")
    with running.held(database, f"SELECT pg_advisory_lock({lock.KEY})", application="neuraknot-db") as other:
        pid = other.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        told = f"pid {pid}, neuraknot-db, connected since "
        assert f"! It would wait for another migration: {told}" in database.neuraknot_db("plan", COLUMNS="120").out
        assert json.loads(database.neuraknot_db("plan", "--json").out)["running"].startswith(told)
    assert json.loads(database.neuraknot_db("plan", "--json").out)["running"] is None


def test_what_a_revision_expects_is_listed_and_asked_only_with_count(
    at: Callable[[str], Database], project: Project
) -> None:
    database = at("004")
    database.run("INSERT INTO public.users (cognito_user_id, email, display_name) VALUES ('a', 'b', 'c')")
    broken, holds, later, after = "no user is there", "all have names", "none in what 005 makes", "it is done"
    project.add("005", "CREATE TABLE public.five ()", after="004")
    expects = {broken: "SELECT id FROM users", holds: "SELECT 1 WHERE false;", later: "TABLE five"}
    extra = f"expects = {expects!r}\nensures = { ({after: 'SELECT 1/0'})!r}"
    project.add(
        "006",
        "SELECT 1",
        "SELECT 1",
        after="005",
        extra=f"{extra}\nlosses = {{'users': 'SELECT 7', 'none': 'SELECT 1 WHERE false', 'some': 'SELECT NULL'}}",
    )
    measured(project.root, database)
    for arguments, counts in (
        ([], []),
        (["--count"], [("expects", broken, 1), ("expects", holds, 0), ("expects", later, None)]),
    ):
        last = planned(database, *arguments, cwd=project.root)["revisions"][-1]
        assert (last["expects"], last["ensures"], last["losses"]) == ([broken, holds, later], [after], [])
        assert [(each["of"], each["phrase"], each["rows"]) for each in last["counts"]] == counts
    assert last["counts"][-1]["unknown"] == 'relation "five" does not exist'
    text = database.neuraknot_db("plan", "--count", cwd=project.root).out
    assert f"     ! expects {broken}: 1 row breaks that now\n     expects {holds}: true now\n" in text
    page = database.neuraknot_db("plan", "--count", "--markdown", cwd=project.root).out
    assert f"- ❗ expects {broken}: 1 row breaks that now\n- 🔎 expects {holds}: true now\n" in page
    assert f"expects {later}: not known now, relation" in page
    assert f"- 🔎 ensures {after}\n" in page
    assert database.alembic("stamp", "006", cwd=project.root).code == 0
    back = planned(database, "-1", "--count", cwd=project.root)["revisions"][0]
    assert (back["losses"], back["expects"]) == (["users", "none", "some"], [])
    assert back["counts"][0] == {"of": "losses", "phrase": "users", "rows": 7, "unknown": None}
    assert [each["unknown"] for each in back["counts"][1:]] == ["its query gives no number"] * 2
