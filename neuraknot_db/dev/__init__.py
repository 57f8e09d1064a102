"""What only a checkout needs, and the image does not have.

measure   what each statement of a revision does to relations, on a scratch database with sample rows
samples   the rows: those of `alembic/snapshots/rows.sql`, and generated ones for tables without
"""
