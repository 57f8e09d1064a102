"""An RDS snapshot, completed before anything is deleted."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from launcher.errors import AwsError, ConfigurationError, TransientAwsError
from launcher.machine.signals import Interrupts
from launcher.models import Clock, RdsSnapshot, Stack

if TYPE_CHECKING:
    from mypy_boto3_rds.type_defs import DBInstanceTypeDef

    from launcher.aws.client import Aws

_POLL = 10.0
_PATIENCE = 2 * 3600.0


_GIVEN = ("--db-instance", "NEURAKNOT_DB_INSTANCE")


def require_instance(stack: Stack, aws: Aws) -> DBInstanceTypeDef:
    """Return RDS's description of the instance that holds the database to migrate.

    Args:
        stack: the stack of the database. An instance named by the caller is trusted: the host may be an alias of it.
        aws: for the stack's region; only read from.

    Raises:
        ConfigurationError: RDS has no such instance, or its address is not the database's host.
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
    return described


def take_rds_snapshot(
    stack: Stack,
    aws: Aws,
    clock: Clock,
    interrupts: Interrupts,
    seen: Callable[[RdsSnapshot], None],
    status: Callable[[str], None],
) -> RdsSnapshot:
    """Make a snapshot of the stack's database and wait until it can be restored.

    RDS continues with it even if the launcher ends, so `seen` gets its name as soon as it has begun.

    Args:
        stack: the stack of the database.
        aws: for the stack's region.
        clock: the time.
        interrupts: gets the message about the snapshot in case of an interrupt.
        seen: called with the snapshot once it has begun, and when it is available or has failed.
        status: called with the progress.

    Raises:
        ConfigurationError: RDS has no such instance, it is another database's, or the snapshot failed or takes hours.
        AwsError: AWS refused a call.
    """
    described, region, begun = require_instance(stack, aws), stack.region.value, clock.now()
    instance = described["DBInstanceIdentifier"]
    name = f"{instance}-before-{datetime.fromtimestamp(begun, UTC):%Y%m%d-%H%M%S}"
    snapshot = RdsSnapshot(name, _restore(described, name, region))
    which = ("--db-snapshot-identifier", name, "--region", region)
    look = f"Look with: {shlex.join(('aws', 'rds', 'describe-db-snapshots', *which))}"
    # RDS can't delete a snapshot that is still being created.
    unwanted = f"Not wanted? Once it is available: {shlex.join(('aws', 'rds', 'delete-db-snapshot', *which))}"
    interrupts.hint = unwanted
    interrupts.fate = f"no task was started, but the snapshot {name} may have been begun"
    try:
        aws.create_db_snapshot(instance, name, {"environment": stack.environment, "made-by": "launcher"})
    except AwsError as error:  # a try whose response was lost may have created it
        lost = isinstance(error, TransientAwsError) or error.code == "DBSnapshotAlreadyExists"
        if not lost or aws.db_snapshot(name) is None:
            raise
    interrupts.fate = f"no task was started, but the snapshot {name} goes on"
    seen(snapshot)
    while True:
        try:
            found = aws.db_snapshot(name)
        except TransientAwsError:
            found = None
        state, waited = found.get("Status", "") if found else "", clock.now() - begun
        if state in ("available", "failed"):
            break
        if waited > _PATIENCE:
            seen_last = f"{state}, and goes on" if state else "not there"
            raise ConfigurationError(
                f"The snapshot {name} is {seen_last}, after {waited:.0f} s. No data changed.",
                hint=unwanted,
                details=(look,),
            )
        status(f"{name}: {(found or {}).get('PercentProgress', 0)} %")
        clock.sleep(_POLL)
    interrupts.hint = interrupts.fate = None
    snapshot = replace(snapshot, status=state)
    seen(snapshot)
    if state == "failed":
        raise ConfigurationError(f"The snapshot {name} failed after {waited:.0f} s. No data changed.", hint=look)
    return snapshot


def _restore(instance: DBInstanceTypeDef, snapshot: str, region: str) -> str:
    """Return the command that restores the snapshot to an instance like this: RDS's defaults use another network."""
    values: dict[str, list[str | None]] = {
        "--db-instance-identifier": [f"{instance['DBInstanceIdentifier']}-restored"],
        "--db-snapshot-identifier": [snapshot],
        "--db-instance-class": [instance.get("DBInstanceClass")],
        "--db-subnet-group-name": [instance.get("DBSubnetGroup", {}).get("DBSubnetGroupName")],
        "--vpc-security-group-ids": [each.get("VpcSecurityGroupId") for each in instance.get("VpcSecurityGroups", [])],
        "--db-parameter-group-name": [
            each.get("DBParameterGroupName") for each in instance.get("DBParameterGroups", [])
        ],
        "--region": [region],
    }
    switches = {"multi-az": instance.get("MultiAZ"), "publicly-accessible": instance.get("PubliclyAccessible")}
    words = ["aws", "rds", "restore-db-instance-from-db-snapshot"]
    for option, several in values.items():
        known = [value for value in several if value]
        words += [option, *known] if known else []
    words += [f"--{'' if on else 'no-'}{switch}" for switch, on in switches.items() if on is not None]
    return shlex.join(words)
