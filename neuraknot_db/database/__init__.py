"""Connect to PostgreSQL, and interpret its answers.

engine           connections: URL, TLS, keepalives, waiting for a server that is starting
login            what a failed login means, from the words of libpq and the server
session          a session with our parameters (listed in parameters) and timeouts; a signal cancels its statement
create           create a database, and temporary scratch databases
lock             one migration at a time per database: an advisory lock
interrupt        SIGINT, SIGTERM and the deadline end the statement that runs on the server, not only this process
state            the present state of a database: its revision, its tables, what may be done there
other_sessions   which other sessions exist, and what they do: one query, one format
diagnosis        from an exception to an error that a person can act on; excerpt: the failed statement, without secrets
sqlstate         the SQLSTATEs that mean something here, and how to read one
raw_sql          SQL as it is written, to the server or to a script; driver lets a guard check it before it is sent
sql_text         SQL's tokens and statements, split as PostgreSQL's scanner does
redaction        removes passwords from whatever is shown or stored
display          the format of durations, hints and widths on a terminal; markdown: text, code and tables on GitHub

The input is `Settings`, from the environment; the output is SQLAlchemy connections, values, and the errors of
`errors.py`.
"""
