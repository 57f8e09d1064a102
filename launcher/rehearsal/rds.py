"""What moto's RDS lacks: an instance of a cluster has no snapshots of its own."""

from __future__ import annotations

from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.server import LocalServer
from launcher.rehearsal.stack import LocalStack


def refuse_snapshots_of_members(server: LocalServer, stack: LocalStack) -> None:
    """Have CreateDBSnapshot refuse instances of clusters; moto answers for the others."""

    def check(call: Call) -> None:
        instance = stack.rds.databases.get(call.parameters["DBInstanceIdentifier"])
        if instance is not None and instance.db_cluster_identifier:
            raise Refusal(
                "InvalidParameterValue",
                "The specified instance is a member of a cluster and a snapshot cannot be created directly. "
                "Please use the CreateDBClusterSnapshot API instead.",
            )

    server.handlers["rds:CreateDBSnapshot"] = check
