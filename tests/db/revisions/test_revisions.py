"""The four revisions: each step equals the contract, and each way back keeps the rows."""

from __future__ import annotations

import pytest

from neuraknot_db.schema.catalog import Schema
from tests.db.conftest import Database
from tests.db.schemas import (
    ID,
    REVISIONS,
    SOME_ROWS,
    TABLES,
    contract,
    live,
    rows,
    rows_for,
    with_chk_model_not_valid,
    without_texts,
)


def go(database: Database, direction: str, revision: str) -> str:
    """Migrate, and return what was narrated."""
    done = database.alembic(direction, revision)
    assert done.code == 0, done.err
    return done.err


@pytest.mark.slow
def test_up_down_and_up_again_equal_the_contract_at_each_step(database: Database) -> None:
    for revision in REVISIONS:
        go(database, "upgrade", revision)
        assert without_texts(live(database)) == contract(revision)
    texts = live(database).functions
    for revision in ("003", "002", "001"):
        go(database, "downgrade", revision)
        assert without_texts(live(database)) == with_chk_model_not_valid(contract(revision))
    go(database, "downgrade", "base")
    assert live(database) == Schema()
    go(database, "upgrade", "head")
    assert without_texts(live(database)) == contract("004")
    assert live(database).functions == texts


@pytest.mark.slow
def test_a_downgrade_changes_only_what_the_older_schema_does_not_allow(database: Database) -> None:
    go(database, "upgrade", "head")
    database.run(rows_for("004"))
    expected = rows(database)
    agents = {agent["id"]: agent for agent in expected["ai_agents"]}

    # All that were added without naming a model.
    assert "004 loses: 4 rows of ai_agents stay, but can't be updated any more: chk_model does not list" in go(
        database, "downgrade", "003"
    )
    assert rows(database) == expected

    narrated = go(database, "downgrade", "002")
    assert "1 values of users.avatar_url" in narrated
    for user in expected["users"]:
        del user["avatar_url"]
    agents[ID(30)]["persona_type"] = ""
    assert rows(database) == expected

    narrated = go(database, "downgrade", "001")
    # 簡潔 and なし, 未定, which was NULL, and 新型, which got 003's default.
    assert "4 values '' or 'concise' of ai_agents.persona_type" in narrated
    for changed in (20, 21, 30, 40):
        agents[ID(changed)]["persona_type"] = "assistant"
    assert rows(database) == expected

    assert "2 rows of users" in go(database, "downgrade", "base")


@pytest.mark.slow
def test_chk_model_binds_new_rows_again_after_the_downgrade_to_003(database: Database) -> None:
    go(database, "upgrade", "head")
    database.run(rows_for("004"))
    go(database, "downgrade", "003")
    with pytest.raises(Exception, match="chk_model"):
        database.run(f"INSERT INTO ai_agents (user_id, name, model) VALUES ('{ID(1)}', 'x', 'gpt-5')")
    go(database, "upgrade", "head")
    assert without_texts(live(database)) == contract("004")


def test_going_back_to_nothing_leaves_what_is_somebody_elses(database_at_head: Database) -> None:
    database_at_head.run(
        "CREATE TABLE invoices (id int); INSERT INTO invoices VALUES (1); CREATE SEQUENCE numbers;"
        " CREATE EXTENSION pg_trgm"
    )
    go(database_at_head, "downgrade", "base")
    assert set(live(database_at_head).tables) == {"invoices"}
    assert set(live(database_at_head).others) == {"sequence numbers"}
    assert live(database_at_head).extensions == ("pg_trgm",)
    assert database_at_head.value("SELECT count(*) FROM invoices") == 1


@pytest.mark.parametrize(
    "dependent",
    [
        "CREATE SCHEMA reports CREATE VIEW mails AS SELECT email FROM public.users",
        "CREATE TABLE invoices (user_id uuid REFERENCES users)",
        "CREATE TABLE invoices (updated_at timestamp); CREATE TRIGGER touched BEFORE UPDATE ON invoices"
        " FOR EACH ROW EXECUTE FUNCTION update_updated_at_column()",
    ],
    ids=["view", "foreign key", "trigger"],
)
def test_going_back_to_nothing_fails_on_what_depends_on_it(database_at_head: Database, dependent: str) -> None:
    go(database_at_head, "downgrade", "001")
    database_at_head.run(dependent)
    before = live(database_at_head)
    done = database_at_head.alembic("downgrade", "base")
    assert done.code == 7, done.err
    assert "depend" in done.err
    assert live(database_at_head) == before


