"""Reading a live schema: the same whoever asks, and from whatever state of the session."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from sqlalchemy import event

from neuraknot_db.schema import compare, equivalence
from neuraknot_db.schema.catalog import Schema, read_schema
from neuraknot_db.schema.compare import Difference
from tests.db.conftest import POSTGRES_15, Database, Server
from tests.db.schemas import contract, live, old_schema, without_texts


def test_an_empty_database_and_one_without_a_public_schema_hold_nothing(database: Database) -> None:
    assert live(database) == Schema()
    database.run("DROP SCHEMA public CASCADE")
    assert live(database) == Schema()


def test_reading_depends_on_nothing_in_the_session_and_changes_nothing_there(database_at_head: Database) -> None:
    database_at_head.run(
        "CREATE SCHEMA other; CREATE TABLE other.users (id int); CREATE FUNCTION other.update_updated_at_column()"
        " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    with database_at_head.engine().connect() as connection:
        connection.exec_driver_sql("SET search_path = other, pg_catalog; SET DateStyle = 'German'")
        connection.exec_driver_sql("CREATE TEMPORARY TABLE users (id int)")
        connection.commit()
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        assert without_texts(read_schema(connection)) == contract("004")
        assert connection.exec_driver_sql("SHOW search_path").scalar() == "other, pg_catalog"
        connection.commit()
        assert connection.exec_driver_sql("SHOW search_path").scalar() == "other, pg_catalog"


def test_reading_takes_ten_queries_however_large_the_schema(database_at_head: Database) -> None:
    database_at_head.run("; ".join(f"CREATE TABLE more_{number} (id int PRIMARY KEY)" for number in range(30)))
    engine = database_at_head.engine()
    queries: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2]))
    with engine.connect() as connection:
        assert len(read_schema(connection).tables) == 38
    assert len(queries) == 10


def test_the_order_of_columns_does_not_count(database: Database) -> None:
    database.run(old_schema("004"))
    found = live(database)
    assert list(found.tables["users"].columns)[4] == "avatar_url"
    assert without_texts(found) == contract("004")


def test_what_an_extension_brought_is_not_the_schemas(database_at_head: Database) -> None:
    database_at_head.run("CREATE EXTENSION pg_stat_statements")  # with functions and views in public
    found = live(database_at_head)
    assert found.others == {}
    assert set(found.functions) == set(contract("004").functions)
    assert found.extensions == ("pg_stat_statements", "uuid-ossp")


def differences(database: Database, revision: str = "004") -> list[str]:
    expected = contract(revision)
    found = without_texts(live(database))
    with database.engine().connect() as connection:
        return [str(one) for one in compare.compare(found, expected, equivalence.settle(connection, found, [expected]))]


DRIFT = {
    "ALTER TABLE users ALTER email TYPE text": ["users.email: type text, expected character varying(255)"],
    'ALTER TABLE users ALTER avatar_url TYPE text COLLATE "C"': [
        'users.avatar_url: type text COLLATE "C", expected text'
    ],
    "ALTER TABLE users ALTER email DROP NOT NULL": ["users.email: nullability NULL allowed, expected NOT NULL"],
    "ALTER TABLE users ALTER avatar_url SET NOT NULL": [
        "users.avatar_url: nullability NOT NULL, expected NULL allowed"
    ],
    "ALTER TABLE users ALTER status DROP DEFAULT": ["users.status: default none, expected 'active'::character varying"],
    "ALTER TABLE users DROP avatar_url": ["users.avatar_url: column missing, expected text"],
    "ALTER TABLE users ADD age int NOT NULL DEFAULT 20": ["users.age: unexpected column integer NOT NULL DEFAULT 20"],
    "ALTER TABLE messages DROP CONSTRAINT fk_messages_ai_session": [
        "messages.fk_messages_ai_session: constraint missing,"
        " expected FOREIGN KEY (ai_session_id) REFERENCES ai_chat_sessions(id) ON DELETE SET NULL"
    ],
    "ALTER TABLE users ADD CONSTRAINT short CHECK (email <> '') NOT VALID": [
        "users.short: unexpected constraint CHECK (((email)::text <> ''::text)) NOT VALID"
    ],
    "ALTER TABLE ai_agents DROP CONSTRAINT chk_max_tokens, ADD CONSTRAINT chk_max_tokens CHECK (max_tokens < 9)": [
        "ai_agents.chk_max_tokens: constraint CHECK ((max_tokens < 9)),"
        " expected CHECK (((max_tokens >= 100) AND (max_tokens <= 8000)))"
    ],
    "ALTER TABLE ai_agents DROP CONSTRAINT chk_max_tokens, ADD CONSTRAINT chk_max_tokens"
    " CHECK (max_tokens BETWEEN 100 AND 8000) NOT VALID": [
        "ai_agents.chk_max_tokens: constraint CHECK (((max_tokens >= 100) AND (max_tokens <= 8000))) NOT VALID,"
        " expected CHECK (((max_tokens >= 100) AND (max_tokens <= 8000)))"
    ],
    "ALTER TABLE conversations DISABLE TRIGGER ALL": [
        "conversations.conversations_ai_agent_id_fkey: constraint FOREIGN KEY (ai_agent_id) REFERENCES ai_agents(id)"
        " ON DELETE CASCADE (its triggers are disabled),"
        " expected FOREIGN KEY (ai_agent_id) REFERENCES ai_agents(id) ON DELETE CASCADE",
        "conversations.conversations_user_id_fkey: constraint FOREIGN KEY (user_id) REFERENCES users(id)"
        " ON DELETE CASCADE (its triggers are disabled),"
        " expected FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
        "ai_chat_sessions",
        "messages",
        "conversations.update_conversations_updated_at: trigger",
    ],
    "COMMENT ON TABLE users IS NULL; COMMENT ON COLUMN users.email IS NULL;"
    " COMMENT ON CONSTRAINT unique_user_agent_conversation ON conversations IS NULL": [
        "users: comment missing",
        "users.email: comment missing",
        "conversations.unique_user_agent_conversation: comment missing",
    ],
    "DROP INDEX idx_users_email": [
        "users.idx_users_email: index missing,"
        " expected CREATE INDEX idx_users_email ON public.users USING btree (email)"
    ],
    "CREATE INDEX quick ON users (display_name)": [
        "users.quick: unexpected index CREATE INDEX quick ON public.users USING btree (display_name)"
    ],
    "DROP TRIGGER update_users_updated_at ON users": ["users.update_users_updated_at: trigger missing, expected"],
    "ALTER TABLE users DISABLE TRIGGER update_users_updated_at": ["users.update_users_updated_at: trigger CREATE"],
    "ALTER TABLE ai_tool_usage SET UNLOGGED": ["ai_tool_usage: table unlogged, expected ordinary"],
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY": ["users: table row level security, expected ordinary"],
    "CREATE RULE lost AS ON INSERT TO users DO INSTEAD NOTHING": [
        "users: table CREATE RULE lost AS ON INSERT TO public.users DO INSTEAD NOTHING, expected ordinary"
    ],
    "CREATE POLICY own ON users FOR SELECT USING (status <> 'gone')": [
        "users: table policy own for r to {public} using ((status)::text <> 'gone'::text), expected ordinary"
    ],
    "ALTER TABLE users FORCE ROW LEVEL SECURITY": ["users: table forced row level security, expected ordinary"],
    "ALTER TABLE users REPLICA IDENTITY FULL": ["users: table replica identity full, expected ordinary"],
    "DROP TABLE ai_tool_usage; CREATE VIEW ai_tool_usage AS SELECT 1 AS id": [
        "ai_tool_usage: table missing (a view has its name)"
    ],
    "DROP FUNCTION update_conversation_on_message() CASCADE": [
        "messages.trigger_update_conversation_on_message: trigger missing",
        "update_conversation_on_message(): function missing, expected RETURNS trigger LANGUAGE plpgsql",
    ],
    'DROP EXTENSION "uuid-ossp" CASCADE': [
        "uuid-ossp: extension missing",
        *(f"{table}.id: default none, expected uuid_generate_v4()" for table in contract("004").tables),
    ],
}


@pytest.mark.parametrize(("sql", "lines"), DRIFT.items(), ids=range(len(DRIFT)))
def test_drift_is_a_line_a_difference(database_at_head: Database, sql: str, lines: list[str]) -> None:
    database_at_head.run(sql)
    found = differences(database_at_head)
    unmatched = [line for line in found if not any(line.startswith(start) for start in lines)]
    assert unmatched == []
    assert all(any(line.startswith(start) for line in found) for start in lines), found


def test_an_index_whose_concurrent_build_failed_is_a_difference(database_at_head: Database) -> None:
    database_at_head.run(
        "INSERT INTO users (cognito_user_id, email, display_name) VALUES ('1', '1', 'same'), ('2', '2', 'same');"
        " ALTER TABLE users DROP CONSTRAINT users_email_key; DROP INDEX idx_users_email"
    )
    with pytest.raises(Exception, match="could not create unique index"):
        database_at_head.run("CREATE UNIQUE INDEX CONCURRENTLY idx_users_email ON users (display_name)")
    assert any(
        "idx_users_email: index" in line and "(invalid), expected" in line for line in differences(database_at_head)
    )


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE invoices (id serial); CREATE VIEW mails AS SELECT email FROM users; CREATE EXTENSION pg_trgm;"
        " CREATE FUNCTION half(int) RETURNS int LANGUAGE sql AS 'SELECT $1 / 2'; CREATE SEQUENCE numbers",
        "COMMENT ON TABLE users IS 'People'; COMMENT ON COLUMN users.id IS 'Id'",
        "INSERT INTO users (cognito_user_id, email, display_name) VALUES ('1', '1', '1')",
    ],
    ids=["what is not ours", "comments", "rows"],
)
def test_what_makes_no_difference(database_at_head: Database, sql: str) -> None:
    database_at_head.run(sql)
    assert differences(database_at_head) == []


def test_notes_tell_what_is_no_difference(database_at_head: Database) -> None:
    assert compare.notes(live(database_at_head), contract("004")) == ()
    database_at_head.run(
        "CREATE TABLE invoices (id serial); CREATE TABLE bills (id int GENERATED ALWAYS AS IDENTITY);"
        " CREATE VIEW mails AS SELECT email FROM users;"
        " CREATE FUNCTION half(int) RETURNS int LANGUAGE sql AS 'SELECT $1 / 2'; CREATE EXTENSION pg_trgm"
    )
    assert compare.notes(live(database_at_head), contract("004")) == (
        "other table: bills, invoices",
        "other function: half(integer)",
        "other extension: pg_trgm",
        "other view: mails",
    )


def respell(database: Database) -> int:
    """Type every check in once more, as a restore does; returns how many came out in other words."""
    checks = (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
    )
    before = database.run(checks)
    for table, name, definition in before:
        database.run(f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition}")
    return len(set(before) - set(database.run(checks)))


def test_checks_in_the_words_of_a_restore_are_the_same(database_at_head: Database) -> None:
    assert respell(database_at_head) == 7
    assert differences(database_at_head) == []
    database_at_head.run(
        "ALTER TABLE users DROP CONSTRAINT chk_users_status, ADD CONSTRAINT chk_users_status"
        " CHECK (status IN ('active', 'inactive', 'suspended', 'gone'))"
    )
    assert [line.split(":")[0] for line in differences(database_at_head)] == ["users.chk_users_status"]


@pytest.fixture(scope="module")
def dump(server_15: Server) -> Iterator[bytes]:
    """What pg_dump makes of a database at head."""
    maintenance, source = server_15.database("postgres"), server_15.database("dumped")
    maintenance.run("CREATE DATABASE dumped")
    assert source.alembic("upgrade", "head").code == 0
    yield subprocess.run([POSTGRES_15 / "pg_dump", "--dbname", source.url], check=True, capture_output=True).stdout
    maintenance.run("DROP DATABASE dumped")


@pytest.mark.slow
def test_a_dump_restored_here_or_on_18_holds_the_same_schema(dump: bytes, database: Database) -> None:
    load = [str(POSTGRES_15 / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "--dbname", database.url]
    subprocess.run(load, check=True, input=dump, stdout=subprocess.DEVNULL)
    assert without_texts(live(database)) != contract("004")
    assert differences(database) == []


def settled(database: Database, *, read_only: bool = False) -> tuple[Difference, ...]:
    expected = contract("004")
    with database.engine().connect() as connection:
        if read_only:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        found = without_texts(read_schema(connection))
        return compare.compare(found, expected, equivalence.settle(connection, found, [expected]))


def test_where_checks_cannot_be_typed_in_the_difference_says_so(database_at_head: Database) -> None:
    respell(database_at_head)
    remarks = {difference.remark for difference in settled(database_at_head, read_only=True)}
    assert remarks == {
        "perhaps the same in other words: the transaction is read-only, so it could not be typed in to see"
    }
    database_at_head.run(
        f'REVOKE TEMPORARY ON DATABASE "{database_at_head.name}" FROM PUBLIC; CREATE ROLE reader LOGIN'
    )
    try:
        found = settled(database_at_head.as_user("reader"))
        assert len(found) == 7
        assert all("may not create temporary tables" in str(difference) for difference in found)
    finally:
        database_at_head.run("DROP ROLE reader")


def test_typing_checks_in_leaves_nothing_behind_and_survives_what_cannot_be_typed(database_at_head: Database) -> None:
    respell(database_at_head)
    database_at_head.run("ALTER TABLE users DROP status, ADD CONSTRAINT chk_users_status CHECK (email IN ('a', 'b'))")
    with database_at_head.engine().connect() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE kept (id int)")
        expected, found = contract("004"), without_texts(read_schema(connection))
        lines = [
            str(one) for one in compare.compare(found, expected, equivalence.settle(connection, found, [expected]))
        ]
        assert [line.split(" missing")[0].split(" CHECK")[0] for line in lines] == [
            "users.status: column",
            "users.chk_users_status: constraint",
            "users.idx_users_status: index",
        ]
        tables = "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
        assert connection.exec_driver_sql(tables).scalars().all() == ["kept"]
