"""Queries recorded of an application that really runs, and schema changes that it really survives, or does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from neuraknot_db.dev import compat
from neuraknot_db.schema import queries
from neuraknot_db.schema.catalog import Function, Object, Schema
from neuraknot_db.settings import Settings
from tests.db.conftest import Database, Project, Server, running_15
from tests.db.dev.application import STATEMENTS, started

BREAKS = {
    "a column dropped": "ALTER TABLE users DROP display_name",
    "a column renamed": "ALTER TABLE ai_agents RENAME model TO model_name",
    "a table renamed": "ALTER TABLE user_service_configs RENAME TO service_configs",
    "a required column": "ALTER TABLE messages ADD lang text NOT NULL",
    "NOT NULL where nothing is given": "ALTER TABLE ai_agents ALTER system_prompt SET NOT NULL",
    "no default any more": "ALTER TABLE users ALTER status DROP DEFAULT",
    "a result wider": "ALTER TABLE conversations ALTER message_count TYPE bigint",
    "a result longer": "ALTER TABLE ai_agents ALTER model TYPE varchar(200)",
    "a column more for *": "ALTER TABLE users ADD nickname text",
    "nothing to conflict with": "ALTER TABLE user_service_configs"
    " DROP CONSTRAINT user_service_configs_user_id_service_class_key",
    "a constraint renamed that is named": "ALTER TABLE conversations"
    " RENAME CONSTRAINT unique_user_agent_conversation TO conversations_key",
    "boolean to integer": "ALTER TABLE user_service_configs ALTER is_enabled DROP DEFAULT,"
    " ALTER is_enabled TYPE smallint USING is_enabled::int, ALTER is_enabled SET DEFAULT 1",
    "text to jsonb": "ALTER TABLE messages ALTER content TYPE jsonb USING to_jsonb(content)",
    "integer to text": "ALTER TABLE ai_chat_sessions ALTER tokens_prompt TYPE text USING tokens_prompt::text",
    "a generated column": "ALTER TABLE ai_chat_sessions DROP tokens_total,"
    " ADD tokens_total integer GENERATED ALWAYS AS (tokens_prompt + tokens_completion) STORED",
    "an identity": "ALTER TABLE ai_tool_usage DROP execution_time_ms,"
    " ADD execution_time_ms integer GENERATED ALWAYS AS IDENTITY",
    "a column moved to another table": "ALTER TABLE ai_agents DROP system_prompt;"
    " CREATE TABLE prompts (agent_id uuid PRIMARY KEY, system_prompt text)",
}
"""What preparing sees, and the application does not survive."""

BREAKS_UNSEEN = {
    "a check": "ALTER TABLE messages ADD CHECK (length(content) < 5)",
    "a tighter check": "ALTER TABLE ai_agents DROP CONSTRAINT chk_max_tokens,"
    " ADD CONSTRAINT chk_max_tokens CHECK (max_tokens < 1000)",
    "a unique index": "CREATE UNIQUE INDEX ON messages (conversation_id)",
    "a unique constraint": "ALTER TABLE user_service_configs ADD UNIQUE (user_id)",
    "a shorter varchar": "ALTER TABLE ai_agent_services ALTER service_class TYPE varchar(5)",
    "a coarser number": "ALTER TABLE ai_chat_sessions ALTER temperature TYPE numeric(2,2)",
    "a foreign key": "ALTER TABLE messages ADD FOREIGN KEY (sender_id) REFERENCES ai_agents",
    "a trigger that writes elsewhere": "CREATE TABLE invoices (user_id uuid REFERENCES users);"
    " CREATE FUNCTION bill() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN INSERT INTO invoices VALUES (NEW.id); RETURN NEW; END';"
    " CREATE TRIGGER bill AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION bill()",
    "NOT NULL where NULL may be given": "ALTER TABLE user_service_configs ALTER encrypted_config SET NOT NULL",
    "a default that was counted on": "ALTER TABLE ai_agent_services ALTER enabled DROP DEFAULT",
    "a trigger that refuses": "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RAISE EXCEPTION ''no''; END';"
    " CREATE TRIGGER refuse BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION refuse()",
    "a column that a trigger needs": "ALTER TABLE conversations DROP last_message_at",
}
"""What preparing can't see, and the application does not survive."""

