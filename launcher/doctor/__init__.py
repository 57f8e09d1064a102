"""Everything that can be known to be wrong before a task is started, and the least IAM policy.

examination        what is examined: from options and Terraform, however little of them can be read
facts              what AWS says of it, each looked up once
checks             credentials, Terraform, the cluster, roles, the database, the image, the log: a function each
network            the way to the database, and the way out to AWS
report             the checks, asked in parallel, told as a tree; a `Finding` is OK, NG or SKIP
least_policy       the least that the launcher's caller must be allowed, and what a role lacks of it
policy_resources   the resources that such a policy names

What can't be known is SKIP with the reason, and never NG. Nothing is changed.
"""

from launcher.doctor.examination import examine
from launcher.doctor.report import Finding, Report, Status, lines

__all__ = ["Finding", "Report", "Status", "examine", "lines"]
