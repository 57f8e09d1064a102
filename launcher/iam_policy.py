"""The least that the launcher's caller must be allowed, as an IAM policy, and what a role lacks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from launcher.models import Identity, Stack

Policy = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """The resources that the policy names.

    Attributes:
        account, region: of the stack.
        cluster, service, family, repository, log_group: the names of ECS's, ECR's and CloudWatch's resources.
        roles: ARNs of the roles that the task gets; patterns where they are not known.
        db_instance: the RDS identifier; None where the database is not on RDS.
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
    def by_name(cls, environment: str, account: str, region: str) -> Scope:
        """The scope of an environment whose stack can't be read: everything has its usual name."""
        name = f"neuraKnot-{environment}"
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


@dataclass(frozen=True)
class Permission:
    """Actions that are asked for on the same resources, for one purpose.

    Attributes:
        sid: what they are for; the statement's `Sid`.
        actions: as IAM names them.
        resources: ARNs in a scope; none leaves the statement out.
        condition: IAM's condition block in a scope.
        doctor_only: whether `ecs-migrate` does without.
    """

    sid: str
    actions: tuple[str, ...]
    resources: Callable[[Scope], tuple[str, ...]]
    condition: Callable[[Scope], Mapping[str, Mapping[str, str]]] = lambda _: {}
    doctor_only: bool = False


def _everything(_: Scope) -> tuple[str, ...]:
    """For actions for which the service knows no resource."""
    return ("*",)


def _in_cluster(scope: Scope) -> Mapping[str, Mapping[str, str]]:
    return {"ArnEquals": {"ecs:cluster": scope.arn("ecs", f"cluster/{scope.cluster}")}}


def _tasks(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("ecs", f"task/{scope.cluster}/*"),)


def _repository(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("ecr", f"repository/{scope.repository}"),)


def _log_group(scope: Scope) -> tuple[str, ...]:
    # The asterisk covers the streams; IAM takes the group itself in this form too.
    return (scope.arn("logs", f"log-group:{scope.log_group}:*"),)


def _database(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("rds", f"db:{scope.db_instance}"),) if scope.db_instance else ()


def _snapshots(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("rds", f"snapshot:{scope.db_instance}-*"),) if scope.db_instance else ()


# Every action behind a method of launcher/aws.py; a test holds each of its calls against this table.
PERMISSIONS: tuple[Permission, ...] = (
    Permission(
        "ReadTheCluster",
        ("ecs:DescribeClusters",),
        lambda scope: (scope.arn("ecs", f"cluster/{scope.cluster}"),),
    ),
    Permission(
        "ReadTheService",
        ("ecs:DescribeServices",),
        lambda scope: (scope.arn("ecs", f"service/{scope.cluster}/{scope.service}"),),
    ),
    Permission("RegisterTheDefinition", ("ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition"), _everything),
    Permission(
        "RunTheTask",
        ("ecs:RunTask",),
        lambda scope: (scope.arn("ecs", f"task-definition/{scope.family}:*"),),
        _in_cluster,
    ),
    Permission("FindTasks", ("ecs:ListTasks",), _everything, _in_cluster),
    Permission("WatchAndStopTasks", ("ecs:DescribeTasks", "ecs:StopTask"), _tasks, _in_cluster),
    Permission(
        "HandOverTheTasksRoles",
        ("iam:PassRole",),
        lambda scope: scope.roles,
        lambda _: {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
    ),
    Permission("SignInToTheRegistry", ("ecr:GetAuthorizationToken",), _everything),
    Permission(
        "PushTheImage",
        (
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:CreateRepository",
            "ecr:DescribeImages",
            "ecr:DescribeRepositories",
            "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart",
        ),
        _repository,
    ),
    Permission("FindTheLogGroup", ("logs:DescribeLogGroups",), lambda scope: (scope.arn("logs", "log-group:*"),)),
    Permission(
        "ReadTheLog",
        ("logs:CreateLogGroup", "logs:GetLogEvents", "logs:PutRetentionPolicy"),
        _log_group,
    ),
    Permission("ReadTheDatabase", ("rds:DescribeDBInstances",), _database),
    Permission(
        "TakeASnapshot",
        ("rds:CreateDBSnapshot",),
        lambda scope: (*_database(scope), *_snapshots(scope)),
    ),
    Permission(
        "WatchTheSnapshot",
        ("rds:AddTagsToResource", "rds:DescribeDBSnapshots"),
        lambda scope: (*_database(scope), *_snapshots(scope)),
    ),
    Permission(
        "ReadTheTerraformState",
        ("s3:GetObject",),
        lambda scope: (f"arn:aws:s3:::{scope.state[0]}/{scope.state[1]}",) if scope.state else (),
    ),
    Permission(
        "DoctorReadsTheRoles",
        ("iam:GetRole", "iam:SimulatePrincipalPolicy"),
        lambda scope: (*scope.roles, *([scope.caller] if scope.caller else [])),
        doctor_only=True,
    ),
    Permission(
        "DoctorReadsTheNetwork",
        (
            "ec2:DescribeRouteTables",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcEndpoints",
            "ssm:DescribeParameters",
        ),
        _everything,
        doctor_only=True,
    ),
    Permission(
        "DoctorFindsTheSecret",
        ("secretsmanager:DescribeSecret",),
        lambda scope: (scope.secret,) if scope.secret else (),
        doctor_only=True,
    ),
)

DOCTOR_ONLY = frozenset(action for entry in PERMISSIONS if entry.doctor_only for action in entry.actions)

# AWS lets everybody ask who they are.
NEEDS_NO_PERMISSION = frozenset({"sts:GetCallerIdentity"})


def policy(scope: Scope) -> Policy:
    """The policy, as `aws iam put-role-policy --policy-document` takes it."""
    statements = []
    for permission in PERMISSIONS:
        resources = permission.resources(scope)
        if not resources:
            continue
        statement: dict[str, Any] = {
            "Sid": permission.sid,
            "Effect": "Allow",
            "Action": list(permission.actions),
            "Resource": resources[0] if len(resources) == 1 else list(resources),
        }
        condition = permission.condition(scope)
        if condition:
            statement["Condition"] = condition
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


class Simulator(Protocol):
    """Asks IAM what it would decide."""

    def simulate(
        self, role: str, actions: Sequence[str], resources: Sequence[str], context: Mapping[str, str] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """One result for each action and resource."""
        ...


def lacking(scope: Scope, role: str, iam: Simulator, *, doctor: bool = True) -> tuple[tuple[str, str], ...]:
    """What the role with this ARN is not allowed of the policy: actions, each with its resource.

    Args:
        scope: the stack.
        role: its ARN.
        iam: asks IAM.
        doctor: whether what only `doctor` needs counts too.

    Raises:
        AwsError: the caller may not ask, or there is no such role.
    """
    missing: list[tuple[str, str]] = []
    for permission in PERMISSIONS:
        resources = permission.resources(scope)
        if resources and (doctor or not permission.doctor_only):
            context = {key: value for keys in permission.condition(scope).values() for key, value in keys.items()}
            results = iam.simulate(role, permission.actions, resources, context)
            missing += [
                (result["EvalActionName"], result.get("EvalResourceName", "*"))
                for result in results
                if result["EvalDecision"] != "allowed"
            ]
    return tuple(missing)
