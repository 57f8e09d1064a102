"""Terraform's outputs, the running service and options, combined into one `Stack` with the source of each value.

options    the values given by the caller, each with its option or variable
forms      what names and IDs in AWS look like, which is known without asking
names      every name derived from the environment's: the task's family, repository, log group, CI role
stack      options, outputs and the service combined: an option overrides an output, an output overrides a default
service    the task's network, roles and platform, taken from a running service in the same stack
host       the database's host: without its port, not a reader's, Terraform's own or another
rds        the database in RDS: an instance or a cluster, and here alone is known which of the two
password   how the container gets the database password: by reference, or as an override for one run
tls        the options for TLS to the database

Read-only. The error for a missing value names the option that sets it.
"""
