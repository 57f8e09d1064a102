-- Sample rows, to measure what the statements of revisions do: inserted right after revision 001 with the triggers on,
-- and carried along by every later one. Nobody's data.
INSERT INTO public.users (id, cognito_user_id, email, display_name) VALUES
    ('00000000-0000-0000-0000-000000000001', 'sample-1', 'hana@example.jp', '花'),
    ('00000000-0000-0000-0000-000000000002', 'sample-2', 'taro@example.jp', '太郎');
INSERT INTO public.user_service_configs (id, user_id, service_class, encrypted_config, config_nonce) VALUES
    ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001', 'GoogleCalendar', '\x00', '\x01');
INSERT INTO public.ai_agents (id, user_id, name, persona_type, model) VALUES
    ('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000001', '助手', 'assistant', 'gpt-4o'),
    ('00000000-0000-0000-0000-000000000005', '00000000-0000-0000-0000-000000000002', '作家', 'creative', 'gemini-pro');
INSERT INTO public.ai_agent_services (id, ai_agent_id, service_class, selected_tools) VALUES
    ('00000000-0000-0000-0000-000000000006', '00000000-0000-0000-0000-000000000004', 'GoogleCalendar', '{list,create}');
INSERT INTO public.conversations (id, user_id, ai_agent_id) VALUES
    ('00000000-0000-0000-0000-000000000007', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000004');
INSERT INTO public.messages (id, conversation_id, sender_type, sender_id, content) VALUES
    ('00000000-0000-0000-0000-000000000008', '00000000-0000-0000-0000-000000000007', 'user', '00000000-0000-0000-0000-000000000001', '予定を教えて'),
    ('00000000-0000-0000-0000-000000000009', '00000000-0000-0000-0000-000000000007', 'ai', '00000000-0000-0000-0000-000000000004', '三件です');
INSERT INTO public.ai_chat_sessions
    (id, user_id, conversation_id, ai_agent_id, message_id, provider, model, persona, temperature, status) VALUES
    ('00000000-0000-0000-0000-000000000010', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000007', '00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000009', 'openai', 'gpt-4o', 'assistant', 0.7, 'completed');
UPDATE public.messages SET ai_session_id = '00000000-0000-0000-0000-000000000010' WHERE id = '00000000-0000-0000-0000-000000000009';
INSERT INTO public.ai_tool_usage (id, session_id, tool_name, input_data, status) VALUES
    ('00000000-0000-0000-0000-000000000011', '00000000-0000-0000-0000-000000000010', 'list_events', '{"day": "today"}', 'completed');
