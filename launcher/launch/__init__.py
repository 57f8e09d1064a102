"""From a request to an ended task: survey, plan, execute.

work              what the container is asked to do: a migration, a preview, or any command
survey            the current state in AWS of everything that a run would change; read-only
task_definition   the task definition that is needed, and how it differs from the registered one
plan              what will be done, as a value: pure functions that return a `Plan`
guards            protection against an unwanted reset of production, or a second task
progress          the steps of a run, timed and shown
execute           the only sequence of a run that changes anything: RDS snapshot, image, log group, definition, task
rds_snapshot      a snapshot of the database, completed before anything is deleted
lint              lint of the pending revisions, on the caller's machine

A `Stack` and a `Request` go in, a `TaskResult` comes out. A `Launch` collects what is learned on the way, so that a
failed run can still report how far it got.
"""