SURVIVED_TO_SEE = {
    "a foreign key to it": "CREATE TABLE invoices (user_id uuid REFERENCES users)",
    "a check that holds": "ALTER TABLE messages ADD CHECK (content <> '')",
    "a required column that a trigger fills": "ALTER TABLE messages ADD lang text NOT NULL;"
    " CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.lang := ''ja''; RETURN NEW; END';"
    " CREATE TRIGGER fill BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fill()",
}
SURVIVED = {
    "a column": "ALTER TABLE messages ADD lang text",
    "a column with a default": "ALTER TABLE ai_agents ADD top_p numeric NOT NULL DEFAULT 1",
    "a generated required column": "ALTER TABLE messages"
    " ADD length integer NOT NULL GENERATED ALWAYS AS (length(content)) STORED",
    "a dropped column before a required one": "ALTER TABLE ai_tool_usage DROP insert_position",
    "an index": "CREATE INDEX ON messages (created_at)",
    "an index less": "DROP INDEX idx_messages_sender",
    "a table": "CREATE TABLE tags (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE)",
    "a longer varchar": "ALTER TABLE ai_agent_services ALTER service_class TYPE text",
    "a parameter wider": "ALTER TABLE ai_chat_sessions ALTER tokens_completion TYPE bigint",
    "a function": "CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS E'SELECT\n1'",
    "a longer number": "ALTER TABLE ai_chat_sessions ALTER temperature TYPE numeric(6,3)",
    "a check less": "ALTER TABLE ai_agents DROP CONSTRAINT chk_max_tokens",
    "NULL allowed": "ALTER TABLE ai_agents ALTER name DROP NOT NULL",
    "where it is stored": "ALTER TABLE users SET (fillfactor = 70)",
    "a comment": "COMMENT ON TABLE users IS 'who comes'",
    "a column that nobody reads": "ALTER TABLE ai_agents DROP avatar_url",
    "another default": "ALTER TABLE ai_agents ALTER max_tokens SET DEFAULT 3000",
}
CHANGES = {**BREAKS, **BREAKS_UNSEEN, **SURVIVED_TO_SEE, **SURVIVED}


@pytest.fixture(scope="module")
def counting() -> Iterator[Server]:
    """A PostgreSQL 15 that counts queries."""
    with running_15("-E", "UTF8", more="-c shared_preload_libraries=pg_stat_statements") as server:
        yield server


