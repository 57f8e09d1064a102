"""`launcher doctor`: everything that can be known to be wrong before a task is started."""

from launcher.doctor.examination import examine
from launcher.doctor.report import Finding, Report, Status, lines

__all__ = ["Finding", "Report", "Status", "examine", "lines"]
