"""The forms of what a caller or Terraform names, as AWS documents them: known without asking AWS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

# Read on each `--help`, which does not wait for more.
if TYPE_CHECKING:
    from launcher.errors import LauncherError
    from launcher.models import Sourced

# What ECR, ECS, IAM and CloudWatch Logs all take in a name; ECR is the strictest, and gets it in lowercase.
_PREFIX = r"(?=.{1,%d}\Z)[A-Za-z0-9]+(?:(?:__?|-+)[A-Za-z0-9]+)*"
_ECS = r"(?:arn:aws[\w-]*:ecs:[\w-]+:\d{12}:%s/)?[\w-]{1,255}"
_ROLE = r"arn:aws[\w-]*:iam::\d{12}:role/(?:[!-~]+/)?[\w+=,.@-]{1,64}"
_ROLE_HINT = "Look it up: aws iam get-role --role-name NAME --query Role.Arn --output text"
_FORMS: Mapping[str, tuple[str, str, str]] = {
    "environment": (_PREFIX % 41, "a valid environment name", "Name one like dev or prod with --environment."),
    "project": (
        _PREFIX % 100,
        "what names in AWS can begin with",
        "Use letters and digits, with - or _ between them: --project neuraKnot",
    ),
    "account": (
        r"\d{12}",
        "the number of an AWS account",
        "Give all twelve digits: aws sts get-caller-identity --query Account --output text",
    ),
    "cluster": (_ECS % "cluster", "the name or the ARN of an ECS cluster", "List them with: aws ecs list-clusters"),
    "service": (
        _ECS % r"service(?:/[\w-]+)?",
        "the name or the ARN of an ECS service",
        "List them with: aws ecs list-services --cluster NAME",
    ),
    "subnets": (
        "subnet-[0-9a-z]+",
        "the ID of a subnet",
        "List them with: aws ec2 describe-subnets --query 'Subnets[].[SubnetId,AvailabilityZone,CidrBlock]'",
    ),
    "security_groups": (
        "sg-[0-9a-z]+",
        "the ID of a security group",
        "List them with: aws ec2 describe-security-groups --query 'SecurityGroups[].[GroupId,GroupName]'",
    ),
    "execution_role": (_ROLE, "the ARN of a role", _ROLE_HINT),
    "task_role": (_ROLE, "the ARN of a role", _ROLE_HINT),
    "platform": ("linux/(?:amd64|arm64)", "a platform of Fargate", "Give --platform linux/amd64 or linux/arm64."),
    "db_host": (r"[\w.:%-]+", "a host's name", "Give the host alone, and the rest by options: --db-host HOST"),
}


def check(name: str, found: Sourced[Any], error: type[LauncherError]) -> None:
    """Check the value of an option, or of the output that stands for it; a list's each.

    Raises:
        LauncherError: of the type `error`: the value has not the option's form.
    """
    if name not in _FORMS:
        return
    form, what, hint = _FORMS[name]
    for value in found.value if isinstance(found.value, list | tuple) else (found.value,):
        if not re.fullmatch(form, str(value), re.ASCII):
            shown = "" if name == "db_host" else f" {value!r}"  # a URL may hold the password
            raise error(f"{found.source}{shown} is not {what}.", hint=hint)
