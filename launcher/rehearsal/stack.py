"""The stack that the launcher uses, built in the local AWS: network, cluster, service, roles, database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from moto.ec2.models import EC2Backend, ec2_backends
from moto.ecr.models import ECRBackend, ecr_backends
from moto.ecs.models import EC2ContainerServiceBackend, ecs_backends
from moto.iam.models import IAMBackend, iam_backends
from moto.logs.models import LogsBackend, logs_backends
from moto.rds.models import RDSBackend, rds_backends
from moto.secretsmanager.models import SecretsManagerBackend, secretsmanager_backends
from moto.sts.models import sts_backends
from moto.utilities.utils import get_partition

from launcher.aws import partitions
from launcher.environment.names import Names
from launcher.rehearsal import roles
from launcher.rehearsal.network import WayOut, build_network

Login = Literal["tfvars", "managed", "output"]

DATABASE_PASSWORD = "rehearsal only: 100% 'quoted' @/secret"  # noqa: S105 - the local database's, which has no other use


@dataclass(frozen=True)
class StackOptions:
    """The differences between stacks.

    Attributes:
        environment: `dev`, `prod`, or an unknown name.
        way_out: how the private subnets reach AWS: a NAT gateway, or VPC endpoints.
        login: where the database password is: `secrets.tfvars`, a secret managed by RDS, or a secret whose ARN is a
            Terraform output.
        architecture: the Go service's CPU architecture.
        database: an instance, or one of the two kinds of clusters.
    """

    environment: str = "dev"
    way_out: WayOut = "nat"
    login: Login = "tfvars"
    architecture: Literal["X86_64", "ARM64"] = "X86_64"
    database: Literal["instance", "aurora", "multi-az"] = "instance"


_CLUSTERS: Mapping[str, Mapping[str, Any]] = {
    "aurora": {"storage_type": "aurora", "allocated_storage": 1},
    "multi-az": {
        "db_cluster_instance_class": "db.m6gd.large",
        "storage_type": "io1",
        "iops": 1000,
        "allocated_storage": 100,
    },
}


@dataclass(frozen=True)
class Credentials:
    """The credentials of a caller of the local AWS."""

    access_key: str
    secret_key: str
    session_token: str


class LocalStack:
    """The resources of one environment, with the same names as in production.

    The attributes are their names, IDs and ARNs; the backends are moto's own, for code that breaks the stack.
    """

    def __init__(self, account: str, region: str, options: StackOptions) -> None:
        self.account = account
        self.region = region
        self.options = options
        name = f"neuraKnot-{options.environment}"
        names = Names(name)
        self.cluster, self.service = names.cluster, names.service
        self.family, self.log_group, self.repository = names.family, names.log_group, names.repository
        self.database_instance = names.db_instance
        self.database = "neuraKnot"
        self.execution_role = f"{name}-ecs-execution-role"
        self.task_role = f"{name}-ecs-task-role"
        self.ci_role = names.ci_role

        self.archived: set[str] = set()  # digests of images, see `LocalEcr`
        self.task_tags: Callable[[str, float], Mapping[str, str]] = lambda _arn, _now: {}  # see `LocalEcs`
        self.ec2: EC2Backend = ec2_backends[account][region]
        self.ecr: ECRBackend = ecr_backends[account][region]
        self.ecs: EC2ContainerServiceBackend = ecs_backends[account][region]
        self.iam: IAMBackend = iam_backends[account][get_partition(region)]
        self.logs: LogsBackend = logs_backends[account][region]
        self.rds: RDSBackend = rds_backends[account][region]
        self.secrets: SecretsManagerBackend = secretsmanager_backends[account][region]

        network = build_network(self.ec2, region, options.way_out, self.service, self.database_instance)
        self.vpc, self.subnets, self.route_table = network.vpc, network.subnets, network.route_table
        self.service_group, self.database_group = network.service_group, network.database_group
        self._build_roles()
        self._build_database()
        self._build_service()

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in this account."""
        return partitions.arn(service, self.region, self.account, resource)

    @property
    def execution_role_arn(self) -> str:
        """The role that ECS uses to pull the image, read secrets and write logs."""
        return self.arn("iam", f"role/{self.execution_role}")

    @property
    def task_role_arn(self) -> str:
        """The role of the programs inside the task."""
        return self.arn("iam", f"role/{self.task_role}")

    @property
    def ci_role_arn(self) -> str:
        """The role of the launcher's caller."""
        return self.arn("iam", f"role/{self.ci_role}")

    @property
    def registries(self) -> frozenset[str]:
        """The hosts that this account's images are pulled from."""
        own = partitions.registry(self.region, self.account)
        return frozenset({own, *(repository.uri.split("/")[0] for repository in self.ecr.repositories.values())})

    @property
    def database_host(self) -> str:
        """The database's host name inside the VPC."""
        if self.database_cluster is not None:
            return str(self.rds.clusters[self.database_cluster].endpoint)
        return str(self.rds.databases[self.database_instance].address)

    @property
    def outputs(self) -> dict[str, Any]:
        """The Terraform outputs of this stack."""
        outputs: dict[str, Any] = {
            "aws_region": self.region,
            "backend_go_service_name": self.service,
            "ecs_cluster_name": self.cluster,
            "environment": self.options.environment,
            "private_subnet_ids": list(self.subnets),
            "rds_database_name": self.database,
            "rds_host": self.database_host,
            "rds_port": 5432,
            "rds_username": "postgres",
            "vpc_id": self.vpc,
        }
        if self.options.login == "output" and self.secret is not None:
            outputs["db_password_secret_arn"] = f"{self.secret}:password::"
        return outputs

    def sign_in(self, role_arn: str | None = None) -> Credentials:
        """Return the credentials of a role's session; the default is the CI role."""
        session = sts_backends[self.account][get_partition(self.region)].assume_role(
            region_name=self.region,
            role_session_name="rehearsal",
            role_arn=role_arn or self.ci_role_arn,
            policy="",
            duration=3600,
            external_id="",
        )
        return Credentials(session.access_key_id, session.secret_access_key, session.session_token)

    def allow(self, role: str, name: str, *statements: Mapping[str, Any]) -> None:
        """Give a role an inline policy; it replaces one with the same name."""
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        self.iam.put_role_policy(role, name, json.dumps(document))

    def put_image(self, tag: str, digest: str, repository: str | None = None) -> None:
        """Add an image to the registry, as a push would; this creates a repository, and restores an archived image."""
        if digest in self.archived:
            self.archived.discard(digest)
            return
        repository = repository or self.repository
        if repository not in self.ecr.repositories:
            self._create_repository(repository)
        media_type = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": media_type, "config": {"digest": digest, "size": 1}}
        self.ecr.put_image(repository, json.dumps(manifest), tag, media_type, digest)

    def use_registry(self, host: str) -> None:
        """Use a registry on this machine instead of ECR's, whose host name does not resolve here."""
        if self.repository not in self.ecr.repositories:
            self._create_repository(self.repository)
        self.ecr.repositories[self.repository].uri = f"{host}/{self.repository}"

    def _create_repository(self, name: str) -> None:
        self.ecr.create_repository(name, None, {}, {"scanOnPush": True}, "MUTABLE", [])

    def _build_roles(self) -> None:
        ecs = {"Service": "ecs-tasks.amazonaws.com"}
        github = {"Federated": self.arn("iam", "oidc-provider/token.actions.githubusercontent.com")}
        for role, principal in ((self.execution_role, ecs), (self.task_role, ecs), (self.ci_role, github)):
            self.iam.create_role(role, json.dumps(roles.trust(principal)), "/", None, "", [], "3600")
        self.allow(self.execution_role, "execution", roles.EXECUTION)
        passed = (self.execution_role_arn, self.task_role_arn)
        self.allow(self.ci_role, "deploy", *roles.ci_today(self.arn, self.options.environment, passed))

    def _build_database(self) -> None:
        managed = self.options.login == "managed"
        subnet_group = self.rds.create_subnet_group(
            f"{self.database_instance}-subnets",
            "private",
            [self.ec2.get_subnet(subnet) for subnet in self.subnets],
            [],
        )
        common = {
            "engine": "aurora-postgresql" if self.options.database == "aurora" else "postgres",
            "engine_version": "15.8",
            "port": 5432,
            "db_subnet_group_name": subnet_group.name,
            "vpc_security_group_ids": [self.database_group],
            "publicly_accessible": False,
        }
        login = {
            "master_username": "postgres",
            "master_user_password": None if managed else DATABASE_PASSWORD,
            "manage_master_user_password": managed,
        }
        size = {"db_instance_class": "db.t4g.micro", "allocated_storage": 20, "multi_az": False}
        owner: Any
        if self.options.database == "instance":
            self.database_cluster = None
            owner = self.rds.create_db_instance(
                {"db_instance_identifier": self.database_instance, "db_name": self.database, **size, **common, **login}
            )
        else:
            self.database_cluster, self.database_instance = self.database_instance, f"{self.database_instance}-1"
            own = {
                "db_cluster_identifier": self.database_cluster,
                "database_name": self.database,
                **_CLUSTERS[self.options.database],
            }
            owner = self.rds.create_db_cluster({**own, **common, **login})
            owner._status = "available"
            member = {"db_cluster_identifier": self.database_cluster, "db_instance_identifier": self.database_instance}
            self.rds.create_db_instance({**member, **size, **common})
        self.secret: str | None = None
        value = json.dumps({"username": "postgres", "password": DATABASE_PASSWORD})
        if managed:
            self.secret = owner.master_user_secret.secret_arn
            self.secrets.put_secret_value(self.secret, value, "", "", ["AWSCURRENT"])
        elif self.options.login == "output":
            name = f"neuraKnot-{self.options.environment}-db"
            self.secrets.create_secret(name, value, None, "", [], None, None, [], False)
            self.secret = self.secrets.secrets[name].arn
        if self.secret is not None:
            self.allow_secret()

    def allow_secret(self) -> None:
        """Allow the execution role to read the database's secret."""
        statement = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": self.secret}
        self.allow(self.execution_role, "database-secret", statement)

    def _build_service(self) -> None:
        self.ecs.create_cluster(self.cluster)
        self._create_repository(self.service.lower())
        definition = self.ecs.register_task_definition(
            self.service,
            [
                {
                    "name": "backend-go",
                    "image": f"{partitions.registry(self.region, self.account)}/{self.service.lower()}:latest",
                    "essential": True,
                    "environment": [{"name": "DB_HOST", "value": self.database_host}],
                }
            ],
            network_mode="awsvpc",
            requires_compatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            task_role_arn=self.task_role_arn,
            execution_role_arn=self.execution_role_arn,
            runtime_platform={
                "cpuArchitecture": self.options.architecture,
                "operatingSystemFamily": "LINUX",
            },
        )
        self.service_definition = definition.arn
        service = self.ecs.create_service(
            self.cluster,
            self.service,
            1,
            definition.arn,
            launch_type="FARGATE",
            network_configuration={
                "awsvpcConfiguration": {
                    "subnets": list(self.subnets),
                    "securityGroups": [self.service_group],
                    "assignPublicIp": "DISABLED",  # type: ignore[dict-item]
                }
            },
        )
        service.running_count, service.pending_count = 1, 0
        service.deployments[0].update(rolloutState="COMPLETED", runningCount=1, pendingCount=0)
