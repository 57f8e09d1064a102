-- The schema after revision 004, as plain SQL. Don't edit it: neuraknot-db snapshot writes it anew.

SET client_encoding = 'UTF8';
SET check_function_bodies = false;  -- functions come before the tables that they read

CREATE EXTENSION IF NOT EXISTS "uuid-ossp" WITH SCHEMA public;

CREATE FUNCTION public.update_conversation_on_message() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE public.conversations
    SET last_message_at = NEW.created_at,
        message_count   = COALESCE(message_count, 0) + 1,
        updated_at      = CURRENT_TIMESTAMP
    WHERE id = NEW.conversation_id;

    IF NEW.sender_type = 'ai' THEN
        UPDATE public.ai_agents
        SET last_chat_at  = NEW.created_at,
            message_count = COALESCE(message_count, 0) + 1,
            updated_at    = CURRENT_TIMESTAMP
        WHERE id = NEW.sender_id;
    END IF;

    RETURN NULL;  -- an AFTER trigger's result is ignored
END;
$$;

CREATE FUNCTION public.update_updated_at_column() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.updated_at := CURRENT_TIMESTAMP;
    RETURN NEW;
END;
$$;

CREATE TABLE public.ai_agent_services (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    ai_agent_id uuid NOT NULL,
    service_class character varying(255) NOT NULL,
    tool_selection_mode character varying(50) DEFAULT 'all'::character varying,
    selected_tools text[],
    enabled boolean DEFAULT true,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT chk_tool_selection_mode CHECK (((tool_selection_mode)::text = ANY ((ARRAY['all'::character varying, 'selected'::character varying])::text[]))),
    CONSTRAINT ai_agent_services_ai_agent_id_service_class_key UNIQUE (ai_agent_id, service_class),
    CONSTRAINT ai_agent_services_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE public.ai_agent_services IS 'エージェントが使える外部サービス。エージェントとサービスの組ごとに一行';
COMMENT ON COLUMN public.ai_agent_services.service_class IS 'サービスの種類。user_service_configs.service_class と同じ値';
COMMENT ON COLUMN public.ai_agent_services.tool_selection_mode IS 'all = サービスの全ツール、selected = selected_tools に挙げたものだけ';
COMMENT ON COLUMN public.ai_agent_services.selected_tools IS '使わせるツールの名前。tool_selection_mode が selected のときだけ意味を持つ';
COMMENT ON COLUMN public.ai_agent_services.enabled IS 'このエージェントでサービスを使うか';

CREATE TABLE public.ai_agents (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    user_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    description text,
    avatar_url text,
    persona_type character varying(50) DEFAULT ''::character varying,
    provider character varying(50) DEFAULT 'openai'::character varying NOT NULL,
    model character varying(100) DEFAULT 'gpt-4.1'::character varying NOT NULL,
    temperature numeric(3,2) DEFAULT 0.7 NOT NULL,
    max_tokens integer DEFAULT 2000 NOT NULL,
    system_prompt text,
    tools_enabled boolean DEFAULT true,
    streaming_enabled boolean DEFAULT false,
    is_active boolean DEFAULT true,
    message_count integer DEFAULT 0,
    last_chat_at timestamp without time zone,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT chk_max_tokens CHECK (((max_tokens >= 100) AND (max_tokens <= 8000))),
    CONSTRAINT chk_persona_type CHECK (((persona_type)::text = ANY ((ARRAY[''::character varying, 'assistant'::character varying, 'creative'::character varying, 'analytical'::character varying, 'concise'::character varying])::text[]))),
    CONSTRAINT chk_provider CHECK (((provider)::text = ANY ((ARRAY['openai'::character varying, 'anthropic'::character varying, 'google'::character varying])::text[]))),
    CONSTRAINT chk_temperature CHECK (((temperature >= (0)::numeric) AND (temperature <= (2)::numeric))),
    CONSTRAINT ai_agents_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE public.ai_agents IS '利用者が作った AI エージェント。会話の相手であり、モデルと振る舞いの設定を持つ';
COMMENT ON COLUMN public.ai_agents.persona_type IS '性格づけ: 空文字/NULL = なし、assistant = 標準、creative = 発想、analytical = 分析、concise = 簡潔';
COMMENT ON COLUMN public.ai_agents.provider IS 'モデルの提供元: openai、anthropic、google';
COMMENT ON COLUMN public.ai_agents.model IS '提供元でのモデル名。使えるものはアプリケーションが定める';
COMMENT ON COLUMN public.ai_agents.system_prompt IS '会話の先頭に毎回渡す指示文。NULL なら persona_type の既定の文を使う';
COMMENT ON COLUMN public.ai_agents.tools_enabled IS 'ツール (外部サービスの呼び出し) を使ってよいか';
COMMENT ON COLUMN public.ai_agents.streaming_enabled IS '応答を生成しながら逐次送るか';

CREATE TABLE public.ai_chat_sessions (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    ai_agent_id uuid NOT NULL,
    message_id uuid,
    provider character varying(50) NOT NULL,
    model character varying(100) NOT NULL,
    persona character varying(50) NOT NULL,
    temperature numeric(3,2) NOT NULL,
    tokens_prompt integer,
    tokens_completion integer,
    tokens_total integer,
    processing_time_ms integer,
    tools_used integer DEFAULT 0,
    status character varying(50) DEFAULT 'processing'::character varying NOT NULL,
    error_message text,
    started_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    completed_at timestamp without time zone,
    CONSTRAINT chk_session_status CHECK (((status)::text = ANY ((ARRAY['processing'::character varying, 'completed'::character varying, 'failed'::character varying])::text[]))),
    CONSTRAINT ai_chat_sessions_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE public.ai_chat_sessions IS 'AI に応答を求めた一回ごとの実行記録。設定は実行時の値の写しで、あとからエージェントを変えても動かない';
COMMENT ON COLUMN public.ai_chat_sessions.tokens_total IS '消費したトークンの合計 (入力と出力)';
COMMENT ON COLUMN public.ai_chat_sessions.processing_time_ms IS '開始から完了までの時間 (ミリ秒)';
COMMENT ON COLUMN public.ai_chat_sessions.tools_used IS 'この実行でツールを呼び出した回数';

CREATE TABLE public.ai_tool_usage (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    session_id uuid,
    message_id uuid,
    tool_name character varying(255) NOT NULL,
    tool_category character varying(100) DEFAULT 'basic'::character varying,
    input_data jsonb NOT NULL,
    output_data text,
    status character varying(50) NOT NULL,
    error_message text,
    execution_time_ms integer,
    insert_position integer,
    executed_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT chk_tool_reference CHECK (((session_id IS NOT NULL) OR (message_id IS NOT NULL))),
    CONSTRAINT chk_tool_status CHECK (((status)::text = ANY ((ARRAY['completed'::character varying, 'failed'::character varying])::text[]))),
    CONSTRAINT ai_tool_usage_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE public.ai_tool_usage IS 'ツール呼び出しの記録。実行か発言の、少なくとも一方に結び付く';
COMMENT ON COLUMN public.ai_tool_usage.session_id IS '呼び出した AI 実行。message_id と両方が NULL にはならない';
COMMENT ON COLUMN public.ai_tool_usage.message_id IS '呼び出しの結果が現れる発言';
COMMENT ON COLUMN public.ai_tool_usage.tool_category IS 'ツールの分類。既定は basic (組み込みツール)';
COMMENT ON COLUMN public.ai_tool_usage.input_data IS 'ツールに渡した引数 (JSON)。中身での検索のため GIN 索引がある';
COMMENT ON COLUMN public.ai_tool_usage.execution_time_ms IS 'ツールの実行にかかった時間 (ミリ秒)';

CREATE TABLE public.conversations (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    user_id uuid NOT NULL,
    ai_agent_id uuid NOT NULL,
    message_count integer DEFAULT 0,
    last_message_at timestamp without time zone,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT conversations_pkey PRIMARY KEY (id),
    CONSTRAINT unique_user_agent_conversation UNIQUE (user_id, ai_agent_id)
);
COMMENT ON TABLE public.conversations IS '利用者とエージェントの会話。message_count と last_message_at はメッセージの追加時にトリガーが更新する';

CREATE TABLE public.messages (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    conversation_id uuid NOT NULL,
    sender_type character varying(20) NOT NULL,
    sender_id uuid NOT NULL,
    content text NOT NULL,
    ai_session_id uuid,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT chk_sender_type CHECK (((sender_type)::text = ANY ((ARRAY['user'::character varying, 'ai'::character varying])::text[]))),
    CONSTRAINT messages_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE public.messages IS '会話の中の発言。一行が一つの発言';
COMMENT ON COLUMN public.messages.sender_type IS '発言者の種類: user = 利用者、ai = エージェント';
COMMENT ON COLUMN public.messages.sender_id IS '発言者の id。sender_type が user なら users.id、ai なら ai_agents.id (外部キーはない)';
COMMENT ON COLUMN public.messages.ai_session_id IS 'この発言を生んだ AI 実行 (ai_chat_sessions)。利用者の発言では NULL';

CREATE TABLE public.user_service_configs (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    user_id uuid NOT NULL,
    service_class character varying(255) NOT NULL,
    encrypted_config bytea,
    config_nonce bytea,
    encrypted_auth bytea,
    auth_nonce bytea,
    is_enabled boolean DEFAULT true,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT user_service_configs_pkey PRIMARY KEY (id),
    CONSTRAINT user_service_configs_user_id_service_class_key UNIQUE (user_id, service_class)
);
COMMENT ON TABLE public.user_service_configs IS '利用者ごとの外部サービス連携の設定。秘密の値は暗号文だけを置く';
COMMENT ON COLUMN public.user_service_configs.service_class IS 'サービスの種類を表すクラス名。利用者ごとに一つずつ';
COMMENT ON COLUMN public.user_service_configs.encrypted_config IS '暗号化した設定値。復号はアプリケーションだけが行う';
COMMENT ON COLUMN public.user_service_configs.config_nonce IS 'encrypted_config を暗号化したときのナンス';
COMMENT ON COLUMN public.user_service_configs.encrypted_auth IS '暗号化した認証情報 (API キー、トークンなど)';
COMMENT ON COLUMN public.user_service_configs.auth_nonce IS 'encrypted_auth を暗号化したときのナンス';
COMMENT ON COLUMN public.user_service_configs.is_enabled IS '連携が有効か。false でも設定は残る';

CREATE TABLE public.users (
    id uuid DEFAULT public.uuid_generate_v4() NOT NULL,
    cognito_user_id character varying(255) NOT NULL,
    email character varying(255) NOT NULL,
    display_name character varying(255) NOT NULL,
    status character varying(50) DEFAULT 'active'::character varying NOT NULL,
    created_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamp without time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    avatar_url text,
    CONSTRAINT chk_users_status CHECK (((status)::text = ANY ((ARRAY['active'::character varying, 'inactive'::character varying, 'suspended'::character varying, 'deleted'::character varying])::text[]))),
    CONSTRAINT users_cognito_user_id_key UNIQUE (cognito_user_id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE public.users IS '利用者。認証は Amazon Cognito が受け持ち、ここにはプロフィールと状態を置く';
COMMENT ON COLUMN public.users.cognito_user_id IS 'Cognito ユーザープールでの識別子 (sub)。ログインした利用者をこの値で引き当てる';
COMMENT ON COLUMN public.users.email IS 'メールアドレス。利用者どうしで重複しない';
COMMENT ON COLUMN public.users.display_name IS '画面に表示する名前';
COMMENT ON COLUMN public.users.status IS '状態: active = 利用中、inactive = 休止中、suspended = 停止中、deleted = 退会済み (行は残す)';
COMMENT ON COLUMN public.users.avatar_url IS 'プロフィール画像の URL。NULL なら既定の画像を表示する';

COMMENT ON CONSTRAINT unique_user_agent_conversation ON public.conversations IS '会話は利用者とエージェントの組につき一つだけ';

CREATE INDEX idx_ai_agent_services_agent ON public.ai_agent_services USING btree (ai_agent_id);
CREATE INDEX idx_ai_agent_services_enabled ON public.ai_agent_services USING btree (ai_agent_id, enabled);
CREATE INDEX idx_ai_agent_services_service ON public.ai_agent_services USING btree (service_class);
CREATE INDEX idx_ai_agents_active ON public.ai_agents USING btree (is_active) WHERE (is_active = true);
CREATE INDEX idx_ai_agents_last_chat ON public.ai_agents USING btree (user_id, last_chat_at DESC NULLS LAST);
CREATE INDEX idx_ai_agents_streaming ON public.ai_agents USING btree (streaming_enabled) WHERE (streaming_enabled = true);
CREATE INDEX idx_ai_agents_user ON public.ai_agents USING btree (user_id, is_active);
CREATE INDEX idx_ai_sessions_agent ON public.ai_chat_sessions USING btree (ai_agent_id);
CREATE INDEX idx_ai_sessions_conversation ON public.ai_chat_sessions USING btree (conversation_id);
CREATE INDEX idx_ai_sessions_status ON public.ai_chat_sessions USING btree (status) WHERE ((status)::text = 'processing'::text);
CREATE INDEX idx_ai_sessions_user ON public.ai_chat_sessions USING btree (user_id, started_at DESC);
CREATE INDEX idx_ai_tool_usage_executed ON public.ai_tool_usage USING btree (executed_at DESC);
CREATE INDEX idx_ai_tool_usage_input ON public.ai_tool_usage USING gin (input_data);
CREATE INDEX idx_ai_tool_usage_message ON public.ai_tool_usage USING btree (message_id) WHERE (message_id IS NOT NULL);
CREATE INDEX idx_ai_tool_usage_session ON public.ai_tool_usage USING btree (session_id) WHERE (session_id IS NOT NULL);
CREATE INDEX idx_ai_tool_usage_tool ON public.ai_tool_usage USING btree (tool_name);
CREATE INDEX idx_conversations_agent ON public.conversations USING btree (ai_agent_id);
CREATE INDEX idx_conversations_user ON public.conversations USING btree (user_id, last_message_at DESC NULLS LAST);
CREATE INDEX idx_messages_ai_session ON public.messages USING btree (ai_session_id) WHERE (ai_session_id IS NOT NULL);
CREATE INDEX idx_messages_conversation ON public.messages USING btree (conversation_id, created_at DESC);
CREATE INDEX idx_messages_sender ON public.messages USING btree (sender_type, sender_id);
CREATE INDEX idx_user_service_configs_enabled ON public.user_service_configs USING btree (user_id, is_enabled);
CREATE INDEX idx_user_service_configs_service ON public.user_service_configs USING btree (service_class);
CREATE INDEX idx_user_service_configs_user ON public.user_service_configs USING btree (user_id);
CREATE INDEX idx_users_cognito_user_id ON public.users USING btree (cognito_user_id);
CREATE INDEX idx_users_created_at ON public.users USING btree (created_at DESC);
CREATE INDEX idx_users_email ON public.users USING btree (email);
CREATE INDEX idx_users_status ON public.users USING btree (status);

CREATE TRIGGER trigger_update_conversation_on_message AFTER INSERT ON public.messages FOR EACH ROW EXECUTE FUNCTION public.update_conversation_on_message();
CREATE TRIGGER update_ai_agents_updated_at BEFORE UPDATE ON public.ai_agents FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_conversations_updated_at BEFORE UPDATE ON public.conversations FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_user_service_configs_updated_at BEFORE UPDATE ON public.user_service_configs FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
CREATE TRIGGER update_users_updated_at BEFORE UPDATE ON public.users FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();

ALTER TABLE ONLY public.ai_agent_services
    ADD CONSTRAINT ai_agent_services_ai_agent_id_fkey FOREIGN KEY (ai_agent_id) REFERENCES public.ai_agents(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.ai_agents
    ADD CONSTRAINT ai_agents_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.ai_chat_sessions
    ADD CONSTRAINT ai_chat_sessions_ai_agent_id_fkey FOREIGN KEY (ai_agent_id) REFERENCES public.ai_agents(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.ai_chat_sessions
    ADD CONSTRAINT ai_chat_sessions_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES public.conversations(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.ai_chat_sessions
    ADD CONSTRAINT ai_chat_sessions_message_id_fkey FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.ai_chat_sessions
    ADD CONSTRAINT ai_chat_sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.ai_tool_usage
    ADD CONSTRAINT ai_tool_usage_message_id_fkey FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.ai_tool_usage
    ADD CONSTRAINT ai_tool_usage_session_id_fkey FOREIGN KEY (session_id) REFERENCES public.ai_chat_sessions(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.conversations
    ADD CONSTRAINT conversations_ai_agent_id_fkey FOREIGN KEY (ai_agent_id) REFERENCES public.ai_agents(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.conversations
    ADD CONSTRAINT conversations_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.messages
    ADD CONSTRAINT fk_messages_ai_session FOREIGN KEY (ai_session_id) REFERENCES public.ai_chat_sessions(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES public.conversations(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.user_service_configs
    ADD CONSTRAINT user_service_configs_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
