"""Terraform's outputs, the running service and options, made into one `Stack` that knows where each value came from.

options    what the caller gives, with the option or variable that each value came from
names      every name that follows from the environment's: the task's family, repository, log group, CI role
stack      all three together: an option goes before an output, and an output before a default
service    the task's network, roles and platform, taken over from a service that runs in the same stack
password   how the database's password reaches the container: by reference, or as an override of one run
tls        what the caller says of TLS to the database

It only reads. A value that is missing is an error that names the option which gives it.
"""