@pytest.mark.parametrize(
    "user_of_it",
    [
        "CREATE TABLE invoices (id uuid DEFAULT uuid_generate_v1())",
        "CREATE SCHEMA reports CREATE VIEW numbers AS SELECT public.uuid_generate_v4()",
        "CREATE FUNCTION new_id() RETURNS uuid LANGUAGE plpgsql AS 'BEGIN RETURN uuid_generate_v4(); END'",
    ],
    ids=["default", "view", "function body"],
)
def test_the_extension_stays_while_something_else_uses_it(database_at_head: Database, user_of_it: str) -> None:
    if database_at_head.server == "18":
        user_of_it = user_of_it.replace("uuid_generate_v1", "uuid_generate_v4")  # all that the stand-in has
    database_at_head.run(user_of_it)
    go(database_at_head, "downgrade", "base")
    assert live(database_at_head).extensions == ("uuid-ossp",)


def test_the_extension_stays_if_it_was_made_by_another_role(database: Database) -> None:
    database.run('CREATE EXTENSION "uuid-ossp"; CREATE ROLE team LOGIN')
    try:
        database.run(f'GRANT CREATE ON SCHEMA public TO team; GRANT CREATE ON DATABASE "{database.name}" TO team')
        go(database.as_user("team"), "upgrade", "head")
        go(database.as_user("team"), "downgrade", "base")
        assert live(database) == Schema(extensions=("uuid-ossp",))
    finally:
        database.run("DROP OWNED BY team; DROP ROLE team")


@pytest.mark.slow
def test_on_a_database_in_use_nothing_is_rewritten(database: Database) -> None:
    files = (
        "SELECT relname, pg_relation_filenode(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    go(database, "upgrade", "001")
    database.run(rows_for("001"))
    before = database.run(files)
    go(database, "upgrade", "head")
    assert database.run(files) == before


def test_updates_set_updated_at(database_at_head: Database) -> None:
    database_at_head.run(SOME_ROWS)
    for table in ("users", "user_service_configs", "ai_agents", "conversations"):
        database_at_head.run(
            f"ALTER TABLE {table} DISABLE TRIGGER USER; UPDATE {table} SET updated_at = '2000-01-01';"
            f" ALTER TABLE {table} ENABLE TRIGGER USER"
        )
        database_at_head.run(f"UPDATE {table} SET created_at = created_at")
        assert database_at_head.value(f"SELECT bool_and(updated_at > now() - interval '1 minute') FROM {table}"), table


def test_a_message_counts_in_its_conversation_and_only_an_agents_for_the_agent(database_at_head: Database) -> None:
    database_at_head.run(SOME_ROWS)
    conversation = f"SELECT message_count, last_message_at::text FROM conversations WHERE id = '{ID(7)}'"
    agent = f"SELECT message_count, last_chat_at::text FROM ai_agents WHERE id = '{ID(4)}'"
    other = f"SELECT message_count, last_chat_at::text FROM ai_agents WHERE id = '{ID(5)}'"
    say = (
        "INSERT INTO messages (conversation_id, sender_type, sender_id, content, created_at)"
        f" VALUES ('{ID(7)}', '{{}}', '{{}}', '…', '{{}}')"
    )
    spoken = database_at_head.run(agent)
    assert [spoken[0][0], database_at_head.run(conversation)[0][0]] == [1, 2]

    # Not even if a user had the agent's id.
    database_at_head.run(say.format("user", ID(4), "2030-01-01 10:00:00"))
    assert database_at_head.run(conversation) == [(3, "2030-01-01 10:00:00")]
    assert database_at_head.run(agent) == spoken

    database_at_head.run(say.format("ai", ID(4), "2030-01-01 11:00:00"))
    assert database_at_head.run(conversation) == [(4, "2030-01-01 11:00:00")]
    assert database_at_head.run(agent) == [(2, "2030-01-01 11:00:00")]
    assert database_at_head.run(other) == [(0, None)]


def test_a_count_that_was_null_starts_anew(database_at_head: Database) -> None:
    database_at_head.run(SOME_ROWS)
    database_at_head.run("UPDATE conversations SET message_count = NULL; UPDATE ai_agents SET message_count = NULL")
    database_at_head.run(
        "INSERT INTO messages (conversation_id, sender_type, sender_id, content)"
        f" VALUES ('{ID(7)}', 'ai', '{ID(4)}', '…')"
    )
    assert database_at_head.value("SELECT message_count FROM conversations") == 1
    assert database_at_head.value(f"SELECT message_count FROM ai_agents WHERE id = '{ID(4)}'") == 1


def test_rows_that_refer_to_each_other_can_go(database_at_head: Database) -> None:
    database_at_head.run(SOME_ROWS)
    database_at_head.run(f"DELETE FROM ai_chat_sessions WHERE id = '{ID(10)}'")
    assert database_at_head.value(f"SELECT ai_session_id FROM messages WHERE id = '{ID(9)}'") is None
    assert database_at_head.value("SELECT count(*) FROM ai_tool_usage") == 0
    database_at_head.run("DELETE FROM users")
    assert all(database_at_head.value(f"SELECT count(*) FROM {table}") == 0 for table in TABLES)
