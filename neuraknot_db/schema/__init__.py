"""A live schema as values: read, compared, stored as a snapshot.

catalog       reads PostgreSQL's catalogs into a `Schema`: tables and views with their parts, functions, types, and
              whatever else the schema `public` holds; on PostgreSQL 15 to 18 the same, but for a view's text
snapshots     `alembic/snapshots/00N.json`: the schema after each revision, as a `Schema` again
compare       where two schemas differ, one `Difference` each
equivalence   checks, views and domains that are equal but spelled differently, as after pg_dump or by another server
verify        does the live database hold what its revision should? Returns a `Report`
effects       `alembic/snapshots/00N.effects.json`: the measured effects of a revision's statements on relations
queries       `alembic/queries.sql`: what the application asks, read from `pg_stat_statements`, written and read again

The input is a connection (its transaction is the caller's), or a file; the output is values. Nothing here changes a
database, but for what `equivalence` makes in the temporary schema and rolls back.
"""
