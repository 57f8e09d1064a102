"""The policies of the stack's roles: what the execution role may do, and what the CI role may do today."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Statement = Mapping[str, Any]

EXECUTION: Statement = {
    "Effect": "Allow",
    "Action": [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ],
    "Resource": "*",
}
"""The same as AWS's AmazonECSTaskExecutionRolePolicy."""


def trust(principal: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the trust policy of a role, for a service or for an identity provider's users."""
    action = "sts:AssumeRole" if "Service" in principal else "sts:AssumeRoleWithWebIdentity"
    statement = {"Effect": "Allow", "Principal": principal, "Action": action}
    return {"Version": "2012-10-17", "Statement": [statement]}


def ci_today(arn: Callable[[str, str], str], environment: str, roles: tuple[str, ...]) -> tuple[Statement, ...]:
    """Return the CI role's policy before `launcher iam-policy`: it may push, describe, register and pass roles.

    Args:
        arn: makes an ARN from a service and a resource.
        environment: the environment whose images it may push.
        roles: the ARNs of the roles that it may pass.
    """
    return (
        {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": [
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:CompleteLayerUpload",
                "ecr:GetDownloadUrlForLayer",
                "ecr:InitiateLayerUpload",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            "Resource": arn("ecr", f"repository/neuraknot-{environment.lower()}-*"),
        },
        {
            "Effect": "Allow",
            "Action": [
                "ecs:DescribeServices",
                "ecs:DescribeTaskDefinition",
                "ecs:DescribeTasks",
                "ecs:ListTasks",
                "ecs:RegisterTaskDefinition",
                "ecs:UpdateService",
            ],
            "Resource": "*",
        },
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": list(roles)},
    )
