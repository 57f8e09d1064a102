"""New agents use gpt-4.1, and any model may be named.

chk_model goes: models come and go faster than revisions, so the application alone says which there are.

Revision ID: 004
Revises: 003
Create Date: 2025-11-02
"""

from alembic import op

revision = "004"
down_revision = "003"
branch_labels = None
depends_on = None

LISTED_MODELS = """
        'gpt-4o', 'gpt-4o-mini', 'gpt-4-turbo', 'gpt-4', 'gpt-3.5-turbo',
        'claude-3-5-sonnet-20241022', 'claude-3.5-sonnet', 'claude-3-opus-20240229',
        'claude-3-sonnet-20240229', 'claude-3-haiku-20240307',
        'gemini-pro', 'gemini-1.5-pro', 'gemini-1.5-flash'
    """

# What the downgrade takes away: a noun phrase that follows a number, and the query that counts. No value is lost,
# but an agent that the check does not list can't be updated any more, and so gets no messages.
losses = {
    "rows of ai_agents stay, but can't be updated any more: chk_model does not list their model": (
        f"SELECT count(*) FROM public.ai_agents WHERE model NOT IN ({LISTED_MODELS})"
    ),
}


def upgrade() -> None:
    op.execute("""
ALTER TABLE public.ai_agents
    ALTER COLUMN model SET DEFAULT 'gpt-4.1',
    DROP CONSTRAINT chk_model;

COMMENT ON COLUMN public.ai_agents.model IS
    '提供元でのモデル名。使えるものはアプリケーションが定める';
""")


def downgrade() -> None:
    # Rows may hold models that the check does not list, and stay as they are: NOT VALID binds new and changed
    # rows only, and no VALIDATE follows.
    op.execute(f"""
ALTER TABLE public.ai_agents
    ALTER COLUMN model SET DEFAULT 'gpt-4o',
    ADD CONSTRAINT chk_model CHECK (model IN ({LISTED_MODELS})) NOT VALID;

COMMENT ON COLUMN public.ai_agents.model IS
    '提供元でのモデル名。使えるものは chk_model が定める';
""")
