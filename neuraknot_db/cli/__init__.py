"""Parse a command line, call one function, print; the only place where an error becomes a message and an exit code.

The input is `neuraknot-db ARGS` (`main`) and, for the plain `alembic` script, the loading of `alembic/env.py` (`env`).
The output is lines for a person on standard error, data on standard output, and the process's exit code.

main               the command line: Alembic's own, with this project's commands, and the help
usage              a command line that can't be read, told like every other error
commands           each of this project's commands: a function with its options, and what it prints
env                called by `alembic/env.py`: tells commands that change a database from those that read or print SQL
chosen_database    the database that the environment names; else the embedded one, started
console            errors to messages and exit codes, logging to standard error, the JSON for the launcher
wrapping           breaks sentences into the lines of a terminal
streams            standard output and error: remove secrets and control characters, survive a closed reader

A command imports what few others need when it is called. In the image, which lacks `dev`, commands that need it end
with exit code 2.
"""
