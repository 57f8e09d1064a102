"""From what was asked for to a task that has ended: survey, plan, execute.

survey         what AWS holds now of everything that a run would change; it only reads
plan           what will be done, as a value: pure functions to a `Plan`
guards         what stands between a caller and a reset of production, or a second task
execute        the one sequence that changes anything: image, log group, task definition, snapshot, task
rds_snapshot   a snapshot of the database, made and awaited before anything is deleted
lint           what the linter says of the pending revisions, on the caller's machine

In come a `Stack` and a `Request`, out comes a `TaskResult`. What is learned on the way stands in a `Launch`, so that
a run that fails can still tell how far it got.
"""
