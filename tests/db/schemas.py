"""What the tests compare with and build: the contract, databases as they were before Alembic, and rows for them."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory

from neuraknot_db.schema.catalog import Column, Constraint, Function, Index, Schema, Table, Trigger, read_schema
from tests.db.conftest import Database
from tests.projects import PROJECT

SCRIPT = ScriptDirectory(str(PROJECT / "alembic"))
REVISIONS = ("001", "002", "003", "004")
TABLES = (
    "users",
    "user_service_configs",
    "ai_agents",
    "ai_agent_services",
    "conversations",
    "messages",
    "ai_chat_sessions",
    "ai_tool_usage",
)


def contract(revision: str) -> Schema:
    """The schema that the contract demands at a revision; it says nothing of functions' texts."""
    document = json.loads((Path(__file__).parent / "contract" / f"{revision}.json").read_text(encoding="utf-8"))
    triggers: dict[str, dict[str, Trigger]] = {name: {} for name in document["tables"]}
    for found in document["triggers"]:
        triggers[found["table"]][found["name"]] = Trigger(found["name"], found["definition"])

    def table(name: str, found: dict[str, Any]) -> Table:
        return Table(
            name,
            {
                column["name"]: Column(**column, commented=column["name"] in found["commented_columns"])
                for column in found["columns"]
            },
            {
                constraint["name"]: Constraint(
                    **constraint, commented=constraint["name"] in document["commented_constraints"]
                )
                for constraint in found["constraints"]
            },
            {index["name"]: Index(**index) for index in found["indexes"]},
            triggers[name],
            commented=found["has_comment"],
        )

    signatures = {f"{found['name']}({found['arguments']})": found for found in document["functions"]}
    return Schema(
        tables={name: table(name, found) for name, found in document["tables"].items()},
        functions={
            signature: Function(signature, found["returns"], found["language"], "")
            for signature, found in signatures.items()
        },
        extensions=tuple(document["extensions"]),
    )


def without_texts(schema: Schema) -> Schema:
    """The schema without the texts of its functions."""
    functions = {signature: replace(found, definition="") for signature, found in schema.functions.items()}
    return replace(schema, functions=functions)


def with_chk_model_not_valid(schema: Schema) -> Schema:
    """The schema as the downgrade from 004 leaves it."""
    agents = schema.tables["ai_agents"]
    constraints = {**agents.constraints, "chk_model": replace(agents.constraints["chk_model"], validated=False)}
    return replace(schema, tables={**schema.tables, "ai_agents": replace(agents, constraints=constraints)})


def live(database: Database) -> Schema:
    with database.engine().connect() as connection:
        return read_schema(connection)


def old_schema(state: str) -> str:
    """The one SQL file of the time before Alembic, as it was after its edits in place up to a revision's state."""
    sql = _initial_sql()
    for text, edited in [edit for revision, edits in _EDITS.items() if revision <= state for edit in edits]:
        assert text in sql
        sql = sql.replace(text, edited)
    return sql


def old_functions(state: str) -> str:
    """The same file, with the functions as somebody else would write them."""
    sql = old_schema(state)
    for text, edited in (
        ("NEW.updated_at := CURRENT_TIMESTAMP;", "new.updated_at = now();  -- 更新日時"),
        ("RETURN NULL;  -- an AFTER trigger's result is ignored", "RETURN NEW;"),
    ):
        assert text in sql
        sql = sql.replace(text, edited)
    return sql


_EDITS = {
    "002": (
        (
            "CHECK (persona_type IN ('assistant', 'creative', 'analytical'))",
            "CHECK (persona_type IN ('', 'assistant', 'creative', 'analytical', 'concise'))",
        ),
    ),
    "003": (
        (
            "    persona_type      varchar(50)  NOT NULL DEFAULT 'assistant',",
            "    persona_type varchar(50) DEFAULT '',",
        ),
        # In the file's order, not at the end, where revision 003 puts it.
        ("    status          varchar(50)  NOT NULL", "    avatar_url text,\n    status varchar(50) NOT NULL"),
        (
            "COMMENT ON COLUMN public.users.status",
            "COMMENT ON COLUMN public.users.avatar_url IS '画像';\nCOMMENT ON COLUMN public.users.status",
        ),
    ),
    "004": (
        ("DEFAULT 'gpt-4o',", "DEFAULT 'gpt-4.1',"),
        (
            """    CONSTRAINT chk_model CHECK (model IN (
        'gpt-4o', 'gpt-4o-mini', 'gpt-4-turbo', 'gpt-4', 'gpt-3.5-turbo',
        'claude-3-5-sonnet-20241022', 'claude-3.5-sonnet', 'claude-3-opus-20240229',
        'claude-3-sonnet-20240229', 'claude-3-haiku-20240307',
        'gemini-pro', 'gemini-1.5-pro', 'gemini-1.5-flash'
    )),
""",
            "",
        ),
    ),
}


