"""Options, commands, progress, `--json` and GitHub's page.

main             the command line: each command with its options, which calls one function
shared_options   the options that every command has, and where each value came from
commands         `ecs-migrate`, `ecs-run` and `doctor`: plan, ask where that is due, execute, say how it went
task_commands    `status`, `logs` and `stop`: of tasks that were started before
iam_policy       `iam-policy`: the least policy, and what the CI role lacks of it
rehearse         `rehearse`: the same pipeline, with the double of `rehearsal` in AWS's place
dependencies     what the outside is reached through: AWS, programs, the clock, signals; tests pass their own
console          progress for people on a terminal, in a pipe and in GitHub Actions
report           a plan and an outcome: as lines, as one JSON object, as Markdown
streams          standard output and error, which no reader and no character can break

A command gets a `Common` (options, dependencies, console) and returns an exit code.
"""