@pytest.fixture(scope="module")
def recorded(counting: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the application asks, as `compat record` writes it."""
    database = counting.database("application")
    counting.database("postgres").run("CREATE DATABASE application")
    assert database.alembic("upgrade", "head").code == 0
    database.run("CREATE SCHEMA monitoring; CREATE EXTENSION pg_stat_statements SCHEMA monitoring")
    asyncio.run(ran(database))
    path = tmp_path_factory.mktemp("compat") / "queries.sql"
    done = database.neuraknot_db("compat", "record", "-o", str(path))
    assert done.code == 0, done.err
    return queries.parse(path).queries


async def ran(database: Database) -> None:
    async with started(database) as application:
        await application.run()


FORGET = """
SELECT monitoring.pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()
"""
"""Of this database only: other tests record another one's."""


@pytest.fixture
def asked(counting: Server, recorded: dict[str, int]) -> Iterator[Database]:
    """A database at head whose queries are counted, and shown."""
    maintenance = counting.database("postgres")
    maintenance.run("CREATE DATABASE asked TEMPLATE application")
    yield counting.database("asked")
    maintenance.run("DROP DATABASE asked WITH (FORCE)")


@pytest.mark.slow
def test_all_that_the_application_asks_is_recorded_in_the_same_order_each_time(
    recorded: dict[str, int], counting: Server, tmp_path: Path
) -> None:
    texts = list(recorded)
    assert (len(texts), texts) == (len(STATEMENTS), sorted(texts))
    assert "date_trunc($2, started_at) AS day" in str(texts)
    assert "GROUP BY date_trunc($2, started_at)" in str(texts)
    again, lines = tmp_path / "again.sql", tmp_path / "lines"
    database = counting.database("application")
    assert database.neuraknot_db("compat", "record", "-o", str(again)).code == 0
    assert queries.parse(again) == (recorded, "004", 15)
    done = database.neuraknot_db("compat", "record", "-o", "-")
    lines.write_text(f"application on host as postgres\n{done.out}left out: 1\n")  # as a log has both streams
    read = queries.parse(lines)
    assert (list(read.queries), read.revision, read.version) == (texts, "004", 15)


@pytest.mark.slow
def test_only_what_the_application_asks_of_our_tables_is_recorded(asked: Database) -> None:
    asked.run(f"CREATE ROLE other LOGIN; GRANT SELECT ON users TO other; {FORGET}")
    columns = ", ".join(["display_name"] * 1500)
    for sql in (
        "/* request 8471 */ SELECT email FROM users WHERE email = 'hanako@example.jp'",
        "SELECT count(*) FROM public.users",  # as the losses of 001, and a reset, count
        "SELECT relname FROM pg_catalog.pg_class WHERE relname = 'users'",
        "SELECT version_num FROM alembic_version, users",
        "EXPLAIN SELECT id FROM users",
        "ANALYZE users",
        "CREATE TABLE users_of_others (id int)",
        "SELECT * FROM users_of_others",
        f"SELECT {columns} FROM users",
    ):
        asked.run(sql)
    asked.as_user("other").run("SELECT id FROM users")
    done = asked.neuraknot_db("compat", "record", "-o", "-")
    assert [json.loads(line) for line in done.out.splitlines()[1:]] == [
        "SELECT email FROM users WHERE email = $1;",
        "SELECT id FROM users;",
    ]
    assert "left out: 2 of this tool and the revisions" in done.err
    assert "left out: 1 longer than 16 kB" in done.err
    asked.run("GRANT USAGE ON SCHEMA monitoring TO other; GRANT SELECT ON alembic_version TO other")
    less = asked.as_user("other").neuraknot_db("compat", "record", "-o", "-")
    [header, *texts] = map(json.loads, less.out.splitlines())
    assert texts == ["SELECT id FROM users;"]
    assert "Not complete: the user who recorded may not read the texts of others" in header
    assert 'As an administrator: GRANT pg_read_all_stats TO "other"' in less.err
    asked.run("DROP OWNED BY other; DROP ROLE other")


@pytest.mark.slow
def test_a_server_that_tells_no_queries_is_told_how_to(asked: Database) -> None:
    def refused(*words: str) -> None:
        done = asked.neuraknot_db("compat", "record")
        assert (done.code, [word for word in words if word not in done.err]) == (5, []), done.err

    asked.run(FORGET)
    refused("shows no query on our tables", "Hint: Let the application run first")
    asked.run("DROP EXTENSION pg_stat_statements")
    refused("in this database is no such extension", "CREATE EXTENSION pg_stat_statements")
    asked.run("CREATE EXTENSION pg_stat_statements VERSION '1.8'")
    refused("is of an old version", "ALTER EXTENSION pg_stat_statements UPDATE")


def test_a_server_that_counts_no_queries_is_told_how_to(database_at_head: Database) -> None:
    done = database_at_head.neuraknot_db("compat", "record")
    assert (done.code, "On RDS add it there in the instance's parameter group" in done.err) == (5, True)


def test_in_a_container_no_file_is_written(database_at_head: Database) -> None:
    done = database_at_head.neuraknot_db("compat", "record", ECS_CONTAINER_METADATA_URI_V4="http://127.0.0.1:1/none")
    assert (done.code, "compat record -o - > alembic/queries.sql" in done.err) == (2, True)


FILE = """\
-- Seen at revision 004, on PostgreSQL {version}, since 2026-11-27.

SELECT email,
       display_name
FROM users WHERE id = $1;

SELECT avg($1) FROM users;

SELECT * FROM messages WHERE content = 'cut of;

INSERT INTO users (cognito_user_id, email, display_name) VALUES ($1, $2, $3);
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", ["15", "18"])
def test_each_break_is_named_with_query_revision_and_reason(project: Project, version: str) -> None:
    elsewhere = Database("/nowhere", 5432, "production", "15")
    (project.root / "alembic" / "queries.sql").write_text(FILE.format(version=version))
    project.add("005", "ALTER TABLE users ADD nickname text; ALTER TABLE users ADD CHECK (email <> '')", after="004")
    project.add("006", "ALTER TABLE users DROP display_name", after="005")
    done = elsewhere.neuraknot_db("compat", "check", "004:006", cwd=project.root)
    assert done.code == 3, done.err
    assert done.out.splitlines() == [
        "005: look yourself: users.users_email_check: constraint CHECK (((email)::text <> ''::text))",
        '006: column "display_name" does not exist',
        "  alembic/queries.sql:3: SELECT email, display_name FROM users WHERE id = $1",
        '006: column "display_name" of relation "users" does not exist',
        "  alembic/queries.sql:11: INSERT INTO users (cognito_user_id, email, display_name) VALUES ($1, $2, $3)",
        "not checked: alembic/queries.sql:7: function avg(unknown) is not unique",
        'not checked: alembic/queries.sql:9: unterminated quoted string at or near "\'cut of"',
    ]
    assert "production on /nowhere is left alone" in done.err
    assert "4 queries (2 not checked), 2 of 2 revisions: 2 breaks." in done.err
    assert elsewhere.neuraknot_db("compat", "check", "005", cwd=project.root).code == 0


@pytest.mark.slow
def test_of_old_queries_nothing_is_asked_again(project: Project) -> None:
    """Without a range and a main branch, only what came after the recording is checked."""
    (project.root / "alembic" / "queries.sql").write_text(FILE.format(version=18))

    def checked() -> tuple[int, str]:
        done = Database("/nowhere", 5432, "x", "15").neuraknot_db("compat", "check", cwd=project.root)
        return done.code, done.err

    code, said = checked()
    assert (code, "those after 004: git knows of no main branch" in said, "nothing is pending" in said) == (
        0,
        True,
        True,
    )
    project.add("005", "SELECT 1", after="004")
    code, said = checked()
    assert (code, "1 of 1 revision: no break found" in said) == (0, True)


@pytest.mark.slow
def test_an_interrupted_check_does_not_end_well(project: Project) -> None:
    (project.root / "alembic" / "queries.sql").write_text(FILE.format(version=18))
    project.add("005", "SELECT 1", after="004", extra=KILLED)
    done = Database("/nowhere", 5432, "x", "15").neuraknot_db("compat", "check", "005", cwd=project.root)
    assert (done.code, "not checked" in done.err) == (143, False), done.err


KILLED = """
import os, signal

os.environ["READ"] = os.environ.get("READ", "") + "once "
if os.environ["READ"] == "once once ":  # by the upgrade, after the command
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_behind_an_upgrade_that_fails_nothing_is_checked(project: Project) -> None:
    (project.root / "alembic" / "queries.sql").write_text(FILE.format(version=99))
    project.add("005", "ALTER TABLE nobodys ADD nickname text", after="004")
    done = Database("/nowhere", 5432, "x", "15").neuraknot_db("compat", "check", "005", cwd=project.root)
    assert "recorded on PostgreSQL 99, checked on 18" in done.err
    assert "not checked: revision 005 and later" in done.err
    assert "0 of 1 revision: no break found" in done.err
    assert (done.code, done.out) == (0, "")


def test_what_can_not_be_checked_is_wrong_usage(project: Project) -> None:
    def wrong(*words: str, arguments: tuple[str, ...] = ("check",)) -> None:
        done = Database("/nowhere", 5432, "x", "15").neuraknot_db("compat", *arguments, cwd=project.root)
        assert (done.code, [word for word in words if word not in done.err]) == (2, []), done.err

    wrong("There is no queries.sql", "neuraknot-db compat record")
    wrong("compat check does not take x", arguments=("check", "-o", "x"))
    wrong("compat record does not take 004", arguments=("record", "004"))
    wrong("No such command 'chekc'. Did you mean 'check'?", arguments=("chekc",))
    (project.root / "alembic" / "queries.sql").write_text(FILE.format(version=15))
    wrong("There is no revision 009", arguments=("check", "009"))
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SELECT 1", after="004")
    wrong("There are two heads or more")


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        ("character varying(20)", "character varying(30)", True),
        ("character varying(20)", "character varying(10)", False),
        ("character varying(20)", "character varying", True),
        ("character varying(20)", "text", True),
        ("text", "character varying(20)", False),
        ("numeric(3,2)", "numeric(6,3)", True),
        ("numeric(10,2)", "numeric(10,4)", False),  # fewer digits before the point
        ("numeric", "numeric(10,2)", False),
        ("numeric(10)", "numeric(12)", True),
        ("bigint", "integer", False),
    ],
)
def test_a_type_has_room_for_what_was(old: str, new: str, wider: bool) -> None:
    assert compat._is_wider(new, old) is wider


