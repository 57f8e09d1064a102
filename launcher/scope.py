"""The resources that a policy for the launcher's caller names."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.models import Identity, Stack


@dataclass(frozen=True)
class Scope:
    """The resources that the policy names.

    Attributes:
        account, region: of the stack.
        cluster, service, family, repository, log_group: the names of ECS's, ECR's and CloudWatch's resources.
        roles: ARNs of the roles that the task gets; patterns where they are not known.
        db_instance: the RDS identifier; None where none is known.
        caller: the ARN of the caller's own role, which `doctor` looks at too; None for a user, or where not known.
        secret: the ARN of the password's secret in Secrets Manager; None where there is none.
        state: bucket and key of a Terraform state in S3; None where it is elsewhere.
    """

    account: str
    region: str
    cluster: str
    service: str
    family: str
    repository: str
    log_group: str
    roles: tuple[str, ...]
    db_instance: str | None = None
    caller: str | None = None
    secret: str | None = None
    state: tuple[str, str] | None = None

    @classmethod
    def of(cls, stack: Stack, state: tuple[str, str] | None = None) -> Scope:
        """The scope of a stack that could be read."""
        roles = [stack.execution_role.value, *([stack.task_role.value] if stack.task_role else [])]
        return cls(
            account=stack.identity.account,
            region=stack.region.value,
            cluster=stack.cluster.value,
            service=stack.service.value if stack.service else "*",
            family=stack.family,
            repository=stack.repository,
            log_group=stack.log_group,
            roles=tuple(roles),
            db_instance=stack.db_instance.value if stack.db_instance else None,
            caller=role_arn(stack.identity),
            secret=secret_arn(stack.password.value.reference),
            state=state,
        )

    @classmethod
    def by_name(cls, environment: str, account: str, region: str, project: str = "neuraKnot") -> Scope:
        """The scope of an environment whose stack can't be read: everything has its usual name."""
        name = f"{project}-{environment}"
        return cls(
            account=account,
            region=region,
            cluster=f"{name}-cluster",
            service=f"{name}-backend-go",
            family=f"{name}-migrate",
            repository=f"{name}-migrate".lower(),
            log_group=f"/ecs/{name}-migrate",
            roles=(f"arn:aws:iam::{account}:role/{name}-*",),
            db_instance=f"{name}-db".lower(),
        )

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def secret_arn(reference: str | None) -> str | None:
    """The Secrets Manager ARN in a `valueFrom`, which may go on with a JSON key, a stage and a version."""
    if reference is None or ":secretsmanager:" not in reference:
        return None
    return ":".join(reference.split(":")[:7])


def role_arn(identity: Identity) -> str | None:
    """The ARN of the role behind a session; None for a user."""
    if ":assumed-role/" not in identity.arn:
        return None
    return f"arn:aws:iam::{identity.account}:role/{identity.role}"
