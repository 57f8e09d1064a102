"""AWS's partitions: what ARNs begin with, and what hosts end with, in GovCloud, China and the others."""

from __future__ import annotations

import functools
from typing import Any

from botocore.endpoint_provider import RuleSetStandardLibrary
from botocore.loaders import create_loader

# Of the services that a task needs, these alone name their VPC endpoints by the partition's own suffix, as the tables
# in aws-cdk show: https://github.com/aws/aws-cdk/pull/16139
_BY_SUFFIX = frozenset({"ecr.api", "ecr.dkr"})


def arn(service: str, region: str, account: str, resource: str) -> str:
    """Return the ARN of a resource; those of IAM and STS have no region, and S3's neither region nor account."""
    where = {"iam": f":{account}", "sts": f":{account}", "s3": ":"}.get(service, f"{region}:{account}")
    return f"arn:{_partition(region)['name']}:{service}:{where}:{resource}"


def registry(region: str, account: str) -> str:
    """Return the host of an account's ECR."""
    return f"{account}.dkr.ecr.{region}.{_partition(region)['dnsSuffix']}"


def service_host(region: str, service: str) -> str:
    """Return the host of a service in a region, as in `kms:ViaService`."""
    return f"{service}.{region}.{_partition(region)['dnsSuffix']}"


def endpoint_name(region: str, service: str) -> str:
    """Return the name of a service for VPC endpoints, such as `com.amazonaws.ap-northeast-1.ecr.api`."""
    suffix = _partition(region)["dnsSuffix"] if service in _BY_SUFFIX else "amazonaws.com"
    return f"{'.'.join(reversed(suffix.split('.')))}.{region}.{service}"


@functools.cache
def _partition(region: str) -> Any:
    """Return botocore's description of a region's partition; a region that it does not know counts as public."""
    return RuleSetStandardLibrary(create_loader().load_data("partitions")).aws_partition(region)
