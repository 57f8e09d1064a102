"""What a revision's file declares.

files          all files, read before anything runs; refuses invalid files, and a database at a revision without a file
targets        revisions as a person names them
options        its module variables: timeouts, `transactional`, `losses`, `expects`, `ensures`; and what it may not send
backfill       a large data change, declared in place of its upgrade()
checksum       SHA-256 of what it does, ignoring comments and white space
syntax         its syntax tree: what its functions use, what they send, what they amount to
places         the lines of its file: of what it sends, and of what failed
concurrently   statements that can't be in a transaction, recognised by their keywords
containment    wraps its code, which is not ours: any exception fails the revision, and ends nothing else

The input is Alembic's `ScriptDirectory`, a step or a file's bytes; only `containment` sees a session, whose transaction
a revision must not end. No code of a revision runs here except what Alembic runs when it loads a file, and, within
`containment`, what `migrate` or `dev` run.
"""
