"""Parse a command line, call one function, print: and the one place where an error becomes a message and an exit code.

In come `neuraknot-db ARGS` (`main`) and, for the plain `alembic` script, the loading of `alembic/env.py` (`env`). Out
go lines for a person on standard error, data on standard output, and the process's exit code.

main               the command line: Alembic's own, with this project's commands; the help, and what -x may stand for
commands           each of this project's commands: a function with its options, and what it prints
env                what `alembic/env.py` calls: tells commands that change a database from those that look or print SQL
chosen_database    the database that the environment names; else the embedded one, started
console            errors to messages and exit codes, narration to standard error, the JSON for the launcher
streams            standard output and error as they leave: no secret, no control character, no reader can break them

A command imports its own room when it is called, since few runs need more than one. What the image is without, `dev`,
is missed with exit code 2.
"""
