"""The database in RDS, an instance or a cluster (Aurora or Multi-AZ): here alone is known which of the two it is."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from launcher.errors import AccessDeniedError

if TYPE_CHECKING:
    from launcher.aws.client import Aws

Kind = Literal["instance", "cluster"]
Service = Literal["serving", "disturbed", "out", "unknown"]

# How long a name may be; it has no hyphen at its end, and no two in a row.
_INSTANCE, _MULTI_AZ_CLUSTER = 63, 52
_SNAPSHOT: Mapping[Kind, int] = {"instance": 255, "cluster": 63}

# By AWS's pages of the statuses of instances and of clusters.
_SERVING = {
    "available",
    "backing-up",
    "configuring-enhanced-monitoring",
    "configuring-iam-database-auth",
    "configuring-log-exports",
    "storage-initialization",
    "storage-optimization",
    "update-iam-db-auth",
}
# It may be restarted, or its master's password changed, on the way to `available`.
_DISTURBED = {"maintenance", "modifying", "resetting-master-credentials", "storage-config-upgrade", "upgrading"}
_COMING = {"creating", "failing-over", "migrating", "promoting", "rebooting", "renaming", "starting"}
_STARTED = {"stopped", "stopping", "inaccessible-encryption-credentials-recoverable"}
_LOST = re.compile(
    r"(?:cloning-|migration-)?failed|delet(?:e-precheck|ing)|inaccessible-encryption-credentials|incompatible-[a-z-]+"
    r"|insufficient-capacity|restore-error"
)

# In China the region stands behind `rds`. The endpoints of proxies, custom and global ones name no instance or cluster.
_HOST = re.compile(
    r"(?P<name>[a-z][a-z0-9-]*)\.(?P<cluster>cluster-(?P<reader>ro-)?)?[a-z0-9]+\."
    r"(?:(?P<region>[a-z0-9-]+)\.rds|rds\.(?P<in_china>[a-z0-9-]+))"
    r"\.(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu)"
)


@dataclass(frozen=True)
class RdsHost:
    """What a host name in RDS says.

    Attributes:
        name: of the instance or the cluster.
        kind: which of the two; an Aurora cluster's instances have host names of their own.
        region: where it is.
        writer: the host of the cluster's writer if this is the one of its readers, else None.
    """

    name: str
    kind: Kind
    region: str
    writer: str | None = None

    @classmethod
    def parse(cls, host: str) -> RdsHost | None:
        """Parse a host name; None if it names no instance or cluster of RDS."""
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return None
        writer = host.lower().replace(".cluster-ro-", ".cluster-", 1) if found["reader"] else None
        kind: Kind = "cluster" if found["cluster"] else "instance"
        return cls(found["name"], kind, found["region"] or found["in_china"], writer)


@dataclass(frozen=True)
class RdsDatabase:
    """An instance or a cluster, as RDS describes it.

    Attributes:
        kind: which of the two.
        name: its identifier.
        status: `available`, `stopped`, ...
        hosts: where it takes writes: its endpoint first, then that of a cluster's writing instance, if known.
        engine, version: such as `postgres` or `aurora-postgresql`, and PostgreSQL's version.
        master: the name of the master user.
        secret: the ARN of the master's secret, if RDS manages one; None if there is none.
        security_groups: IDs.
        members: a cluster's instances, the writing one first.
        source: what it is a read replica of; None if it takes writes.
    """

    kind: Kind
    name: str
    status: str
    hosts: tuple[str, ...]
    engine: str
    version: str
    master: str | None
    secret: str | None
    security_groups: tuple[str, ...]
    members: tuple[str, ...]
    source: str | None
    _described: Mapping[str, Any]

    def is_at(self, host: str) -> bool:
        """Whether a host is one of its own, or an alias of one: for a host outside of RDS the caller's word counts."""
        return RdsHost.parse(host) is None or host.lower() in (each.lower() for each in self.hosts)

    @property
    def service(self) -> Service:
        """Whether it answers, by its status: `disturbed` if it may not for a while, `out` if it takes no writes."""
        if self.status in _SERVING:
            return "serving"
        if self.status in _DISTURBED:
            return "disturbed"
        out = self.status in _COMING | _STARTED | {"storage-full"} or _LOST.fullmatch(self.status)
        return "out" if out else "unknown"

    def remedy(self, region: str) -> str:
        """Return the command after which it serves; where there is none, the one that shows what happened to it."""
        kind, named = f"db-{self.kind}", {"--region": [region], f"--db-{self.kind}-identifier": [self.name]}
        wait = _command(f"wait {kind}-available", named)
        if self.status in _STARTED:
            start = f"{_command(f'start-{kind}', named)} && {wait}"
            if self.status != "stopping":
                return start
            query = {"--output": ["text"], "--query": ["*[0].[DBInstanceStatus, Status]"]}
            look = _command(f"describe-{kind}s", {**named, **query})  # `aws rds wait` has nothing for it
            return f"until {look} | grep -qw stopped; do sleep 30; done && {start}"
        if self.status == "storage-full":
            return f"{_command(f'modify-{kind}', named)} --apply-immediately --allocated-storage GIB"
        if _LOST.fullmatch(self.status):
            of = {"--source-type": [kind], "--source-identifier": [self.name], "--duration": [20160]}
            return _command("describe-events", {"--region": [region], **of})
        return wait

    def snapshot_command(self, verb: str, snapshot: str, region: str) -> str:
        """Return the AWS command that does something with snapshots: `describe`, `delete`."""
        what = f"db-{self._snapshot}snapshot"
        plural = "s" if verb == "describe" else ""
        return shlex.join(
            ("aws", "rds", f"{verb}-{what}{plural}", f"--{what}-identifier", snapshot, "--region", region)
        )

    def snapshot_name(self, at: float) -> str:
        """Return the name of a snapshot made at a time, in seconds since the epoch."""
        return f"{snapshot_stem(self.name, self.kind)}{datetime.fromtimestamp(at, UTC):-before-%Y%m%d-%H%M%S}"

    def take_snapshot(self, aws: Aws, snapshot: str, tags: Mapping[str, str]) -> None:
        """Start creating a snapshot."""
        create = aws.create_db_cluster_snapshot if self.kind == "cluster" else aws.create_db_snapshot
        create(self.name, snapshot, tags)

    def find_snapshot(self, aws: Aws, snapshot: str) -> Mapping[str, Any] | None:
        """Return RDS's description of a snapshot (`Status`, `PercentProgress`); None if there is none."""
        found = aws.db_cluster_snapshot(snapshot) if self.kind == "cluster" else aws.db_snapshot(snapshot)
        return None if found is None else dict(found)

    def restoring(self, snapshot: str, aws: Aws, region: str) -> str:
        """Return the command that restores a snapshot to a database like this: RDS's defaults use another network."""
        return (
            self._restore_cluster(snapshot, aws, region) if self.kind == "cluster" else self._restore(snapshot, region)
        )

    @property
    def _snapshot(self) -> str:
        return "cluster-" if self.kind == "cluster" else ""

    def _restored(self, limit: int) -> str:
        return f"{_cut(self.name, limit - len('-restored'))}-restored"

    def _restore(self, snapshot: str, region: str) -> str:
        described = self._described
        switches = {"multi-az": described.get("MultiAZ"), "publicly-accessible": described.get("PubliclyAccessible")}
        return _command(
            "restore-db-instance-from-db-snapshot",
            {
                "--db-instance-identifier": [self._restored(_INSTANCE)],
                "--db-snapshot-identifier": [snapshot],
                "--db-instance-class": [described.get("DBInstanceClass")],
                "--db-subnet-group-name": [described.get("DBSubnetGroup", {}).get("DBSubnetGroupName")],
                "--vpc-security-group-ids": self.security_groups,
                "--db-parameter-group-name": [
                    each.get("DBParameterGroupName") for each in described.get("DBParameterGroups", [])
                ],
                "--region": [region],
            },
            switches,
        )

    def _restore_cluster(self, snapshot: str, aws: Aws, region: str) -> str:
        described, aurora = self._described, self.engine.startswith("aurora")
        restored = self._restored(_INSTANCE - len("-1") if aurora else _MULTI_AZ_CLUSTER)
        storage, iops = described.get("StorageType"), described.get("Iops")
        scaling = described.get("ServerlessV2ScalingConfiguration", {})
        limits = [f"{name}={scaling[name]}" for name in ("MinCapacity", "MaxCapacity") if name in scaling]
        command = _command(
            "restore-db-cluster-from-snapshot",
            {
                "--db-cluster-identifier": [restored],
                "--snapshot-identifier": [snapshot],
                "--engine": [self.engine],
                "--engine-version": [self.version],
                "--db-cluster-instance-class": [described.get("DBClusterInstanceClass")],
                "--storage-type": [storage if aurora == str(storage).startswith("aurora") else None],
                "--iops": [iops if iops and not aurora else None],
                "--serverless-v2-scaling-configuration": [",".join(limits)],
                "--db-subnet-group-name": [described.get("DBSubnetGroup")],
                "--vpc-security-group-ids": self.security_groups,
                "--db-cluster-parameter-group-name": [described.get("DBClusterParameterGroup")],
                "--region": [region],
            },
            {} if aurora else {"publicly-accessible": described.get("PubliclyAccessible")},
        )
        if not aurora:
            return command
        # A restored Aurora cluster has no instance yet, and nobody can connect to it.
        instance = {
            "--db-instance-identifier": [f"{restored}-1"],
            "--db-cluster-identifier": [restored],
            "--engine": [self.engine],
            "--db-instance-class": [self._instance_class(aws)],
            "--region": [region],
        }
        return f"{command} && {_command('create-db-instance', instance)}"

    def _instance_class(self, aws: Aws) -> str:
        """Return the class of an Aurora cluster's writing instance; a word to replace if it may not be looked at."""
        try:
            writer = aws.db_instance(self.members[0]) if self.members else None
        except AccessDeniedError:
            writer = None
        return str((writer or {}).get("DBInstanceClass", "CLASS"))


