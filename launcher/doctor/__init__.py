"""All problems that can be found before a task is started, and the least IAM policy.

examination        what to examine: from options and Terraform, even if only some of it can be read
facts              facts from AWS, each looked up once
checks             credentials, Terraform, the cluster, roles, the database, the image, the log: a function each
network            the routes to the database and to AWS
diagnose           what a check is, and running all of them in parallel
report             what they found: a `Finding` is OK, NG, NOTE or SKIP; printed as a tree
least_policy       the least permissions that the launcher's caller needs, and which of them a role lacks
policy_resources   the resources that this policy names

What can't be known is SKIP with the reason, and never NG. Nothing is changed.
"""

from launcher.doctor.examination import examine
from launcher.doctor.report import Finding, Report, Status, lines

__all__ = ["Finding", "Report", "Status", "examine", "lines"]
