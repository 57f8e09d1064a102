"""Avatars for users, an optional persona for agents.

users.avatar_url is new; ai_agents.persona_type may be NULL, and is '' (none) by default. Nothing is rewritten or
scanned: each statement changes the catalogs only.

Revision ID: 003
Revises: 002
Create Date: 2025-11-02
"""

from alembic import op

revision = "003"
down_revision = "002"
branch_labels = None
depends_on = None

# What the downgrade destroys: a noun phrase that follows a number, and the query that counts.
losses = {
    "values of users.avatar_url": "SELECT count(*) FROM public.users WHERE avatar_url IS NOT NULL",
    "NULLs in ai_agents.persona_type: they become ''": (
        "SELECT count(*) FROM public.ai_agents WHERE persona_type IS NULL"
    ),
}


def upgrade() -> None:
    # Two tables are locked, so the order matters. An insert into ai_agents locks that first and then users, for
    # its foreign key: in the same order there is no deadlock. And users, which each request reads, is held for
    # the shorter time.
    op.execute("""
ALTER TABLE public.ai_agents
    ALTER COLUMN persona_type DROP NOT NULL,
    ALTER COLUMN persona_type SET DEFAULT '';

COMMENT ON COLUMN public.ai_agents.persona_type IS
    '性格づけ: 空文字/NULL = なし、assistant = 標準、creative = 発想、analytical = 分析、concise = 簡潔';
""")
    op.execute("""
ALTER TABLE public.users ADD COLUMN avatar_url text;

COMMENT ON COLUMN public.users.avatar_url IS
    'プロフィール画像の URL。NULL なら既定の画像を表示する';
""")


def downgrade() -> None:
    # The first statement takes the lock that the last one needs: no NULL comes in between. After 004's downgrade
    # chk_model is NOT VALID; rows that it does not list may stand there, but not be updated, unless it steps aside.
    # The trigger steps aside too: it would overwrite when each agent's owner changed it last.
    op.execute("""
ALTER TABLE public.ai_agents ALTER COLUMN persona_type SET DEFAULT 'assistant';

DO $$
DECLARE
    not_valid boolean := EXISTS (
        SELECT FROM pg_catalog.pg_constraint
        WHERE conrelid = 'public.ai_agents'::pg_catalog.regclass AND conname = 'chk_model' AND NOT convalidated
    );
BEGIN
    IF not_valid THEN
        ALTER TABLE public.ai_agents DROP CONSTRAINT chk_model;
    END IF;

    ALTER TABLE public.ai_agents DISABLE TRIGGER update_ai_agents_updated_at;
    UPDATE public.ai_agents
    SET persona_type = ''
    WHERE persona_type IS NULL;
    ALTER TABLE public.ai_agents ENABLE TRIGGER update_ai_agents_updated_at;

    IF not_valid THEN
        ALTER TABLE public.ai_agents
            ADD CONSTRAINT chk_model CHECK (model IN (
                'gpt-4o', 'gpt-4o-mini', 'gpt-4-turbo', 'gpt-4', 'gpt-3.5-turbo',
                'claude-3-5-sonnet-20241022', 'claude-3.5-sonnet', 'claude-3-opus-20240229',
                'claude-3-sonnet-20240229', 'claude-3-haiku-20240307',
                'gemini-pro', 'gemini-1.5-pro', 'gemini-1.5-flash'
            )) NOT VALID;
    END IF;
END
$$;

ALTER TABLE public.ai_agents ALTER COLUMN persona_type SET NOT NULL;

COMMENT ON COLUMN public.ai_agents.persona_type IS
    '性格づけ: 空文字 = なし、assistant = 標準、creative = 発想重視、analytical = 分析重視、concise = 簡潔';
""")
    op.execute("""
ALTER TABLE public.users DROP COLUMN avatar_url
""")
