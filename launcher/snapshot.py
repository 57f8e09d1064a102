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


_GIVEN = ("--db-instance", "NEURAKNOT_DB_INSTANCE")


def require_instance(stack: Stack, aws: Aws) -> str:
    """The RDS instance whose snapshot would be one of the database that is migrated.

    Args:
        stack: whose database. An instance that the caller named is believed: the host may be another name of it.
        aws: for the stack's region; it is only read from.

    Raises:
        ConfigurationError: RDS has no such instance, or it is another database.
        AwsError: AWS refused the call.
    """
    instance, host = stack.db_instance, stack.db_host
    described = aws.db_instance(instance.value) if instance else None
    if instance is None or described is None:
        raise ConfigurationError(
            f"RDS has no instance {instance.value if instance else host.value} to make a snapshot of."
            " Nothing was changed.",
            hint="Name it with --db-instance, or do without a snapshot: --no-snapshot",
        )
    address = described.get("Endpoint", {}).get("Address", "an address that is not known yet")
    if instance.source not in _GIVEN and address.lower() != host.value.lower():
        raise ConfigurationError(
            f"The database is at {host.value} ({host.source}), but the RDS instance {instance.value} is at {address}:"
            " a snapshot of it would be one of another database. Nothing was changed.",
            hint=f"Name the database's own instance with --db-instance, or, if it is this one: --db-instance"
            f" {instance.value}. To do without a snapshot: --no-snapshot",
        )
    return instance.value


def take_snapshot(stack: Stack, aws: Aws, clock: Clock, status: Callable[[str], None]) -> Snapshot:
    """Make a snapshot of the stack's database and wait until it can be restored.

    Args:
        stack: whose database.
        aws: for the stack's region.
        clock: the time.
        status: told how far it is.

    Raises:
        ConfigurationError: RDS has no such instance, or of another database, or the snapshot failed or takes hours.
        AwsError: AWS refused a call.
    """
    instance, region = require_instance(stack, aws), stack.region.value
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
