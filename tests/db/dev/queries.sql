-- What a service asks of NeuraKnot's tables: sqlc reads it beside schema.sql.

-- name: GetUserByCognitoID :one
SELECT * FROM users WHERE cognito_user_id = $1;

-- name: CreateUser :one
INSERT INTO users (cognito_user_id, email, display_name) VALUES ($1, $2, $3)
RETURNING id, status, created_at;

-- name: UpsertUser :one
INSERT INTO users (cognito_user_id, email, display_name, avatar_url) VALUES ($1, $2, $3, $4)
ON CONFLICT (cognito_user_id) DO UPDATE
SET email = EXCLUDED.email, avatar_url = coalesce(EXCLUDED.avatar_url, users.avatar_url)
RETURNING *;

-- name: SetUserStatus :execrows
UPDATE users SET status = $2 WHERE id = $1 AND status <> 'deleted';

-- name: ListUsersByEmail :many
SELECT id, email FROM users WHERE email = ANY (sqlc.arg(emails)::text[]) ORDER BY email;

-- name: ListActiveAgents :many
SELECT id, name, model, temperature, last_chat_at FROM ai_agents
WHERE user_id = $1 AND is_active ORDER BY last_chat_at DESC NULLS LAST LIMIT $2 OFFSET $3;

-- name: CreateAgent :one
INSERT INTO ai_agents (user_id, name, description, persona_type, provider, system_prompt)
VALUES ($1, $2, sqlc.narg(description), $3, $4, $5) RETURNING id, model;

-- name: UpdateAgent :one
UPDATE ai_agents
SET name = coalesce(sqlc.narg(name), name), temperature = coalesce(sqlc.narg(temperature), temperature)
WHERE id = sqlc.arg(id) AND user_id = sqlc.arg(user_id) RETURNING *;

-- name: AgentWithServices :many
SELECT sqlc.embed(a), s.service_class, s.selected_tools
FROM ai_agents a LEFT JOIN ai_agent_services s ON s.ai_agent_id = a.id AND s.enabled
WHERE a.id = $1;

-- name: EnableService :exec
INSERT INTO ai_agent_services (ai_agent_id, service_class, tool_selection_mode, selected_tools)
VALUES ($1, $2, 'selected', sqlc.arg(tools)::text[])
ON CONFLICT ON CONSTRAINT ai_agent_services_ai_agent_id_service_class_key
DO UPDATE SET selected_tools = EXCLUDED.selected_tools, enabled = true;

-- name: AgentsWithTool :many
SELECT ai_agent_id FROM ai_agent_services WHERE sqlc.arg(tool)::text = ANY (selected_tools);

-- name: ToolsOfAgent :many
SELECT s.service_class, t.tool::text FROM ai_agent_services s CROSS JOIN LATERAL unnest(s.selected_tools) AS t (tool)
WHERE s.ai_agent_id = $1;

-- name: GetServiceConfig :one
SELECT encrypted_config, config_nonce FROM user_service_configs
WHERE user_id = $1 AND service_class = $2 AND is_enabled;

-- name: OpenConversation :one
INSERT INTO conversations (user_id, ai_agent_id) VALUES ($1, $2)
ON CONFLICT (user_id, ai_agent_id) DO UPDATE SET updated_at = now() RETURNING *;

-- name: ListConversations :many
SELECT c.id, c.message_count, a.name AS agent, last.content
FROM conversations c
JOIN ai_agents a ON a.id = c.ai_agent_id
LEFT JOIN LATERAL (
    SELECT content FROM messages m WHERE m.conversation_id = c.id ORDER BY m.created_at DESC LIMIT 1
) last ON true
WHERE c.user_id = $1 ORDER BY c.last_message_at DESC NULLS LAST;

-- name: AddMessages :copyfrom
INSERT INTO messages (conversation_id, sender_type, sender_id, content) VALUES ($1, $2, $3, $4);

-- name: MessagesBefore :many
SELECT m.*, s.tokens_total FROM messages m LEFT JOIN ai_chat_sessions s ON s.id = m.ai_session_id
WHERE m.conversation_id = $1 AND (m.created_at, m.id) < (sqlc.arg(before)::timestamp, sqlc.arg(before_id)::uuid)
ORDER BY m.created_at DESC, m.id DESC LIMIT 50;

-- name: CompleteSession :one
WITH done AS (
    UPDATE ai_chat_sessions s SET status = 'completed', completed_at = now(), tokens_total = $2 WHERE s.id = $1
    RETURNING s.ai_agent_id
)
SELECT a.id, a.message_count FROM ai_agents a JOIN done ON done.ai_agent_id = a.id;

-- name: TokensPerDay :many
SELECT date_trunc('day', started_at)::timestamp AS day, sum(tokens_total)::bigint AS tokens, count(*) AS runs,
       rank() OVER (ORDER BY sum(tokens_total) DESC) AS place
FROM ai_chat_sessions WHERE user_id = $1 GROUP BY 1 HAVING count(*) > 1;

-- name: ToolsUsedWith :many
SELECT tool_name, input_data ->> 'query' AS query, jsonb_agg(input_data ORDER BY executed_at) AS inputs
FROM ai_tool_usage WHERE input_data @> sqlc.arg(part)::jsonb GROUP BY 1, 2;

-- name: RecordToolUsage :exec
INSERT INTO ai_tool_usage (session_id, tool_name, input_data, status)
VALUES ($1, $2, jsonb_build_object('q', $3::text), $4);

-- name: DeleteQuietConversations :execrows
DELETE FROM conversations c USING users u
WHERE u.id = c.user_id AND u.status = 'deleted'
  AND NOT EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id);

-- name: NewID :one
SELECT uuid_generate_v4();
