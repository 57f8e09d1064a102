"""The least that the launcher's caller must be allowed, as an IAM policy, and what a role lacks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from launcher.doctor.scope import Scope

Policy = dict[str, Any]


@dataclass(frozen=True)
class Permission:
    """Actions that are asked for on the same resources, for one purpose.

    Attributes:
        sid: what they are for; the statement's `Sid`.
        actions: as IAM names them.
        resources: ARNs in a scope; none leaves the statement out.
        condition: IAM's condition block in a scope.
        only_for: the one thing that needs it, if `ecs-migrate` does without as a rule.
    """

    sid: str
    actions: tuple[str, ...]
    resources: Callable[[Scope], tuple[str, ...]]
    condition: Callable[[Scope], Mapping[str, Mapping[str, str]]] = lambda _: {}
    only_for: Literal["doctor", "snapshot"] | None = None


def _everything(_: Scope) -> tuple[str, ...]:
    """For actions for which the service knows no resource."""
    return ("*",)


def _in_cluster(scope: Scope) -> Mapping[str, Mapping[str, str]]:
    return {"ArnEquals": {"ecs:cluster": scope.arn("ecs", f"cluster/{scope.cluster}")}}


def _tasks(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("ecs", f"task/{scope.cluster}/*"),)


def _definitions(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("ecs", f"task-definition/{scope.family}:*"),)


def _repository(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("ecr", f"repository/{scope.repository}"),)


def _log_group(scope: Scope) -> tuple[str, ...]:
    # The asterisk covers the streams; IAM takes the group itself in this form too.
    return (scope.arn("logs", f"log-group:{scope.log_group}:*"),)


def _database(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("rds", f"db:{scope.db_instance}"),) if scope.db_instance else ()


def _snapshots(scope: Scope) -> tuple[str, ...]:
    return (scope.arn("rds", f"snapshot:{scope.db_instance}-*"),) if scope.db_instance else ()


# Every action behind a method of launcher/aws/aws.py; a test holds each of its calls against this table.
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
    Permission("ReadDefinitions", ("ecs:DescribeTaskDefinition",), _everything),
    Permission("RegisterTheDefinition", ("ecs:RegisterTaskDefinition",), _definitions),
    Permission("RunTheTask", ("ecs:RunTask",), _definitions, _in_cluster),
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
    Permission("FindTheLogGroup", ("logs:DescribeLogGroups",), _everything),
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
        only_for="snapshot",
    ),
    Permission(
        "WatchTheSnapshot",
        ("rds:AddTagsToResource", "rds:DescribeDBSnapshots"),
        _snapshots,
        only_for="snapshot",
    ),
    Permission(
        "ReadTheTerraformState",
        ("s3:GetObject",),
        lambda scope: (f"arn:aws:s3:::{scope.state[0]}/{scope.state[1]}",) if scope.state else (),
    ),
    Permission(  # Terraform looks for workspaces before it reads a state
        "FindTheTerraformState",
        ("s3:ListBucket",),
        lambda scope: (f"arn:aws:s3:::{scope.state[0]}",) if scope.state else (),
    ),
    Permission(
        "DoctorLooksAtRoles",
        ("iam:GetRole", "iam:SimulatePrincipalPolicy"),
        lambda scope: (*scope.roles, *([scope.caller] if scope.caller else [])),
        only_for="doctor",
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
        only_for="doctor",
    ),
    Permission(
        "DoctorFindsTheSecret",
        ("secretsmanager:DescribeSecret",),
        lambda scope: (scope.secret,) if scope.secret else (),
        only_for="doctor",
    ),
)

DOCTOR_ONLY = frozenset(action for entry in PERMISSIONS if entry.only_for == "doctor" for action in entry.actions)
SNAPSHOT_ONLY = frozenset(action for entry in PERMISSIONS if entry.only_for == "snapshot" for action in entry.actions)

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
        if resources and (doctor or permission.only_for != "doctor"):
            context = {key: value for keys in permission.condition(scope).values() for key, value in keys.items()}
            results = iam.simulate(role, permission.actions, resources, context)
            missing += [
                (result["EvalActionName"], result.get("EvalResourceName", "*"))
                for result in results
                if result["EvalDecision"] != "allowed"
            ]
    return tuple(missing)