def _initial_sql() -> str:
    statements: list[str] = []

    class Recorder:
        def execute(self, sql: str) -> None:
            statements.append(sql.strip().rstrip(";") + ";\n")

    path = SCRIPT.get_revision("001").path
    spec = importlib.util.spec_from_file_location("recorded_001", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["op"] = Recorder()
    module.upgrade()
    return "\n".join(statements)


def rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, by table."""
    query = "SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY id), '[]') FROM public.{} t"
    return {table: database.value(query.format(table)) for table in TABLES}  # type: ignore[misc]


ID = "00000000-0000-0000-0000-{:012d}".format

SOME_ROWS = f"""
INSERT INTO users (id, cognito_user_id, email, display_name, created_at) VALUES
    ('{ID(1)}', 'sub-1', 'hana@example.jp', '花', '2025-10-21 09:00'),
    ('{ID(2)}', 'sub-2', 'taro@example.jp', '太郎 100%', '2025-10-22 09:00');
INSERT INTO user_service_configs (id, user_id, service_class, encrypted_config, config_nonce) VALUES
    ('{ID(3)}', '{ID(1)}', 'GoogleCalendar', '\\x00ff', '\\x01');
INSERT INTO ai_agents (id, user_id, name, persona_type, model) VALUES
    ('{ID(4)}', '{ID(1)}', '助手', 'assistant', 'gpt-4o'),
    ('{ID(5)}', '{ID(2)}', '作家', 'creative', 'gemini-pro');
INSERT INTO ai_agent_services (id, ai_agent_id, service_class, selected_tools) VALUES
    ('{ID(6)}', '{ID(4)}', 'GoogleCalendar', '{{list,create}}');
INSERT INTO conversations (id, user_id, ai_agent_id) VALUES ('{ID(7)}', '{ID(1)}', '{ID(4)}');
INSERT INTO messages (id, conversation_id, sender_type, sender_id, content) VALUES
    ('{ID(8)}', '{ID(7)}', 'user', '{ID(1)}', '予定を教えて'),
    ('{ID(9)}', '{ID(7)}', 'ai', '{ID(4)}', '今日は {{"三": 3}} 件です');
INSERT INTO ai_chat_sessions
    (id, user_id, conversation_id, ai_agent_id, message_id, provider, model, persona, temperature, status) VALUES
    ('{ID(10)}', '{ID(1)}', '{ID(7)}', '{ID(4)}', '{ID(9)}', 'openai', 'gpt-4o', 'assistant', 0.7, 'completed');
UPDATE messages SET ai_session_id = '{ID(10)}' WHERE id = '{ID(9)}';
INSERT INTO ai_tool_usage (id, session_id, tool_name, input_data, status) VALUES
    ('{ID(11)}', '{ID(10)}', 'list_events', '{{"day": "today", "all": true}}', 'completed');
"""

ROWS_THAT_NEED = {
    "002": f"""
INSERT INTO ai_agents (id, user_id, name, persona_type) VALUES
    ('{ID(20)}', '{ID(1)}', '簡潔', 'concise'),
    ('{ID(21)}', '{ID(1)}', 'なし', '');
""",
    "003": f"""
INSERT INTO ai_agents (id, user_id, name, persona_type) VALUES ('{ID(30)}', '{ID(2)}', '未定', NULL);
UPDATE users SET avatar_url = 'https://example.jp/hana.png' WHERE id = '{ID(1)}';
""",
    "004": f"""
INSERT INTO ai_agents (id, user_id, name, model) VALUES ('{ID(40)}', '{ID(2)}', '新型', 'gpt-4.1');
""",
}


def rows_for(revision: str) -> str:
    """Rows in every table, with all that only the revisions up to this one allow."""
    return SOME_ROWS + "".join(sql for needed, sql in ROWS_THAT_NEED.items() if needed <= revision)