def snapshot_stem(name: str, kind: Kind) -> str:
    """Return what the names of a database's snapshots begin with, before a hyphen: its name, as far as RDS takes it."""
    return _cut(name, _SNAPSHOT[kind] - len("-before-YYYYMMDD-HHMMSS"))


def _cut(name: str, limit: int) -> str:
    """Return a name that is not too long, and another one for each name: a cut one ends with a digest of the whole."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - len(digest) - 1].rstrip('-')}-{digest}"


def is_cluster(name: str, host: str | None) -> bool:
    """Whether the host tells that this is a cluster's name; else RDS is asked for an instance first."""
    told = RdsHost.parse(host or "")
    return told is not None and (told.name, told.kind) == (name, "cluster")


def other_region(host: str | None, region: str | None) -> str | None:
    """Return the region of a host in RDS if it is another one than this, else None."""
    told = RdsHost.parse(host or "")
    return told.region if told is not None and told.region != region else None


def find_rds(aws: Aws, name: str, host: str | None = None) -> RdsDatabase | None:
    """Return the instance or cluster with this name; the cluster if it is one of a cluster's instances.

    Args:
        aws: for the database's region; only read from.
        name: the identifier.
        host: the database's host, which may tell that it is a cluster.

    Returns:
        None if RDS has neither in this region, or the host is of another one.

    Raises:
        AwsError: AWS refused a call.
    """
    told = RdsHost.parse(host or "")
    if other_region(host, aws.region):
        return None
    instance = None if is_cluster(name, host) else aws.db_instance(name)
    if instance is not None and not instance.get("DBClusterIdentifier"):
        return _instance(instance)
    cluster = aws.db_cluster(instance["DBClusterIdentifier"] if instance else name)
    if cluster is None:
        return None
    if (
        told
        and told.name != name
        and told.name in (each["DBInstanceIdentifier"] for each in cluster.get("DBClusterMembers", []))
    ):
        instance = aws.db_instance(told.name)
    return _cluster(cluster, instance)


