"""${message.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')}.

Say here why the schema changes, and what the application must do before or after it.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

% if not isinstance(down_revision, tuple):
from alembic import op
${imports if imports else ""}
% endif
revision = "${up_revision}"
down_revision = ${repr(down_revision).replace("'", '"')}
branch_labels = ${repr(branch_labels).replace("'", '"')}
depends_on = ${repr(depends_on).replace("'", '"')}
% if isinstance(down_revision, tuple):


def upgrade() -> None:
    # Joins lines of revisions: there is nothing to do.
    pass


def downgrade() -> None:
    pass
% else:

# What downgrade() loses, each with the query that counts it; it is counted and told before anything is dropped:
# losses = {"values of users.nickname": "SELECT count(*) FROM public.users WHERE nickname IS NOT NULL"}
# What must hold before upgrade(), or after it (ensures), each with the query for rows that break it:
# expects = {"every user has a nickname": "SELECT id FROM public.users WHERE nickname IS NULL"}


# Every command loads this file: outside of functions it may only assign. upgrade() runs once for each time it is
# applied, and again after a lock timeout, when what it had sent was rolled back: what it does besides SQL is not.
# Once applied it must not change. Its checksum counts it with all that it uses of this file, comments and SQL's white
# space aside; what it imports or reads from elsewhere is not counted.


def upgrade() -> None:
    # Raw SQL, sent exactly as it stands. The application keeps running meanwhile, so:
    # - touch one existing table: its lock is held until the revision ends;
    # - a check or foreign key on a table with rows: ADD CONSTRAINT ... NOT VALID here, VALIDATE CONSTRAINT in the next
    #   revision, where downgrade() has nothing to undo: write `pass`;
    # - an index on a table with rows: CREATE INDEX CONCURRENTLY IF NOT EXISTS name ON ..., on the way back
    #   DROP INDEX CONCURRENTLY IF EXISTS name, alone in a revision with `transactional = False`;
    # - a new column: nullable, or with a constant default; neither rewrites the table;
    # - many rows to change: `from neuraknot_db.revisions.backfill import Backfill` in the place of op's import, and
    #   `backfill = Backfill(table="users", set="...", where="...")` in the place of upgrade(), for short batches;
    # - a new table: with its indexes and foreign keys, as nobody uses it yet;
    # - rename or drop only what no running version of the application uses any more, and say so in alembic/lint.toml.
    op.execute("""
${upgrades if upgrades else "-- Write the SQL here: left like this, the revision fails."}
""")


def downgrade() -> None:
    # The way back, for a bad day: it must not fail on rows that the new schema allowed, and must not lose a row.
    op.execute("""
${downgrades if downgrades else "-- Write the SQL here: left like this, the revision fails."}
""")
% endif
