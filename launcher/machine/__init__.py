"""This machine: programs, signals, untrusted files and secrets.

process          starts programs: `docker`, `terraform`, `git`, `neuraknot-db`
signals          Ctrl-C, SIGTERM and SIGHUP: before there is a task they end the launcher, then the first ends the task
untrusted_text   untrusted logs, states and settings: read, or reported as unreadable
redaction        removes passwords and tokens from output: known ones in any spelling, others by the words before them
spelling         what somebody may have meant by a word that is not known
wrapping         breaks sentences into the lines of a terminal

A program's output, a file or a signal comes in; text that is safe to print, or an error with a hint, comes out.
`cli.console` passes all that it prints through `redaction`.

Nothing here knows of AWS: whether a program or a task is to be stopped is decided above.
"""
