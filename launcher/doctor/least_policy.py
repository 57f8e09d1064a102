"""The least permissions that the launcher's caller needs, as an IAM policy, and which of them a role lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from launcher.aws.partitions import service_host
from launcher.doctor.policy_resources import PolicyResources, secret_arn
from launcher.environment.names import tags
from launcher.environment.rds import snapshot_stem
from launcher.terraform.backend import S3State

if TYPE_CHECKING:
    from launcher.aws.client import Aws, Decision

Policy = dict[str, Any]


@dataclass(frozen=True)
class Permission:
    """Actions on the same resources, for one purpose.

    Attributes:
        sid: the purpose; the statement's `Sid`.
        actions: IAM actions.
        resources: ARNs of the stack; if empty, the statement is omitted.
        condition: the IAM condition block.
        only_for: the only use that needs it, if `ecs-migrate` normally works without it.
    """

    sid: str
    actions: tuple[str, ...]
    resources: Callable[[PolicyResources], tuple[str, ...]]
    condition: Callable[[PolicyResources], Mapping[str, Mapping[str, str]]] = lambda _: {}
    only_for: Literal["doctor", "snapshot"] | None = None


def _everything(_: PolicyResources) -> tuple[str, ...]:
    """Return `*`, for actions without resource-level permissions."""
    return ("*",)


def _in_cluster(named: PolicyResources) -> Mapping[str, Mapping[str, str]]:
    return {"ArnEquals": {"ecs:cluster": named.arn("ecs", f"cluster/{named.cluster}")}}


def _tagged(named: PolicyResources) -> Mapping[str, Mapping[str, str]]:
    """Return the condition that a task is in the cluster, and was started by the launcher for this environment."""
    return {
        **_in_cluster(named),
        "StringEquals": {f"aws:ResourceTag/{key}": value for key, value in tags(named.environment).items()},
    }


def _key(named: PolicyResources) -> Mapping[str, Mapping[str, str]]:
    """Return the condition that S3 uses the state's key."""
    region = (named.state_key or "").split(":")[3]
    return {"StringEquals": {"kms:ViaService": service_host(region, "s3")}}


def _tasks(named: PolicyResources) -> tuple[str, ...]:
    return (named.arn("ecs", f"task/{named.cluster}/*"),)


def _definitions(named: PolicyResources) -> tuple[str, ...]:
    return (named.arn("ecs", f"task-definition/{named.family}:*"),)


def _repository(named: PolicyResources) -> tuple[str, ...]:
    return (named.arn("ecr", f"repository/{named.repository}"),)


def _log_group(named: PolicyResources) -> tuple[str, ...]:
    # The asterisk covers the streams; IAM accepts this form for the group itself too.
    return (named.arn("logs", f"log-group:{named.log_group}:*"),)


def _instance(named: PolicyResources) -> tuple[str, ...]:
    return (named.arn("rds", f"db:{named.rds.instance}"),) if named.rds.instance else ()


def _instances(named: PolicyResources) -> tuple[str, ...]:
    return (*_instance(named), *(named.arn("rds", f"db:{member}") for member in named.rds.members))


def _snapshots(named: PolicyResources) -> tuple[str, ...]:
    name = named.rds.instance
    return (named.arn("rds", f"snapshot:{snapshot_stem(name, 'instance')}-*"),) if name else ()


def _clusters(named: PolicyResources) -> tuple[str, ...]:
    # Only RDS tells which cluster an instance belongs to.
    return (named.arn("rds", "cluster:*"),) if named.rds.instance and named.rds.cluster else _cluster(named)


def _cluster(named: PolicyResources) -> tuple[str, ...]:
    return (named.arn("rds", f"cluster:{named.rds.cluster}"),) if named.rds.cluster else ()


def _cluster_snapshots(named: PolicyResources) -> tuple[str, ...]:
    name = named.rds.cluster
    return (named.arn("rds", f"cluster-snapshot:{snapshot_stem(name, 'cluster')}-*"),) if name else ()


def _state(named: PolicyResources, of: Callable[[S3State], str]) -> tuple[str, ...]:
    """Return the ARN of what belongs to the state in S3, if the caller itself reads that."""
    return (named.arn("s3", of(named.state)),) if named.state and named.state.by_caller else ()


def _state_role(named: PolicyResources) -> tuple[str, ...]:
    state = named.state
    return (state.role,) if state and state.role and not state.credentials else ()


