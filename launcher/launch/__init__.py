"""From a request to an ended task: survey, plan, execute.

survey         the current state in AWS of everything that a run would change; read-only
plan           what will be done, as a value: pure functions that return a `Plan`
guards         protection against an unwanted reset of production, or a second task
execute        the only sequence that changes anything: image, log group, task definition, snapshot, task
rds_snapshot   a snapshot of the database, completed before anything is deleted
lint           lint of the pending revisions, on the caller's machine

A `Stack` and a `Request` go in, a `TaskResult` comes out. A `Launch` collects what is learned on the way, so that a
failed run can still report how far it got.
"""
