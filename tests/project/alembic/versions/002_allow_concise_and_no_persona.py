"""Agents without a persona, and concise ones.

persona_type also allows '' (none) and 'concise'. The check's old list is part of the new one: no row can fail it.

Revision ID: 002
Revises: 001
Create Date: 2025-10-28
"""

from alembic import op

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None

# What the downgrade destroys: a noun phrase that follows a number, and the query that counts.
losses = {
    "values '' or 'concise' of ai_agents.persona_type: they become 'assistant'": (
        "SELECT count(*) FROM public.ai_agents WHERE persona_type IN ('', 'concise')"
    ),
}


def upgrade() -> None:
    # The scan is a statement of its own, and happens under the first one's lock, since both run in one
    # transaction: milliseconds, as ai_agents holds a few rows a user.
    op.execute("""
ALTER TABLE public.ai_agents
    DROP CONSTRAINT chk_persona_type,
    ADD CONSTRAINT chk_persona_type
        CHECK (persona_type IN ('', 'assistant', 'creative', 'analytical', 'concise')) NOT VALID;

ALTER TABLE public.ai_agents VALIDATE CONSTRAINT chk_persona_type;

COMMENT ON COLUMN public.ai_agents.persona_type IS
    '性格づけ: 空文字 = なし、assistant = 標準、creative = 発想重視、analytical = 分析重視、concise = 簡潔';
""")


def downgrade() -> None:
    # The table is locked first: nobody adds a row of the new kinds between the UPDATE and the check. After 004's
    # downgrade chk_model is NOT VALID; rows that it does not list may stand there, but not be updated, unless it
    # steps aside. The trigger steps aside too: it would overwrite when each agent's owner changed it last.
    op.execute("""
ALTER TABLE public.ai_agents DROP CONSTRAINT chk_persona_type;

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
    SET persona_type = 'assistant'
    WHERE persona_type IN ('', 'concise');
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

ALTER TABLE public.ai_agents
    ADD CONSTRAINT chk_persona_type
        CHECK (persona_type IN ('assistant', 'creative', 'analytical')) NOT VALID;

ALTER TABLE public.ai_agents VALIDATE CONSTRAINT chk_persona_type;

COMMENT ON COLUMN public.ai_agents.persona_type IS
    '性格づけ: assistant = 標準、creative = 発想重視、analytical = 分析重視';
""")
