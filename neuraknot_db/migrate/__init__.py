"""Apply revisions and take them back, safely.

Upgrade, downgrade, stamp and reset go the same way:

command       what was asked for, as a value: from Alembic's own command, or one of ours
preflight     what stands in the database, what would run, and whether that is admitted: gives a `Ready`, or refuses;
              with guards (what must not be done), edits (was an applied revision changed?) and x_options (`-x`)
run           the lock, the questions and the steps in between; what is known in the end is in an `Outcome`
apply         the walk through the steps, a `StepRun` each: one transaction, timed, told, recorded
retry         a lock that was not had in time: roll back, pause, again; with lock_budget (how long a statement may wait)
              and blockers (who held it)
autocommit    a step that can't be in a transaction: repaired first, watched while it takes long
record        the run's rows in the log, and what of it landed: asked of the database anew, never concluded
failures      what ended a step, in words: what became of its work, and where the database is
postflight    did it really happen, and does the database hold what it should?

Beside that way:

reset         drop and recreate the schema public, then the same walk within one transaction; with cascade (what the
              drop would take besides), privileges (owner and grants, put back) and confirmation (a name, typed again)
adopt         recognise the schema of a database that was never versioned, and stamp it
offline       revisions without a database: `--sql`
outcome       what a run did, filled in as it goes: read by `cli`, which makes the last line of it

In come an Alembic environment, a `Command` and the database's settings. Whatever can refuse refuses before anything is
changed; after any failure around a COMMIT, `record` opens a new connection and looks.
"""
