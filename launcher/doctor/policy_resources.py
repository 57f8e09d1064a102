"""The resources that a policy for the launcher's caller names."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from launcher.aws.partitions import arn
from launcher.environment.options import Options
from launcher.environment.password import named_secret
from launcher.environment.rds import RdsDatabase, is_cluster
from launcher.environment.service import gives_network
from launcher.environment.stack import StackNames
from launcher.errors import ConfigurationError
from launcher.models import Identity, Stack
from launcher.terraform.backend import S3State
from launcher.terraform.outputs import Outputs


@dataclass(frozen=True)
class RdsNames:
    """The identifiers in RDS that the policy names; both kinds where it is not known which one the database is.

    Attributes:
        instance: the instance; None if the database is a cluster.
        cluster: the cluster; None if it is an instance.
        members: the instances that are looked at for a cluster.
    """

    instance: str | None = None
    cluster: str | None = None
    members: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str | None, host: str | None, database: RdsDatabase | None = None) -> RdsNames:
        """Return all names that `find_rds` asks for; `database` is what it found, None if it could not look."""
        if name is None:
            return cls()
        asked = () if is_cluster(name, host) else (name,)
        if database is None:  # the host of an instance does not tell whether it is one of a cluster's
            return cls(instance=next(iter(asked), None), cluster=name)
        if database.kind == "instance":
            return cls(instance=database.name)
        return cls(cluster=database.name, members=tuple(dict.fromkeys((*asked, *database.members))))


@dataclass(frozen=True)
class PolicyResources:
    """The resources that the policy names.

    Attributes:
        environment, account, region: the stack's.
        cluster, service, family, repository, log_group: the names of the resources in ECS, ECR and CloudWatch.
        roles: ARNs of the task's roles; patterns if they are not known.
        rds: the database's identifiers in RDS.
        caller: the ARN of the role that gets the policy, which `doctor` looks at too; None if there is none.
        secret: the ARN of the password's secret in Secrets Manager, or of its parameter in SSM; None if there is none.
        state: the Terraform state in S3; None if it is elsewhere.
        state_key: the ARN of the KMS key that encrypts this state; None if there is none, or it is not known.
    """

    environment: str
    account: str
    region: str
    cluster: str
    service: str
    family: str
    repository: str
    log_group: str
    roles: tuple[str, ...]
    rds: RdsNames = RdsNames()
    caller: str | None = None
    secret: str | None = None
    state: S3State | None = None
    state_key: str | None = None

    @classmethod
    def of(cls, stack: Stack, database: RdsDatabase | None = None, state: S3State | None = None) -> PolicyResources:
        """Return the resources of a stack that could be read, as could perhaps its database in RDS."""
        named = stack.db_instance.value if stack.db_instance else None
        roles = [stack.execution_role.value, *([stack.task_role.value] if stack.task_role else [])]
        return cls(
            environment=stack.environment,
            account=stack.identity.account,
            region=stack.region.value,
            cluster=stack.cluster.value,
            service=stack.service.value if stack.service else "*",
            family=stack.family,
            repository=stack.repository,
            log_group=stack.log_group,
            roles=tuple(roles),
            rds=RdsNames.of(named, stack.db_host.value, database),
            secret=_secret(stack.password.value.reference),
            state=state,
        )

    @classmethod
    def by_name(cls, options: Options, outputs: Outputs, account: str, region: str) -> PolicyResources:
        """Return the resources of a stack that can't be read: names from options and Terraform, else default names."""
        names, given = options.names, options.given
        named, secret = StackNames.of(options, outputs), None
        with suppress(ConfigurationError):
            secret = named_secret(options, outputs, named.db_host)
        # The roles of an unreadable service are not known; without a service, the only task role is a given one.
        given_roles = [given[role].value for role in ("execution_role", "task_role") if role in given]
        complete = len(given_roles) == 2 or gives_network(given)
        return cls(
            environment=options.environment,
            account=account,
            region=region,
            cluster=named.cluster,
            service=named.service or "*",
            family=names.family,
            repository=names.repository,
            log_group=names.log_group,
            roles=(*given_roles, *([] if complete else [arn("iam", region, account, f"role/{names.prefix}-*")])),
            rds=RdsNames.of(named.db_instance.value if named.db_instance else None, named.db_host),
            secret=_secret(secret.value if secret else None),
            state=outputs.state,
        )

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in this account and region."""
        return arn(service, self.region, self.account, resource)


def secret_arn(reference: str | None) -> str | None:
    """Return the Secrets Manager ARN in a `valueFrom`, without the JSON key, stage and version; None for others."""
    if reference is None or ":secretsmanager:" not in reference:
        return None
    return ":".join(reference.split(":")[:7])


def parameter_names(reference: str) -> tuple[str, ...]:
    """Return the names that the parameter with this ARN may have, the likelier one first.

    A name with a slash inside also begins with one; without one, the ARN does not show whether it does.
    """
    path = reference.split(":parameter", 1)[-1]
    return (path,) if "/" in path[1:] else (path[1:], path)


def _secret(reference: str | None) -> str | None:
    return secret_arn(reference) or reference


def role_arn(identity: Identity, region: str) -> str | None:
    """Return the ARN of a session's role, without its path, which the session does not show; None for a user."""
    if ":assumed-role/" not in identity.arn:
        return None
    return arn("iam", region, identity.account, f"role/{identity.role}")
