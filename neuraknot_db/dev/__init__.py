"""What only a checkout needs. It is in the wheel, but `.dockerignore` keeps it out of the image.

lint/       unsafe statements in revisions: squawk's rules and our own, one module each in `rules/`
diagram/    the schema as a picture (SVG) or as Mermaid text, from the newest snapshot
tables      the schema as `docs/tables.md`, with the comments that a snapshot leaves out
ddl         the schema as `alembic/schema.sql`: what pg_dump says, made stable
definitions the server's definitions of keys and indexes taken apart, for these two
measure     what each revision does to relations that existed before it: runs it on a scratch database, statement by
            statement; the result is a value of `schema.effects`
together    whether the revisions work in one transaction, as a reset runs them
observe     what one statement did, read from `pg_locks`, file nodes and row counts
branches    which statements of a DO block or a function were run, and which were left out
holders     what a statement outside of a transaction waits for: sessions that hold the tables
samples     the rows to run revisions with: from `alembic/snapshots/rows.sql`, and generated ones
roundtrip/  revisions tried up, back and up again with rows in every table
generate    the files of `alembic/snapshots/`, `alembic/schema.sql`, `docs/tables.md` and the pictures, from scratch
            databases
sent_sql    the SQL that a revision sends, found without a database, and the position of each text in its file
compat      which of the application's queries a revision breaks: prepared before and after it
scratch     Alembic's own commands on a scratch database, without what they tell
own_servers servers of this machine's own: where revisions are tried, whatever database the environment names
main_branch which revisions are new since the main branch, and which files it has
renumber    move a revision behind another branch's
devserver/  an embedded PostgreSQL for development: no installation, no root, no Docker

`cli.commands` calls it for `neuraknot-db lint`, `snapshot`, `test`, `compat check`, `renumber`, `diagram` and `serve`,
and `cli.chosen_database` where no database is named; no lower room imports this one.
"""
