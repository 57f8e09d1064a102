"""A live schema as values: read, compared, kept as a snapshot, recognised.

catalog       reads PostgreSQL's catalogs into a `Schema`: tables, columns, constraints, indexes, functions, triggers;
              the same on PostgreSQL 15 to 18
snapshots     `alembic/snapshots/00N.json`: the schema after each revision, as a `Schema` again
compare       where two schemas differ, a `Difference` each
equivalence   checks that are the same in other words, such as pg_dump and restore write them
verify        does the live database hold what its revision should? Gives a `Report`
effects       `alembic/snapshots/00N.effects.json`: what a revision's statements do to relations, as it was measured

In comes a connection (its transaction is the caller's), or a file; out come values. Nothing here changes a database.
"""
