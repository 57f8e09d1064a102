"""The log group of the migration tasks, created if it is missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from launcher.errors import AwsError, TransientAwsError
from launcher.models import Clock, Stack

if TYPE_CHECKING:
    from launcher.aws.client import Aws

LOG_DAYS = 7
_PAUSES = (1.0, 2.0, 4.0)  # seconds, while another caller creates it


def make_log_group(stack: Stack, aws: Aws, clock: Clock, notice: Callable[[str], None]) -> str:
    """Create the stack's log group and set its retention to `LOG_DAYS`.

    Args:
        stack: whose log group.
        aws: for the stack's region.
        clock: the time.
        notice: called if the retention can't be set, which does not stop the migration.

    Returns:
        The outcome in a few words. A group that another caller created meanwhile is left as it is.

    Raises:
        AwsError: AWS refused to create it.
    """
    name = stack.log_group
    if not _create(name, aws, clock):
        return f"{name} is there"
    try:
        aws.put_retention(name, days=LOG_DAYS)
    except AwsError as error:
        where = ("--log-group-name", name, "--retention-in-days", str(LOG_DAYS), "--region", stack.region.value)
        notice(f"{error.message} So the log is kept for ever, until somebody runs:")
        notice(shlex.join(("aws", "logs", "put-retention-policy", *where)))
        return f"{name} made"
    return f"{name} made, kept {LOG_DAYS} days"


def _create(name: str, aws: Aws, clock: Clock) -> bool:
    pauses, lost = iter(_PAUSES), False
    while True:
        try:
            return aws.create_log_group(name) or lost  # created by the try whose response was lost
        except AwsError as error:
            pause = next(pauses, None)
            lost = lost or isinstance(error, TransientAwsError)
            if pause is None or not (isinstance(error, TransientAwsError) or error.code == "OperationAbortedException"):
                raise
        clock.sleep(pause)
