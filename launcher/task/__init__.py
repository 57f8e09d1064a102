"""One ECS task: start it, watch it, follow its log, stop it, and judge it.

find           the tasks of a family, alive and ended, as ECS describes them
start          RunTask: once, whatever answers are lost
watch          look every second until it has ended, read its log meanwhile, stop it where its time is over
logs           a log stream, followed from its head to its last line
log_group      where its lines go, made where there is none
verdict        from a task at its end to the truth about how it went: exit code, the container's own report, the log
causes         what ECS's sentences about a task mean, and what to do about them
command_line   what a container's command asks of the database, read as Alembic reads it

In come requests and a clock, out comes a `TaskResult`. A missing exit code is a failure, and an outcome that nobody
can know is said to be not known.
"""