# Every action behind a method of launcher/aws/client.py; a test compares its calls with this table.
PERMISSIONS: tuple[Permission, ...] = (
    Permission(
        "ReadTheCluster",
        ("ecs:DescribeClusters",),
        lambda named: (named.arn("ecs", f"cluster/{named.cluster}"),),
    ),
    Permission(
        "ReadTheService",
        ("ecs:DescribeServices",),
        lambda named: (named.arn("ecs", f"service/{named.cluster}/{named.service}"),),
    ),
    Permission("ReadDefinitions", ("ecs:DescribeTaskDefinition",), _everything),
    Permission("RegisterTheDefinition", ("ecs:RegisterTaskDefinition",), _definitions),
    Permission("RunTheTask", ("ecs:RunTask",), _definitions, _in_cluster),
    Permission("FindTasks", ("ecs:ListTasks",), _everything, _in_cluster),
    Permission("WatchAndStopItsTasks", ("ecs:DescribeTasks", "ecs:StopTask"), _tasks, _tagged),
    Permission("TagTheTask", ("ecs:TagResource",), _tasks, lambda _: {"StringEquals": {"ecs:CreateAction": "RunTask"}}),
    Permission(
        "HandOverTheTasksRoles",
        ("iam:PassRole",),
        lambda named: named.roles,
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
    Permission("ReadTheDatabase", ("rds:DescribeDBInstances",), _instances),
    Permission("ReadTheDatabaseCluster", ("rds:DescribeDBClusters",), _clusters),
    Permission(
        "TakeASnapshot",
        ("rds:CreateDBSnapshot",),
        lambda named: (*_instance(named), *_snapshots(named)),
        only_for="snapshot",
    ),
    Permission(
        "WatchTheSnapshot",
        ("rds:AddTagsToResource", "rds:DescribeDBSnapshots"),
        _snapshots,
        only_for="snapshot",
    ),
    Permission(
        "TakeAClusterSnapshot",
        ("rds:CreateDBClusterSnapshot",),
        lambda named: (*_cluster(named), *_cluster_snapshots(named)),
        only_for="snapshot",
    ),
    Permission(
        "WatchTheClusterSnapshot",
        ("rds:AddTagsToResource", "rds:DescribeDBClusterSnapshots"),
        _cluster_snapshots,
        only_for="snapshot",
    ),
    Permission(
        "ReadTheTerraformState",
        ("s3:GetObject",),
        lambda named: _state(named, lambda state: f"{state.bucket}/{state.key}"),
    ),
    Permission(  # Terraform looks for workspaces before it reads a state
        "FindTheTerraformState",
        ("s3:ListBucket",),
        lambda named: _state(named, lambda state: state.bucket),
    ),
    Permission("HaveTerraformReadItsState", ("sts:AssumeRole",), _state_role),
    Permission(
        "DecryptTheTerraformState",
        ("kms:Decrypt",),
        lambda named: (named.state_key,) if named.state_key else (),
        _key,
    ),
    Permission(
        "DoctorLooksAtRoles",
        ("iam:GetRole", "iam:SimulatePrincipalPolicy"),
        lambda named: (*named.roles, *([named.caller] if named.caller else [])),
        only_for="doctor",
    ),
    Permission(
        "DoctorReadsTheNetworkAndTheRegistry",
        (
            "ec2:DescribeRouteTables",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcEndpoints",
            "ecr:GetRegistryScanningConfiguration",
        ),
        _everything,
        only_for="doctor",
    ),
    Permission(
        "DoctorSeesWhetherImagesAreScanned",
        ("ecr:BatchGetRepositoryScanningConfiguration",),
        _repository,
        only_for="doctor",
    ),
    Permission(
        "DoctorFindsTheSecret",
        ("secretsmanager:DescribeSecret",),
        lambda named: (named.secret,) if named.secret and secret_arn(named.secret) else (),
        only_for="doctor",
    ),
    Permission(
        "DoctorFindsTheParameter",
        ("ssm:DescribeParameters",),
        lambda named: ("*",) if named.secret and not secret_arn(named.secret) else (),
        only_for="doctor",
    ),
)

DOCTOR_ONLY = frozenset(action for entry in PERMISSIONS if entry.only_for == "doctor" for action in entry.actions)
SNAPSHOT_ONLY = frozenset(action for entry in PERMISSIONS if entry.only_for == "snapshot" for action in entry.actions)


def policy(named: PolicyResources) -> Policy:
    """Return the policy in the form of `aws iam put-role-policy --policy-document`."""
    statements = []
    for permission in PERMISSIONS:
        resources = permission.resources(named)
        if not resources:
            continue
        statement: dict[str, Any] = {
            "Sid": permission.sid,
            "Effect": "Allow",
            "Action": list(permission.actions),
            "Resource": resources[0] if len(resources) == 1 else list(resources),
        }
        condition = permission.condition(named)
        if condition:
            statement["Condition"] = condition
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def remedies(denied: Iterable[Decision]) -> list[str]:
    """Return what helps where more permissions would not, as sentences that begin with the actions that are denied."""
    actions: dict[str, set[str]] = {}
    for decision in denied:
        if decision.remedy:
            actions.setdefault(decision.remedy, set()).add(decision.action)
    return [f"{', '.join(sorted(those))}: {remedy}" for remedy, those in actions.items()]


def lacking(named: PolicyResources, role: str, iam: Aws, *, doctor: bool = True) -> tuple[Decision, ...]:
    """Return IAM's decisions about the actions of the policy that it does not allow the role, or can't decide.

    Args:
        named: the stack's resources.
        role: the role's ARN.
        iam: asks IAM.
        doctor: whether to include what only `doctor` needs.

    Raises:
        AwsError: the caller may not simulate policies, or there is no such role.
    """
    missing: list[Decision] = []
    for permission in PERMISSIONS:
        resources = permission.resources(named)
        if resources and (doctor or permission.only_for != "doctor"):
            context = {key: value for keys in permission.condition(named).values() for key, value in keys.items()}
            results = iam.simulate(role, permission.actions, resources, context)
            missing += [decision for decision in results if not decision.allowed]
    return tuple(missing)
