"""A Terraform root's outputs.

outputs   from `terraform output -json`, from a state file, or from a state in S3; and a database's password in a state
backend   where a root keeps its state: on this disk, in S3, or where only Terraform itself can read it
hcl       literal values from Terraform's own files

In come a folder and what reads an object from S3; out come `Outputs`, with where they are from. Files are strangers':
what can't be read is said, and never quoted, for it may hold a secret.
"""
