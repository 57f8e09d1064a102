"""A small application on our tables, as one that runs while the schema changes: what it asks stays prepared."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from tests.db.conftest import Database

STATEMENTS = {
    "sign up": "INSERT INTO users (cognito_user_id, email, display_name) VALUES ($1, $2, $3) RETURNING id, created_at",
    "log in": "SELECT * FROM users WHERE cognito_user_id = $1 AND status = 'active'",
    "rename": "UPDATE users SET display_name = $2 WHERE id = $1",
    "configure": "INSERT INTO user_service_configs (user_id, service_class, encrypted_config, is_enabled)\n"
    "VALUES ($1, $2, $3, $4)\nON CONFLICT (user_id, service_class)\n"
    "DO UPDATE SET encrypted_config = EXCLUDED.encrypted_config\nRETURNING id",
    "enabled": "SELECT id FROM user_service_configs WHERE user_id = $1 AND is_enabled = true ORDER BY created_at",
    "make agent": "INSERT INTO ai_agents (user_id, name, persona_type, provider, model, temperature, max_tokens)\n"
    "VALUES ($1, $2, 'creative', $3, $4, $5, $6) RETURNING id",
    "agent": "SELECT id, model, temperature, max_tokens, system_prompt FROM ai_agents WHERE id = $1 AND user_id = $2",
    "agents": "SELECT a.id, a.last_chat_at FROM ai_agents a\n"
    "WHERE a.user_id = $1 AND a.is_active ORDER BY a.last_chat_at DESC NULLS LAST LIMIT $2",
    "tune": "UPDATE ai_agents SET temperature = $2, max_tokens = max_tokens + 100 WHERE id = $1",
    "give tools": "INSERT INTO ai_agent_services (ai_agent_id, service_class, selected_tools) VALUES ($1, $2, $3)",
    "tools": "SELECT s.selected_tools, c.id FROM ai_agent_services s\n"
    "JOIN ai_agents a ON a.id = s.ai_agent_id\n"
    "LEFT JOIN user_service_configs c ON c.user_id = a.user_id AND c.service_class = s.service_class\n"
    "WHERE s.ai_agent_id = $1 AND s.enabled",
    "converse": "INSERT INTO conversations (user_id, ai_agent_id) VALUES ($1, $2)\n"
    "ON CONFLICT ON CONSTRAINT unique_user_agent_conversation DO NOTHING RETURNING id",
    "conversation": "SELECT id, message_count FROM conversations WHERE user_id = $1 AND ai_agent_id = $2",
    "say": "INSERT INTO messages (conversation_id, sender_type, sender_id, content) VALUES ($1, $2, $3, $4)\n"
    "RETURNING id, created_at",
    "history": "SELECT m.id, m.content, m.created_at, extract(epoch FROM m.created_at) AS seconds FROM messages m\n"
    "WHERE m.conversation_id = $1 AND m.created_at > now() - interval '30 days'\n"
    "ORDER BY m.created_at DESC, 1 LIMIT 50",
    "begin session": "INSERT INTO ai_chat_sessions\n"
    "(user_id, conversation_id, ai_agent_id, provider, model, persona, temperature)\n"
    "VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
    "end session": "UPDATE ai_chat_sessions SET status = 'completed', tokens_prompt = $2, tokens_completion = $3,\n"
    "tokens_total = $4, completed_at = now() WHERE id = $1",
    "note tool": "INSERT INTO ai_tool_usage (session_id, tool_name, input_data, status, execution_time_ms)\n"
    "VALUES ($1, $2, $3, 'completed', $4)",
    "tool uses": "SELECT count(*) AS uses FROM ai_tool_usage WHERE input_data @> $1 AND tool_name = ANY ($2)",
    "tokens a day": "SELECT date_trunc('day', started_at) AS day, sum(tokens_total) AS tokens FROM ai_chat_sessions\n"
    "WHERE user_id = $1 GROUP BY date_trunc('day', started_at) ORDER BY 1",
    "take back": "WITH gone AS (DELETE FROM messages WHERE id = $1 RETURNING conversation_id)\n"
    "UPDATE conversations SET message_count = message_count - 1 WHERE id IN (SELECT conversation_id FROM gone)",
    "switch on": "MERGE INTO user_service_configs c USING (SELECT $1::uuid AS user_id, $2::text AS service) s\n"
    "ON c.user_id = s.user_id AND c.service_class = s.service\n"
    "WHEN MATCHED THEN UPDATE SET is_enabled = true\n"
    "WHEN NOT MATCHED THEN INSERT (user_id, service_class) VALUES (s.user_id, s.service)",
    "leave": "DELETE FROM users WHERE id = $1",
}


@asynccontextmanager
async def started(database: Database) -> AsyncIterator[Application]:
    """The application, connected."""
    connection: Any = await asyncpg.connect(
        host=database.host, port=database.port, user=database.user, database=database.name
    )
    try:
        yield Application({name: await connection.prepare(sql) for name, sql in STATEMENTS.items()})
    finally:
        await connection.close()


class Application:
    """A connection with each statement prepared, as it was when the application started."""

    def __init__(self, statements: Mapping[str, Any]) -> None:
        self._statements = statements

    async def _ask(self, name: str, *values: object) -> list[Any]:
        return list(await self._statements[name].fetch(*values))

    async def run(self) -> None:
        """Everything once, from a user's coming to the leaving; each answer is used."""
        name = uuid.uuid4().hex
        [made] = await self._ask("sign up", name, f"{name}@example.jp", "Hanako")
        assert isinstance(made["created_at"], datetime)
        user: uuid.UUID = made["id"]
        [found] = await self._ask("log in", name)
        assert found["id"] == user
        assert tuple(found.keys())[:4] == ("id", "cognito_user_id", "email", "display_name")
        await self._ask("rename", user, "Hana")
        await self._ask("configure", user, "GoogleCalendar", None, False)
        [config] = await self._ask("configure", user, "GoogleCalendar", b"\x00", True)
        await self._ask("switch on", user, "GoogleCalendar")
        await self._ask("switch on", user, "GoogleMail")
        assert len(await self._ask("enabled", user)) == 2
        [made] = await self._ask("make agent", user, "Secretary", "openai", "gpt-4o", Decimal("0.70"), 2000)
        agent = made["id"]
        await self._ask("tune", agent, Decimal("1.25"))
        [found] = await self._ask("agent", agent, user)
        assert (found["temperature"], found["max_tokens"] + 1, found["system_prompt"]) == (Decimal("1.25"), 2101, None)
        assert [each["id"] for each in await self._ask("agents", user, 10)] == [agent]
        await self._ask("give tools", agent, "GoogleCalendar", ["read", "write"])
        [found] = await self._ask("tools", agent)
        assert (found["selected_tools"], found["id"]) == (["read", "write"], config["id"])
        [made] = await self._ask("converse", user, agent)
        assert await self._ask("converse", user, agent) == []
        talk = made["id"]
        [said] = await self._ask("say", talk, "user", user, "What is on today?")
        await self._ask("say", talk, "ai", agent, "Nothing at all.")
        [found] = await self._ask("conversation", user, agent)
        assert (found["id"], found["message_count"]) == (talk, 2)
        contents = {each["content"] for each in await self._ask("history", talk)}
        assert contents == {"What is on today?", "Nothing at all."}
        [session] = await self._ask("begin session", user, talk, agent, "openai", "gpt-4o", "creative", Decimal("1.25"))
        await self._ask("end session", session["id"], 120, 80, 200)
        await self._ask("note tool", session["id"], "calendar", '{"day": 1}', 12)
        [found] = await self._ask("tool uses", '{"day": 1}', ["calendar"])
        assert found["uses"] >= 1
        [day] = await self._ask("tokens a day", user)
        assert (day["tokens"], day["day"] + timedelta(days=1) > datetime.min) == (200, True)
        await self._ask("take back", said["id"])
        [found] = await self._ask("conversation", user, agent)
        assert found["message_count"] == 1
        await self._ask("leave", user)
        assert await self._ask("log in", name) == []
