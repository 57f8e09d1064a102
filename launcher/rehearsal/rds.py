"""What moto's RDS lacks: an instance of a cluster has no snapshots of its own, and not every name is one."""

from __future__ import annotations

import re

from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.server import LocalServer
from launcher.rehearsal.stack import LocalStack

_NAME = re.compile(r"[a-z](?:-?[a-z0-9])*", re.IGNORECASE)


def refuse_snapshots(server: LocalServer, stack: LocalStack) -> None:
    """Have RDS refuse the snapshots that it takes of nothing or by no such name; moto answers for the others."""

    def of_instance(call: Call) -> None:
        _check_name(call, "DBSnapshotIdentifier", 255)
        instance = stack.rds.databases.get(call.parameters["DBInstanceIdentifier"])
        if instance is not None and instance.db_cluster_identifier:
            raise Refusal(
                "InvalidParameterValue",
                "The specified instance is a member of a cluster and a snapshot cannot be created directly. "
                "Please use the CreateDBClusterSnapshot API instead.",
            )

    server.handlers["rds:CreateDBSnapshot"] = of_instance
    server.handlers["rds:CreateDBClusterSnapshot"] = lambda call: _check_name(call, "DBClusterSnapshotIdentifier", 63)


def _check_name(call: Call, parameter: str, limit: int) -> None:
    name = call.parameters[parameter]
    if len(name) > limit or not _NAME.fullmatch(name):
        raise Refusal(
            "InvalidParameterValue",
            f"The parameter {parameter} is not a valid identifier. Identifiers must begin with a letter; must contain "
            "only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two consecutive "
            "hyphens.",
        )