def _instance(described: Mapping[str, Any]) -> RdsDatabase:
    address = described.get("Endpoint", {}).get("Address")
    return RdsDatabase(
        "instance",
        described["DBInstanceIdentifier"],
        described["DBInstanceStatus"],
        (address,) if address else (),
        described["Engine"],
        described["EngineVersion"],
        described.get("MasterUsername"),
        described.get("MasterUserSecret", {}).get("SecretArn"),
        _groups(described),
        (),
        described.get("ReadReplicaSourceDBInstanceIdentifier") or described.get("ReadReplicaSourceDBClusterIdentifier"),
        described,
    )


def _cluster(described: Mapping[str, Any], instance: Mapping[str, Any] | None) -> RdsDatabase:
    """Return a cluster; `instance` is the one of its instances that was asked for, if any."""
    members = sorted(described.get("DBClusterMembers", []), key=lambda each: not each.get("IsClusterWriter"))
    writers = {each["DBInstanceIdentifier"] for each in members if each.get("IsClusterWriter")}
    writing = (
        instance.get("Endpoint", {}).get("Address")
        if instance and instance["DBInstanceIdentifier"] in writers
        else None
    )
    return RdsDatabase(
        "cluster",
        described["DBClusterIdentifier"],
        described["Status"],
        tuple(host for host in (described.get("Endpoint"), writing) if host),
        described["Engine"],
        described["EngineVersion"],
        described.get("MasterUsername"),
        described.get("MasterUserSecret", {}).get("SecretArn"),
        _groups(described),
        tuple(each["DBInstanceIdentifier"] for each in members),
        described.get("ReplicationSourceIdentifier"),
        described,
    )


def _groups(described: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(each["VpcSecurityGroupId"] for each in described.get("VpcSecurityGroups", []))


def _command(operation: str, options: Mapping[str, Any], switches: Mapping[str, bool | None] = {}) -> str:
    """Return an AWS command with the options that have values."""
    words = ["aws", "rds", *operation.split()]
    for option, values in options.items():
        known = [str(value) for value in values if value]
        words += [option, *known] if known else []
    words += [f"--{'' if on else 'no-'}{switch}" for switch, on in switches.items() if on is not None]
    return shlex.join(words)
