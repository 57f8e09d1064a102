"""Reading a live schema: the same whoever asks, and from whatever state of the session."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection

from neuraknot_db.schema import compare, equivalence, snapshots
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


EVERYTHING = """
CREATE TYPE mood AS ENUM ('a', 'it''s');
CREATE DOMAIN code AS varchar(9) COLLATE "C" DEFAULT 'x' NOT NULL CONSTRAINT known CHECK (VALUE IN ('x', 'y'));
CREATE TYPE pair AS (a int, "B b" text COLLATE "C");
CREATE TYPE span AS RANGE (subtype = numeric, subtype_diff = numrange_subdiff);
CREATE SEQUENCE numbers AS smallint INCREMENT 5 START 10 MAXVALUE 1000 CACHE 7 CYCLE;
CREATE SEQUENCE down INCREMENT -1;
CREATE TABLE base (id serial PRIMARY KEY WITH (fillfactor = 60), m mood, name text COMPRESSION pglz,
                   other bigint GENERATED ALWAYS AS IDENTITY (INCREMENT 10),
                   tall text GENERATED ALWAYS AS (name || 'x') STORED)
    WITH (fillfactor = 70, toast.autovacuum_enabled = false);
ALTER TABLE base ALTER name SET STATISTICS 500, ALTER name SET STORAGE EXTERNAL, ALTER m SET (n_distinct = 5);
CREATE INDEX by_name ON base (lower(name)) WITH (fillfactor = 50);
ALTER INDEX by_name ALTER COLUMN 1 SET STATISTICS 77;
ALTER TABLE base CLUSTER ON base_pkey;
ALTER TABLE base REPLICA IDENTITY USING INDEX base_pkey;
CREATE TABLE child (more int) INHERITS (base);
CREATE TABLE parted (id int, made timestamptz NOT NULL) PARTITION BY RANGE (made);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01 00:00+09') TO ('2025-01-01 00:00+09');
CREATE TABLE months (made date PRIMARY KEY) PARTITION BY RANGE (made);
CREATE TABLE months_1 PARTITION OF months FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE of_a_month (made date REFERENCES months);  -- and one to months_1 of the server's own, named by its version
CREATE TABLE typed OF pair;
CREATE VIEW v WITH (security_barrier) AS SELECT id, m FROM base WHERE name <> 'q';
ALTER VIEW v ALTER m SET DEFAULT 'a';
CREATE VIEW w AS SELECT b.id, v.m, (SELECT count(*) FROM child c WHERE c.id = b.id) AS n FROM base b JOIN v USING (id)
    WHERE b.name::varchar IN ('x', 'y') ORDER BY 1;
CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER stay INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION stay();
CREATE RULE gone AS ON DELETE TO v DO INSTEAD DELETE FROM base WHERE base.id = old.id;
CREATE MATERIALIZED VIEW counted WITH (fillfactor = 80) AS SELECT m, count(*) AS n FROM base GROUP BY m;
CREATE UNIQUE INDEX counted_m ON counted (m);
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', PARALLEL = safe);
CREATE FUNCTION same(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1.a = $2.a';
CREATE OPERATOR === (FUNCTION = same, LEFTARG = pair, RIGHTARG = pair, COMMUTATOR = ===);
CREATE FUNCTION to_mood(int) RETURNS mood LANGUAGE sql IMMUTABLE AS $$ SELECT 'a'::mood $$;
CREATE CAST (int AS mood) WITH FUNCTION to_mood(int) AS ASSIGNMENT;
CREATE COLLATION posix (provider = libc, locale = 'C');
CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = snowball, language = english, stopwords = english);
CREATE TEXT SEARCH CONFIGURATION search (COPY = simple);
CREATE STATISTICS stat (ndistinct) ON id, m FROM base;
CREATE CONVERSION narrow FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
CREATE OPERATOR FAMILY family USING btree;
CREATE EXTENSION file_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE far (a int NOT NULL DEFAULT 3, b text OPTIONS (force_not_null 'true'), CHECK (a > 0)) SERVER files
    OPTIONS (filename '/tmp/far', format 'csv');
