"""Options, commands, progress, `--json` and GitHub's page.

main             the command line: each command with its options calls one function
shared_options   the options that commands share, the source of each value, and errors as messages and exit codes
run_options      how to run a task: the options of `ecs-migrate` and `ecs-run`
pairs            options that exclude each other
commands         `ecs-migrate`, `ecs-run` and `doctor`: plan, confirm if required, execute, report
task_commands    `status`, `logs` and `stop`: for tasks that were started before
iam_policy       `iam-policy`: the least policy, and what the CI role lacks of it
rehearse         `rehearse`: the same pipeline, with the double in `rehearsal` instead of AWS
dependencies     the interfaces to the outside: AWS, programs, the clock, signals; tests pass their own
console          progress for users on a terminal, in a pipe and in GitHub Actions
report           a plan and an outcome: as lines, as one JSON object, as Markdown
streams          standard output and error that survive a lost reader and any character

A command gets a `Common` (options, dependencies, console) and returns an exit code.
"""