def test_of_types_and_functions_all_that_differs_is_to_see() -> None:
    def schema(*labels: str, check: str, returned: str) -> Schema:
        enum, domain = Object("enum", "mood", str(labels)), Object("domain", "email", check)
        function = Function("f()", "text", "sql", f"SELECT\n{returned}")
        return Schema({}, {"f()": function}, others={"enum mood": enum, "domain email": domain})

    before, after = schema("a", "b", check="text", returned="a"), schema("a", check="text CHECK (1)", returned="b")
    assert list(compat._unseen(before, before, ())) == []
    assert list(compat._unseen(before, after, ())) == [
        "f(): function changed",
        "mood: enum ('a',), was ('a', 'b')",
        "email: domain text CHECK (1), was text",
    ]


TABLES = (
    "CREATE TABLE a (id integer, name text); CREATE TABLE b (id integer, name text); CREATE TABLE c (d text, e text);"
    " CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE f (mood mood, name varchar(9));"
    " CREATE TABLE g (); CREATE RULE told AS ON DELETE TO g DO ALSO NOTIFY told"
)
SEEN = {
    "INSERT INTO a (id) SELECT $1 WHERE EXISTS (SELECT FROM b WHERE name = $2 LIMIT 1)": "it gives NULL to a.more",
    "INSERT INTO a (id) SELECT 1 UNION ALL SELECT id FROM b": "it gives NULL to a.more",
    "INSERT INTO a (id) VALUES (1), ($1)": "it gives NULL to a.more",
    "WITH n AS (INSERT INTO a (id) VALUES ($1) RETURNING id) SELECT * FROM n, b": "it gives NULL to a.more",
    "SELECT a.id, b.id FROM a, b": "id is int8 now, and was int4",
    "SELECT name FROM b WHERE id = ANY ($1)": "",
    "SELECT * FROM c": "its result's columns have another order",
    "SELECT id, name FROM a": "",
    "SELECT name FROM f": "its result changes, if only in length or collation; this fails where it is prepared already",
    "DELETE FROM f WHERE mood = $1": "cache lookup failed for type",
    "DELETE FROM g": "",
}
"""What the change does to queries of these tables; nothing is an empty reason."""


