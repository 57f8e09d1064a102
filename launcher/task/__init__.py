"""One ECS task: start it, watch it, follow its log, stop it, and judge it.

find           the tasks of a family, alive and ended, as ECS describes them
start          RunTask: start one task only, even if responses are lost
watch          poll every second until the task ends, read its log meanwhile, stop it on timeout or a signal
logs           a log stream, followed from its head to its last line
log_group      the tasks' log group, created if it is missing
verdict        the verdict on an ended task, from exit code, report and log
causes         what ECS's messages about a task mean, and what to do about them
command_line   what a container's command does to the database, parsed as Alembic parses it

Requests and a clock go in, a `TaskResult` comes out. A missing exit code is never a success, and an outcome
that can't be known is reported as not known.
"""