COMMENT ON VIEW v IS 'V';
CREATE EXTENSION citext;  -- what it brings into public is none of this
"""
"""All kinds of objects that a revision may make in public."""

CHANGED = {
    "ALTER TYPE mood RENAME VALUE 'a' TO 'z'": "mood: enum ('z', 'it''s'), expected ('a', 'it''s')",
    "ALTER TYPE mood ADD VALUE 'b' BEFORE 'a'": "mood: enum ('b', 'a', 'it''s'), expected ('a', 'it''s')",
    "DROP TYPE mood CASCADE": "mood: enum missing, expected ('a', 'it''s')",
    "ALTER DOMAIN code DROP NOT NULL": "code: domain character varying(9) COLLATE \"C\" DEFAULT 'x'::character varying"
    " CONSTRAINT known CHECK",
    "ALTER DOMAIN code SET DEFAULT 'y'": "code: domain character varying(9) COLLATE \"C\" DEFAULT 'y'::",
    "DROP DOMAIN code; CREATE DOMAIN code AS varchar(9)": "code: domain character varying(9), expected character"
    """ varying(9) COLLATE "C" DEFAULT 'x'::character varying NOT NULL CONSTRAINT known CHECK""",
    "DROP DOMAIN code; CREATE DOMAIN code AS text": "code: domain text, expected character varying(9) COLLATE",
    "ALTER TYPE pair DROP ATTRIBUTE a CASCADE": 'pair: composite type ("B b" text COLLATE "C"), expected (a integer,'
    ' "B b" text COLLATE "C")',
    "DROP TYPE span; CREATE TYPE span AS RANGE (subtype = int8)": "span: range type SUBTYPE bigint, SUBTYPE_OPCLASS"
    " int8_ops, MULTIRANGE_TYPE_NAME span_multirange, expected SUBTYPE numeric, SUBTYPE_OPCLASS numeric_ops,"
    " SUBTYPE_DIFF numrange_subdiff, MULTIRANGE_TYPE_NAME span_multirange",
    "ALTER SEQUENCE numbers NO CYCLE CACHE 1": "numbers: sequence AS smallint INCREMENT BY 5 MAXVALUE 1000 START WITH"
    " 10, expected AS smallint INCREMENT BY 5 MAXVALUE 1000 START WITH 10 CACHE 7 CYCLE",
    "ALTER SEQUENCE down MINVALUE -9": "down: sequence AS bigint INCREMENT BY -1 MINVALUE -9, expected AS bigint"
    " INCREMENT BY -1",
    "ALTER SEQUENCE numbers OWNED BY child.more": "numbers: sequence missing, expected AS smallint",
    "ALTER SEQUENCE base_id_seq AS bigint": "base.id: column sequence AS bigint, expected ordinary",
    "ALTER TABLE base ALTER other SET INCREMENT 1": "base.other: column ordinary, expected sequence INCREMENT BY 10",
    "ALTER TABLE base RESET (fillfactor)": "base: table replica identity by an index, toast.autovacuum_enabled=false,"
    " index base_pkey as replica identity, index base_pkey clustered, index base_pkey fillfactor=60,"
    " index by_name column 1 statistics 77, expected replica identity by an index, fillfactor=70,",
    "ALTER TABLE base RESET (toast.autovacuum_enabled)": "base: table replica identity by an index, fillfactor",
    "ALTER TABLE base SET WITHOUT CLUSTER": "base: table replica identity by an index, fillfactor=70,",
    "ALTER INDEX base_pkey RESET (fillfactor)": "base: table replica identity by an index, fillfactor=70,",
    "ALTER INDEX by_name RESET (fillfactor)": "base.by_name: index CREATE INDEX",
    "ALTER INDEX by_name ALTER COLUMN 1 SET STATISTICS -1": "base: table replica identity by an index, fillfactor=70,",
    "ALTER TABLE base ALTER name SET STATISTICS -1": "base.name: column storage external, compression pglz, expected"
    " statistics 500, storage external, compression pglz",
    "ALTER TABLE ONLY base ALTER name SET STORAGE EXTENDED": "base.name: column statistics 500, compression",
    "ALTER TABLE ONLY base ALTER name SET COMPRESSION default": "base.name: column statistics 500, storage external,",
    "ALTER TABLE base ALTER m RESET (n_distinct)": "base.m: column ordinary, expected n_distinct=5",
    "ALTER TABLE child NO INHERIT base": "child: table ordinary, expected inherits base",
    "ALTER TABLE parted DETACH PARTITION parted_1": "parted_1: table ordinary, expected partition of parted FOR VALUES"
    " FROM ('2023-12-31 15:00:00+00') TO ('2024-12-31 15:00:00+00')",
    "ALTER TABLE parted DETACH PARTITION parted_1; ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES FROM"
    " ('2020-01-01 00:00+00') TO ('2030-01-01 00:00+00')": "parted_1: table partition of parted FOR VALUES FROM"
    " ('2020-01-01 00:00:00+00') TO ('2030-01-01 00:00:00+00'), expected partition of parted",
    "DROP TABLE parted; CREATE TABLE parted (id int, made timestamptz NOT NULL) PARTITION BY HASH (made);"
    " CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0)": "parted: table partitioned"
    " by HASH (made), expected partitioned by RANGE (made)",
    "ALTER TABLE typed NOT OF": "typed: table ordinary, expected of pair",
    "CREATE OR REPLACE VIEW v WITH (security_barrier) AS SELECT id, m FROM base": "v: view text differs (verify --json"
    " shows both)",
    "ALTER VIEW v RESET (security_barrier)": "v: view CREATE RULE gone AS ON DELETE TO public.v DO INSTEAD DELETE FROM"
    " base WHERE (base.id = old.id), expected security_barrier=true, CREATE RULE gone",
    "DROP RULE gone ON v": "v: view security_barrier=true, expected security_barrier=true, CREATE RULE gone",
    "ALTER VIEW v ALTER m DROP DEFAULT": "v.m: default none, expected 'a'::mood",
    "ALTER VIEW v RENAME m TO feeling": "v.m: column missing, expected mood DEFAULT 'a'::mood",
    "DROP TRIGGER stay ON v": "v.stay: trigger missing, expected CREATE TRIGGER stay INSTEAD OF INSERT ON public.v",
    "COMMENT ON VIEW v IS NULL": "v: comment missing",
    "DROP VIEW w": "w: view missing",
    "DROP VIEW w; CREATE TABLE w (id int)": "w: view missing (a table has its name)",
    "ALTER MATERIALIZED VIEW counted RESET (fillfactor)": "counted: materialized view ordinary, expected fillfactor=80",
    "DROP MATERIALIZED VIEW counted; CREATE MATERIALIZED VIEW counted WITH (fillfactor = 80) AS SELECT m, sum(1) AS n"
    " FROM base GROUP BY m; CREATE UNIQUE INDEX counted_m ON counted (m)": "counted: materialized view text differs",
    "DROP INDEX counted_m": "counted.counted_m: index missing, expected CREATE UNIQUE INDEX counted_m ON",
    "DROP AGGREGATE total(int); CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)": "total(integer): aggregate"
    " aggfinalmodify r, aggkind n, aggmfinalmodify r, aggtransfn int4pl, aggtranstype integer, parallel u, expected"
    " aggfinalmodify r, agginitval '0', aggkind n",
    "ALTER OPERATOR === (pair, pair) SET (RESTRICT = eqsel)": "===(pair,pair): operator commutator ===(pair,pair),"
    " function same, restrict eqsel, expected commutator ===(pair,pair), function same",
    "DROP CAST (int AS mood); CREATE CAST (int AS mood) WITH FUNCTION to_mood(int)": "(integer AS mood): cast context"
    " e, function to_mood(integer), method f, expected context a, function to_mood(integer), method f",
    "DROP COLLATION posix; CREATE COLLATION posix (locale = 'C.UTF-8')": "posix: collation collate C.UTF-8, ctype",
    "ALTER TEXT SEARCH DICTIONARY words (stopwords)": "words: text search dictionary TEMPLATE snowball, language ="
    " 'english', expected TEMPLATE snowball, language = 'english', stopwords = 'english'",
    "ALTER TEXT SEARCH CONFIGURATION search ALTER MAPPING FOR word WITH words": "search: text search configuration text"
    " differs",
    "DROP TEXT SEARCH CONFIGURATION search": "search: text search configuration missing",
    "ALTER STATISTICS stat SET STATISTICS 9": "stat: statistics object CREATE STATISTICS public.stat (ndistinct) ON id,"
    " m FROM base STATISTICS 9, expected CREATE STATISTICS public.stat (ndistinct) ON id, m FROM base",
    "DROP CONVERSION narrow": "narrow: conversion missing, expected for UTF8, function utf8_to_iso8859_1, to LATIN1",
    "DROP OPERATOR FAMILY family USING btree": "family USING btree: operator family missing",
    "ALTER FOREIGN TABLE far OPTIONS (SET format 'text')": "far: foreign table SERVER files, filename=/tmp/far,"
    " format=text, expected SERVER files, filename=/tmp/far, format=csv",
    "ALTER FOREIGN TABLE far ALTER a DROP NOT NULL": "far.a: nullability NULL allowed, expected NOT NULL",
    "ALTER FOREIGN TABLE far ALTER b OPTIONS (DROP force_not_null)": "far.b: column ordinary, expected force_not_null",
}


@contextmanager
def having_everything(server: Server, name: str) -> Iterator[Database]:
    maintenance, made = server.database("postgres"), server.database(name)
    maintenance.run(f"CREATE DATABASE {name}")
    made.run(EVERYTHING)
    yield made
    maintenance.run(f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def everything(server: Server) -> Iterator[Database]:
    """A database with all kinds of objects; a test that changes it rolls back."""
    with having_everything(server, "everything") as made:
        yield made


def lines(connection: Connection, expected: Schema) -> list[str]:
    found = read_schema(connection)
    return [str(one) for one in compare.compare(found, expected, equivalence.settle(connection, found, [expected]))]


def test_each_kind_of_object_is_written_and_read(everything: Database) -> None:
    schema = live(everything)
    assert snapshots.parse(snapshots.render("005", schema)) == schema
    assert set(schema.views) == {"counted", "far", "v", "w"}
    assert sorted(schema.others) == [
        "aggregate total(integer)",
        "cast (integer AS mood)",
        "collation posix",
        "composite type pair",
        "conversion narrow",
        "domain code",
        "enum mood",
        "operator ===(pair,pair)",
        "operator family family USING btree",
        "range type span",
        "sequence down",
        "sequence numbers",
        "statistics object stat",
        "text search configuration search",
        "text search dictionary words",
    ]


def test_a_change_to_any_kind_of_object_is_one_line(everything: Database) -> None:
    expected = live(everything)
    with everything.engine().connect() as connection:
        for sql, line in CHANGED.items():
            connection.exec_driver_sql(sql)
            found = lines(connection, expected)
            assert any(one.startswith(line) for one in found), (sql, found)
            assert all("\n" not in one for one in found)
            connection.rollback()


def test_any_user_reads_the_same(everything: Database) -> None:
    everything.run("CREATE ROLE nobody LOGIN")
    try:
        with everything.as_user("nobody").engine().connect() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            assert read_schema(connection) == live(everything)
    finally:
        everything.run("DROP ROLE nobody")


def test_a_virtual_column_is_told_from_a_stored_one(everything: Database) -> None:
    kinds = {"STORED": ""} if everything.server == "15" else {"STORED": "", "VIRTUAL": " VIRTUAL"}
    with everything.engine().connect() as connection:
        for kind, written in kinds.items():
            connection.exec_driver_sql(f"ALTER TABLE parted ADD {kind} int GENERATED ALWAYS AS (id * 2) {kind}")
            found = read_schema(connection).tables["parted"].columns[kind.lower()]
            assert found.default == f"GENERATED ALWAYS AS ((id * 2)){written}"


def test_a_snapshot_of_another_version_fits(everything: Database, server_15: Server, server_18: Server) -> None:
    with having_everything(server_18 if everything.server == "15" else server_15, "everything_else") as other:
        expected = snapshots.parse(snapshots.render("005", live(other)))
    assert live(everything) != expected
    with everything.engine().connect() as connection:
        assert lines(connection, expected) == []
        assert compare.notes(read_schema(connection), expected) == ()


def test_views_and_domains_in_other_words_are_the_same(everything: Database) -> None:
    expected = live(everything)
    check = expected.others["domain code"].definition.split("CONSTRAINT known ")[1]
    with everything.engine().connect() as connection:
        connection.exec_driver_sql(
            f"CREATE OR REPLACE VIEW w AS {expected.views['w'].definition};"
            f" ALTER DOMAIN code DROP CONSTRAINT known; ALTER DOMAIN code ADD CONSTRAINT known {check}"
        )
        found = read_schema(connection)
        assert found.views["w"] != expected.views["w"]
        assert found.others["domain code"] != expected.others["domain code"]
        assert lines(connection, expected) == []
        # A view that can't be typed in, as its table has lost a column, differs.
        connection.exec_driver_sql("DROP VIEW w; ALTER TABLE base RENAME name TO word")
        connection.exec_driver_sql("CREATE VIEW w AS SELECT id, 'a'::mood AS m, 1::bigint AS n FROM base")
        assert "w: view text differs (verify --json shows both)" in lines(connection, expected)
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        (line,) = [line for line in lines(connection, expected) if line.startswith("w: ")]
        assert "perhaps the same in other words: the transaction is read-only" in line


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


def restored(dump: bytes, database: Database) -> Database:
    load = [str(POSTGRES_15 / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "--dbname", database.url]
    subprocess.run(load, check=True, input=dump, stdout=subprocess.DEVNULL)
    return database


def dump_of(database: Database) -> bytes:
    return subprocess.run([POSTGRES_15 / "pg_dump", "--dbname", database.url], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def dump(server_15: Server) -> Iterator[bytes]:
    """What pg_dump makes of a database at head."""
    maintenance, source = server_15.database("postgres"), server_15.database("dumped")
    maintenance.run("CREATE DATABASE dumped")
    assert source.alembic("upgrade", "head").code == 0
    yield dump_of(source)
    maintenance.run("DROP DATABASE dumped")


@pytest.mark.slow
def test_a_dump_restored_here_or_on_18_holds_the_same_schema(dump: bytes, database: Database) -> None:
    assert without_texts(live(restored(dump, database))) != contract("004")
    assert differences(database) == []


@pytest.mark.slow
def test_a_dump_of_everything_restored_here_or_on_18_holds_the_same(server_15: Server, database: Database) -> None:
    with having_everything(server_15, "dumped_everything") as source:
        expected, dump = live(source), dump_of(source)
    with restored(dump, database).engine().connect() as connection:
        assert lines(connection, expected) == []


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
