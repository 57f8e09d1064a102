"""The permissions that IAM requires for a call: actions, their resources, and condition keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from moto.s3.models import s3_backends
from moto.utilities.utils import get_partition

from launcher.aws.partitions import service_host
from launcher.rehearsal.api import Call
from launcher.rehearsal.stack import LocalStack

Need = tuple[str, str, Mapping[str, str]]
"""An action, the ARN of its resource (`*` if the action has none), and the condition keys."""

_PASSED = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}


def needed(stack: LocalStack, call: Call) -> Iterator[Need]:
    """Yield every permission that the caller needs for this call.

    Resource types and condition keys are those of the Service Authorization Reference.
    """
    resource = _RESOURCES.get(call.action)
    context = {"ecs:cluster": _cluster(stack, call)} if call.service == "ecs" and "cluster" in call.parameters else {}
    if call.action == "s3:HeadObject":  # has no action of its own
        yield "s3:GetObject", _object(stack, call), context
    elif call.action in ("ecs:DescribeTasks", "ecs:StopTask"):
        for task in call.parameters.get("tasks") or [call.parameters.get("task", "*")]:
            arn = _task(stack, call, str(task))
            told = stack.task_tags(arn, call.at)
            yield call.action, arn, {**context, **{f"aws:ResourceTag/{key}": value for key, value in told.items()}}
    else:
        yield call.action, resource(stack, call) if resource is not None else "*", context
    if call.action == "s3:GetObject":
        yield from _decrypting(stack, call)
    if call.action == "ecs:RunTask":
        yield from _tagging(stack, call)
    if call.action == "ecs:RegisterTaskDefinition":
        for role in ("executionRoleArn", "taskRoleArn"):
            if role in call.parameters:
                yield "iam:PassRole", str(call.parameters[role]), _PASSED
    if call.action == "ecs:RunTask":
        definition = stack.ecs.describe_task_definition(str(call.parameters["taskDefinition"]))
        for role in ("execution_role_arn", "task_role_arn"):
            if getattr(definition, role, None):
                yield "iam:PassRole", str(getattr(definition, role)), _PASSED
    if call.action == "ecr:CreateRepository" and call.parameters.get("tags"):
        yield "ecr:TagResource", _repository(stack, call), {}
    if call.action in ("rds:CreateDBSnapshot", "rds:CreateDBClusterSnapshot"):
        yield call.action, _snapshot(stack, call), {}
        if "Tags.Tag.1.Key" in call.parameters:
            yield "rds:AddTagsToResource", _snapshot(stack, call), {}


def _tagging(stack: LocalStack, call: Call) -> Iterator[Need]:
    if call.parameters.get("tags"):
        cluster = _cluster(stack, call).rsplit("/", 1)[-1]
        told = {f"aws:RequestTag/{tag['key']}": tag["value"] for tag in call.parameters["tags"]}
        yield "ecs:TagResource", stack.arn("ecs", f"task/{cluster}/*"), {"ecs:CreateAction": "RunTask", **told}


def _decrypting(stack: LocalStack, call: Call) -> Iterator[Need]:
    """Yield what S3 asks of KMS in the caller's name, for an object that a key of the account encrypts."""
    buckets = s3_backends[stack.account][get_partition(stack.region)].buckets
    bucket = buckets.get(call.parameters["Bucket"])
    found = bucket.keys.get(call.parameters["Key"]) if bucket else None
    if found is not None and found.encryption == "aws:kms" and found.kms_key_id:
        yield "kms:Decrypt", str(found.kms_key_id), {"kms:ViaService": service_host(call.region, "s3")}


def _cluster(stack: LocalStack, call: Call) -> str:
    name = str(call.parameters.get("cluster", "default"))
    return name if name.startswith("arn:") else stack.arn("ecs", f"cluster/{name}")


def _definition(stack: LocalStack, call: Call) -> str:
    name = str(call.parameters["taskDefinition"])
    return name if name.startswith("arn:") else stack.arn("ecs", f"task-definition/{name}")


def _object(stack: LocalStack, call: Call) -> str:
    return stack.arn("s3", f"{call.parameters['Bucket']}/{call.parameters['Key']}")


def _task(stack: LocalStack, call: Call, name: str) -> str:
    cluster = _cluster(stack, call).rsplit("/", 1)[-1]
    return name if name.startswith("arn:") else stack.arn("ecs", f"task/{cluster}/{name}")


def _service(stack: LocalStack, call: Call) -> str:
    cluster = _cluster(stack, call).rsplit("/", 1)[-1]
    return stack.arn("ecs", f"service/{cluster}/{call.parameters['services'][0]}")


def _repository(stack: LocalStack, call: Call) -> str:
    names = call.parameters.get("repositoryNames") or [call.parameters.get("repositoryName", "*")]
    return stack.arn("ecr", f"repository/{names[0]}")


def _log_group(stack: LocalStack, call: Call) -> str:
    name = call.parameters.get("logGroupName", "")
    stream = call.parameters.get("logStreamName")
    # A stream's ARN ends with its name, a group's ARN in IAM with a colon and an asterisk.
    return stack.arn("logs", f"log-group:{name}:log-stream:{stream}" if stream else f"log-group:{name}:*")


def _role(stack: LocalStack, call: Call) -> str:
    """Return the role's ARN with its path, which is not in the call."""
    name = call.parameters["RoleName"]
    known = (str(role.arn) for role in stack.iam.roles.values() if role.name == name)
    return next(known, stack.arn("iam", f"role/{name}"))


def _database(stack: LocalStack, call: Call) -> str:
    return stack.arn("rds", f"db:{call.parameters.get('DBInstanceIdentifier', '*')}")


def _snapshot(stack: LocalStack, call: Call) -> str:
    of_cluster = call.parameters.get("DBClusterSnapshotIdentifier")
    if of_cluster is not None:
        return stack.arn("rds", f"cluster-snapshot:{of_cluster}")
    return stack.arn("rds", f"snapshot:{call.parameters.get('DBSnapshotIdentifier', '*')}")


def _database_cluster(stack: LocalStack, call: Call) -> str:
    return stack.arn("rds", f"cluster:{call.parameters.get('DBClusterIdentifier', '*')}")


_RESOURCES: Mapping[str, Callable[[LocalStack, Call], str]] = {
    "ecs:DescribeClusters": lambda stack, call: stack.arn("ecs", f"cluster/{call.parameters['clusters'][0]}"),
    "ecs:DescribeServices": _service,
    "ecs:RegisterTaskDefinition": lambda stack, call: stack.arn(
        "ecs", f"task-definition/{call.parameters['family']}:*"
    ),
    "ecs:RunTask": _definition,
    "ecr:BatchGetRepositoryScanningConfiguration": _repository,
    "ecr:CreateRepository": _repository,
    "ecr:DescribeImages": _repository,
    "ecr:DescribeRepositories": _repository,
    "iam:GetRole": _role,
    "iam:SimulatePrincipalPolicy": lambda _, call: str(call.parameters["PolicySourceArn"]),
    "logs:CreateLogGroup": _log_group,
    "logs:GetLogEvents": _log_group,
    "logs:PutRetentionPolicy": _log_group,
    "rds:CreateDBSnapshot": _database,
    "rds:CreateDBClusterSnapshot": _database_cluster,
    "rds:DescribeDBClusters": _database_cluster,
    "rds:DescribeDBClusterSnapshots": _snapshot,
    "rds:DescribeDBInstances": _database,
    "rds:DescribeDBSnapshots": _snapshot,
    "s3:GetObject": _object,
    "secretsmanager:DescribeSecret": lambda _, call: str(call.parameters["SecretId"]),
}
