"""Queries recorded of an application that really runs, and schema changes that it really survives, or does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import asyncpg
import pytest

from neuraknot_db.dev import compat
from neuraknot_db.schema import queries
from neuraknot_db.schema.queries import Query
from neuraknot_db.settings import Settings
from tests.db.conftest import Database, Server, running_15
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
    "a foreign key to it": "CREATE TABLE invoices (user_id uuid REFERENCES users);"
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

SURVIVED_BUT_TOLD = {
    "a parameter wider": "ALTER TABLE ai_chat_sessions ALTER tokens_completion TYPE bigint",
}
"""What the check takes for a break, and this application survives: its driver asks nothing of an integer's width."""

SURVIVED_TO_SEE = {
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
    "a longer number": "ALTER TABLE ai_chat_sessions ALTER temperature TYPE numeric(6,3)",
    "a check less": "ALTER TABLE ai_agents DROP CONSTRAINT chk_max_tokens",
    "NULL allowed": "ALTER TABLE ai_agents ALTER name DROP NOT NULL",
    "a comment": "COMMENT ON TABLE users IS 'who comes'",
    "a column that nobody reads": "ALTER TABLE ai_agents DROP avatar_url",
    "another default": "ALTER TABLE ai_agents ALTER max_tokens SET DEFAULT 3000",
}
CHANGES = {**BREAKS, **BREAKS_UNSEEN, **SURVIVED_BUT_TOLD, **SURVIVED_TO_SEE, **SURVIVED}


@pytest.fixture(scope="module")
def counting() -> Iterator[Server]:
    """A PostgreSQL 15 that counts queries."""
    with running_15("-E", "UTF8", more="-c shared_preload_libraries=pg_stat_statements") as server:
        yield server


@pytest.fixture(scope="module")
def recorded(counting: Server, tmp_path_factory: pytest.TempPathFactory) -> list[Query]:
    """What the application asks, as `compat record` writes it."""
    database = counting.database("application")
    counting.database("postgres").run("CREATE DATABASE application")
    assert database.alembic("upgrade", "head").code == 0
    database.run("CREATE SCHEMA monitoring; CREATE EXTENSION pg_stat_statements SCHEMA monitoring")
    asyncio.run(ran(database))
    path = tmp_path_factory.mktemp("compat") / "queries.sql"
    done = database.neuraknot_db("compat", "record", "-o", str(path))
    assert done.code == 0, done.err
    return queries.parse(path)[0]


async def ran(database: Database) -> None:
    async with started(database) as application:
        await application.run()


@pytest.mark.slow
def test_all_that_the_application_asks_is_recorded(recorded: list[Query]) -> None:
    for each in recorded:
        print(each.text, "\n")
    assert len(recorded) == len(STATEMENTS)


@pytest.mark.slow
def test_breaks_are_told_as_the_application_meets_them(
    recorded: list[Query], at: Callable[[str], Database], server: Server
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
                step = compat.watch(where, recorded, partial(database.run, change))
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
    assert told == {*BREAKS, *SURVIVED_BUT_TOLD}
    assert to_see == {*BREAKS_UNSEEN, *SURVIVED_TO_SEE}