@pytest.mark.slow
def test_what_a_plan_and_a_result_tell(at: Callable[[str], Database]) -> None:
    database = at("base")
    database.run(TABLES)
    change = "ALTER TABLE a ADD more integer NOT NULL; ALTER TABLE b ALTER id TYPE bigint;"
    change += (
        " ALTER TABLE c DROP d, ADD f text; ALTER TABLE c RENAME f TO d; ALTER TABLE f ALTER name TYPE varchar(10);"
    )
    change += " ALTER TYPE mood RENAME TO old; CREATE TYPE mood AS ENUM ('calm', 'sad');"
    change += " ALTER TABLE f ALTER mood TYPE mood USING mood::text::mood; DROP TYPE old"
    where = Settings(database.host, database.port, database.user, None, database.name)
    step = asyncio.run(compat.watch(where, SEEN, "005", partial(database.run, change)))
    told = {query: step.breaks.get(query, "") for query in SEEN}
    assert {query: told[query][: len(reason) or None] for query, reason in SEEN.items()} == SEEN


@pytest.mark.slow
def test_breaks_are_told_as_the_application_meets_them(
    recorded: dict[str, int], at: Callable[[str], Database], server: Server
) -> None:
    told, to_see, real = set(), set(), set()
    for name, change in CHANGES.items():
        database = at("head")
        where = Settings(database.host, database.port, database.user, None, database.name)
        with asyncio.Runner() as runner:
            application = started(database)
            running = runner.run(application.__aenter__())
            try:
                runner.run(running.run())
                step = runner.run(compat.watch(where, recorded, "005", partial(database.run, change)))
                runner.run(running.run())  # it has prepared its statements before the change
                runner.run(ran(database))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, AssertionError, ValueError):
                real.add(name)
            finally:
                runner.run(application.__aexit__(None, None, None))
        assert not step.failing
        told |= {name} if step.breaks else set()
        to_see |= {name} if step.to_see and not step.breaks else set()
    assert real == {*BREAKS, *BREAKS_UNSEEN}
    assert told == {*BREAKS}
    assert to_see == {*BREAKS_UNSEEN, *SURVIVED_TO_SEE}
