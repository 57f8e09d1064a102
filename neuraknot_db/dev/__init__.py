"""What only a checkout needs. It is in the wheel, and `.dockerignore` keeps it out of the image.

lint/       unsafe statements in revisions: squawk's rules and our own, a module each in `rules/`
diagram/    the schema as a picture (SVG) or as Mermaid text, from the newest snapshot
measure     what each statement of a revision does to the relations that were there before it: run on a scratch
            database, and seen in `pg_locks`, file nodes and row counts; the result is a value of `schema.effects`
samples     the rows it is measured on: those of `alembic/snapshots/rows.sql`, and generated ones for tables without
sent_sql    the SQL that a revision sends, found out without a database, and where each text stands in its file
devserver/  an embedded PostgreSQL for development: no installation, no root, no Docker

`neuraknot-db lint`, `snapshot`, `diagram` and `serve` come in from `cli.commands`; nothing below imports this room.
"""
