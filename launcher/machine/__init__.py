"""This machine: programs, signals, files of strangers, and what must not be shown.

process          starts programs: `docker`, `terraform`, `git`
signals          Ctrl-C, SIGTERM and SIGHUP: before there is a task they end the launcher, then the first ends the task
untrusted_text   logs, states and settings, which strangers wrote: they are read, or they are unreadable
redaction        passwords and tokens, taken out of whatever is shown, however they are spelled

Nothing here knows of AWS or of a migration.
"""
