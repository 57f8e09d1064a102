"""Connect to PostgreSQL, and understand what it answers.

engine           connections: URL, TLS, keepalives, waiting for a server that is starting, what a failed login means
session          a session with this project's parameters and timeouts, whose statement a signal cancels
create           create a database, and scratch ones that go again
lock             one migration at a time for a database: an advisory lock
interrupt        SIGINT and SIGTERM end the statement that runs on the server, not only this process
state            what stands in a database now: its revision, its tables, what may be done there
other_sessions   who else is there, and what they do: asked and told in one way
diagnosis        from an exception to the error that a person can act on
raw_sql          SQL as it is written, to the server or to a script; driver lets it be looked at before it is sent
sql_text         SQL's tokens and statements, as PostgreSQL's own scanner reads them
redaction        passwords, taken out of whatever is shown or stored
display          how durations are written, how much room a text takes on a terminal

In come `Settings`, from the environment; out come SQLAlchemy connections, values, and the errors of `errors.py`.
"""
