"""An RDS snapshot, completed before anything is deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from launcher.environment.names import tags
from launcher.environment.rds import RdsDatabase, find_rds, other_region
from launcher.errors import AwsError, ConfigurationError, TransientAwsError
from launcher.machine.signals import Interrupts
from launcher.models import Clock, RdsSnapshot, Stack

if TYPE_CHECKING:
    from launcher.aws.client import Aws

_POLL = 10.0
_PATIENCE = 2 * 3600.0


def require_database(stack: Stack, aws: Aws) -> RdsDatabase:
    """Return the instance or cluster that holds the database to migrate.

    Args:
        stack: the stack of the database.
        aws: for the stack's region; only read from.

    Raises:
        ConfigurationError: RDS has none of that name, its address is not the database's host, or it takes no writes.
        AwsError: AWS refused the call.
    """
    named, host = stack.db_instance, stack.db_host
    found = find_rds(aws, named.value, host.value) if named else None
    if named is None or found is None:
        region = other_region(host.value, stack.region.value)
        raise ConfigurationError(
            f"RDS has no instance or cluster {named.value if named else host.value} to make a snapshot of"
            f"{f' in {stack.region.value}: the host is in {region}' if region else ''}.",
            hint=f"Name {'the right region with --region' if region else 'it with --db-instance'}, or do without a"
            " snapshot: --no-snapshot",
        )
    if found.source is not None:
        raise ConfigurationError(
            f"The RDS {found.kind} {found.name} is a read replica of {found.source}: a migration writes. Nothing was"
            " changed.",
            hint=f"Name the host of {found.source} with --db-host.",
        )
    if not found.is_at(host.value):
        address = found.hosts[0] if found.hosts else "an address that is not known yet"
        raise ConfigurationError(
            f"The database is at {host.value} ({host.source}), but the RDS {found.kind} {found.name} is at {address}:"
            " a snapshot of it would be one of another database.",
            hint=f"If it is this one: --db-host {found.hosts[0] if found.hosts else 'HOST'}; if not, name its own"
            " instance or cluster with --db-instance. To do without a snapshot: --no-snapshot",
        )
    return found


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
        ConfigurationError: RDS has no such database, it is another one, or the snapshot failed or takes hours.
        AwsError: AWS refused a call.
    """
    database, region, begun = require_database(stack, aws), stack.region.value, clock.now()
    name = database.snapshot_name(begun)
    snapshot = RdsSnapshot(name, database.restoring(name, aws, region))
    look = f"Look with: {database.snapshot_command('describe', name, region)}"
    # RDS can't delete a snapshot that is still being created.
    unwanted = f"Not wanted? Once it is available: {database.snapshot_command('delete', name, region)}"
    before = interrupts.fate
    interrupts.hint = unwanted
    interrupts.fate = f"{before or 'no task was started'}, but the snapshot {name} may have been begun"
    try:
        database.take_snapshot(aws, name, tags(stack.environment))
    except AwsError as error:  # a try whose response was lost may have created it
        lost = isinstance(error, TransientAwsError) or "SnapshotAlreadyExists" in (error.code or "")
        if not lost or database.find_snapshot(aws, name) is None:
            raise
    interrupts.fate = f"{before or 'no task was started'}, but the snapshot {name} goes on"
    seen(snapshot)
    while True:
        try:
            found = database.find_snapshot(aws, name)
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
    interrupts.hint, interrupts.fate = None, before
    snapshot = replace(snapshot, status=state)
    seen(snapshot)
    if state == "failed":
        raise ConfigurationError(f"The snapshot {name} failed after {waited:.0f} s. No data changed.", hint=look)
    return snapshot
