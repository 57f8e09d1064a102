"""Apply revisions and take them back, safely.

Upgrade, downgrade and stamp go through these, and so does reset within its own transaction:

command       what was asked for, as a value: from Alembic's own command, or one of ours
preflight     what the database holds, what would run, and whether that is allowed: returns a `Ready`, or refuses;
              with guards (what must not be done), confirmation (a name, typed again), edits (was an applied revision
              changed?) and x_options (`-x`)
run           the lock, the confirmations and the steps; it fills in an `Outcome`
apply         runs the steps, a `StepRun` each: one transaction, timed, logged, recorded
heads         what alembic_version holds after some steps
retry         after a lock timeout: roll back, pause, try again; with lock_budget (how long a statement may wait)
              and blockers (which sessions held the lock)
autocommit    a step that can't run in a transaction: repaired first, with its progress logged
backfill      a backfill's rows in batches, each a transaction with its position
conditions    a revision's `expects`, `ensures` and `losses`: asked in a transaction, where nothing of it stays
record        the run's rows in the log, and which of them were committed: always read from the database, never inferred
failures      the error for a failed step: what became of its work, and where the database is; with causes (what the
              database knows about the reason)
postflight    was it really committed, and does the database hold what it should?

Beside these:

reset         drop and recreate the schema public, then the same steps within one transaction; with cascade (what else
              the drop would take) and privileges (owner and grants, restored)
adopt         recognise the schema of a database that was never versioned, and stamp it
mark          change the environment marker
schema_reading reports who locks a table while a command reads the schema
offline       revisions without a database: `--sql`, whose script is as careful as a run
outcome       what a run did, filled in as it goes: `cli` prints it as the last line

The input is an Alembic environment, a `Command` and the database's settings. Every check that can refuse runs before
anything is changed; after any failure around a COMMIT, `record` looks for the run's row, on a new
connection if the session is lost.
"""
