"""What pending revisions would do to this database now. Nothing of it is changed.

The input is a connection, the revisions and a target; the output is a `Plan`, a value that `render` shows to people
and that converts itself to JSON.

make       the steps of planning: where the database is, what is pending, each revision's statements, and who blocks
rollback   which run is to be taken back, by the log
refusals   would a run be refused? Runs the same preflight as a run, before anything is run
ownership  which statements the server may refuse for want of a right: a note, no refusal
backfill   how many rows a pending backfill has before it, and about how long they take
survey     live facts about tables in use: their sizes, their partitions, who holds locks on them
values     `Plan`, `PlannedRevision`, `PlannedStatement`, `PlannedBackfill`: what was found, and its JSON
render     a plan for people, fitted to a terminal; markdown: for a page of GitHub

What a statement locks, rewrites or drops was measured when the revision was written (`schema.effects`); here it is
joined with live sizes, partitions and sessions. What was measured on another schema is reported as not known.
"""
