"""What a revision's file says of itself, read without a database.

files          all files, read before anything runs, and refused where they make no sense or a database is elsewhere
options        its module variables: timeouts, `transactional`, `losses`; and what it may not send
checksum       SHA-256 of what it does, whatever its comments and white space
syntax         its syntax tree: what its functions use, what they send, what they amount to
concurrently   statements that can't be in a transaction, read by their words
containment    around its code, which is a stranger's: whatever it raises has failed the revision, and ends nothing else

In come Alembic's `ScriptDirectory`, a step or a file's bytes. Nothing of a revision is run here but what Alembic runs
when it loads a file, and, within `containment`, what `migrate` or `dev` run themselves.
"""
