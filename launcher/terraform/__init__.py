"""What a Terraform root knows: its outputs, where its state is, and the database password.

outputs   from `terraform output -json`; without the program from a state file or a state in S3, if it is certain which
secrets   the database password in `secrets.tfvars`, which is no output
backend   where a root keeps its state: on this disk, in S3, or where only Terraform itself can read it
hcl       literal values from Terraform's own files

A folder and a reader for S3 go in; `Outputs` with their origin come out. Files are untrusted: the error for an
unreadable file never quotes it, as it may contain a secret.
"""
