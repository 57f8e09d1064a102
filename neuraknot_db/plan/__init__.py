"""What pending revisions would do to this database now. It only reads, in read-only transactions.

In come a connection, the revisions and a target; out comes a `Plan`, a value that `render` shows to people and that
prints itself as JSON.

make       the way through: where the database is, what is pending, each revision's statements, and who is in the way
refusals   would a run be refused? The same preflight as a run's, asked before anything is run
survey     what the server says of tables in use: how large they are, how they hang together, who holds locks on them
values     `Plan`, `PlannedRevision`, `PlannedStatement`: what was found, and its JSON
render     a plan for people, fitted to a terminal

What a statement locks, rewrites or drops was measured when the revision was written (`schema.effects`); here that is
joined with live sizes, partitions and sessions. What was measured on another schema is said to be not known.
"""
