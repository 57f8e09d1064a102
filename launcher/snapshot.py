"""An RDS snapshot, made and awaited before anything is deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from launcher.errors import ConfigurationError, TransientAwsError
from launcher.models import Clock, Snapshot, Stack

if TYPE_CHECKING:
    from launcher.aws import Aws

_POLL = 10.0
_PATIENCE = 2 * 3600.0


def take_snapshot(stack: Stack, aws: Aws, clock: Clock, status: Callable[[str], None]) -> Snapshot:
    """Make a snapshot of the stack's database and wait until it can be restored.

    Args:
        stack: whose database.
        aws: for the stack's region.
        clock: the time.
        status: told how far it is.

    Raises:
        ConfigurationError: the database is not on RDS, or the snapshot failed or takes hours.
        AwsError: AWS refused a call.
    """
    if stack.db_instance is None or aws.db_instance(stack.db_instance.value) is None:
        name = stack.db_instance.value if stack.db_instance else stack.db_host.value
        raise ConfigurationError(
            f"RDS has no instance {name} to make a snapshot of. Nothing was changed.",
            hint="Name it with --db-instance, or do without a snapshot: --no-snapshot",
        )
    instance, region = stack.db_instance.value, stack.region.value
    begun = clock.now()
    name = f"{instance}-before-{datetime.fromtimestamp(begun, UTC):%Y%m%d-%H%M%S}"
    aws.create_db_snapshot(instance, name, {"environment": stack.environment, "made-by": "launcher"})
    while True:
        try:
            found = aws.db_snapshot(name)
        except TransientAwsError:
            found = None
        state = found.get("Status", "") if found else ""
        if state == "available":
            break
        if state == "failed" or clock.now() - begun > _PATIENCE:
            raise ConfigurationError(
                f"The snapshot {name} is {state or 'not there'} after {clock.now() - begun:.0f} s. No data changed.",
                hint=f"Look with: aws rds describe-db-snapshots --db-snapshot-identifier {name} --region {region}",
            )
        status(f"{name}: {(found or {}).get('PercentProgress', 0)} %")
        clock.sleep(_POLL)
    return Snapshot(
        name,
        "aws rds restore-db-instance-from-db-snapshot"
        f" --db-instance-identifier {instance}-restored --db-snapshot-identifier {name} --region {region}",
    )
