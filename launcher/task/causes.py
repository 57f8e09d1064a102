"""What ECS's messages about a task mean, and what to do about them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.aws.partitions import endpoint_name
from launcher.aws.refusals import advice, denial
from launcher.environment.service import STARTING_SERVICES
from launcher.models import Place


@dataclass(frozen=True)
class Cause:
    """Why a task did not start.

    Attributes:
        message: the cause in one sentence.
        hint: what to do.
    """

    message: str
    hint: str


_NO_WAY_OUT = re.compile(
    r"i/o timeout|context deadline exceeded|RequestCanceled|connection issue|Client\.Timeout|no route to host|"
    r"request canceled while waiting for connection|no such host|connection refused",
    re.IGNORECASE,
)

_SECRET = re.compile(r"arn:aws[\w-]*:secretsmanager:[\w:/+=.@!-]+(?<!:)")
_HOST = re.compile(r"[\w.-]+\.amazonaws\.(?:com(?:\.cn)?|eu)")
NO_CAPACITY = "Run the same command again in some minutes, or give subnets of another zone with --subnets."
_CAUSES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"descriptor matching platform|exec format error|no match for platform", re.IGNORECASE),
        "The image is not for the platform that the task runs on.",
        "Build it for that platform: leave --image out, or give --platform.",
    ),
    (
        re.compile(r"CannotPullContainerError.*(not found|manifest unknown|does not exist)", re.DOTALL),
        "The image that the task definition names is not in the registry.",
        "Leave --image out, so that it is built, or look with:"
        " aws ecr describe-images --repository-name {repository} --region {region}",
    ),
    (
        re.compile(r"CannotPullContainerError"),
        "The image can't be pulled.",
        "The execution role must be allowed to pull from {repository}. See what is missing: launcher doctor",
    ),
    (
        re.compile(r"log group does not exist", re.IGNORECASE),
        "The log group {log_group} does not exist.",
        "Run the same command again: it makes the log group.",
    ),
    (
        re.compile(r"did not contain json key|can't find the specified secret|invalid ssm parameters", re.IGNORECASE),
        "The secret that holds the database's password does not exist, or has no such key.",
        "Name the right one with --db-password-secret (ARN:password:: for a key of a JSON secret).",
    ),
    (
        re.compile(r"Access to KMS is not allowed|ciphertext refers to a customer master key|DecryptionFailure"),
        "The KMS key that encrypts the database's password is not there, or the execution role may not use it"
        " (kms:Decrypt).",
        "Allow kms:Decrypt on that key in the role's policy, and in the key's own. Look with: launcher doctor",
    ),
    (
        re.compile(r"marked (?:for deletion|deleted)", re.IGNORECASE),
        "The secret that holds the database's password is to be deleted, and nobody can read it.",
        "Restore it: aws secretsmanager restore-secret --region {region} --secret-id {secret}",
    ),
    (
        re.compile(r"unexpected ARN format", re.IGNORECASE),
        "ECS does not understand the ARN of the database's password.",
        "Give the secret's own ARN with --db-password-secret, or ARN:KEY:: (three colons) for a key of a JSON secret.",
    ),
    (
        re.compile(r"unable to assume the role|could not assume", re.IGNORECASE),
        "ECS may not assume the task's roles.",
        "Let ecs-tasks.amazonaws.com assume the execution and the task role in their trust policies.",
    ),
    (
        re.compile(r"capacity is unavailable|RESOURCE:|no capacity", re.IGNORECASE),
        "Fargate has no capacity now.",
        NO_CAPACITY,
    ),
    (
        re.compile(r"executable file not found|no such file or directory", re.IGNORECASE),
        "The image does not hold the program that it is to run.",
        "Leave --image out, so that the image is built from this checkout.",
    ),
)


def cause(text: str, place: Place) -> Cause:
    """Return the cause behind ECS's messages about a task that did not start."""
    denied = denial(text)
    if denied is not None:
        principal, action, resource = denied
        role = principal.split("/")[1] if "/" in principal else principal
        key = ", and kms:Decrypt if a key of your own encrypts it" if "Secret" in action else ""
        return Cause(
            f"The role {role} may not do {action} on {resource or 'what it needs'}.",
            advice(text) or f"Allow {action} in the role's policy{key}. See whether it is enough: launcher doctor",
        )
    if _NO_WAY_OUT.search(text):
        endpoints = ", ".join(endpoint_name(place.region, name) for name in (*STARTING_SERVICES, "secretsmanager"))
        host = _HOST.search(text)
        return Cause(
            f"The task's subnets have no way out to {host[0] if host else 'AWS'}.",
            f"Give them a NAT gateway, or the VPC endpoints {endpoints} (ssm where a parameter holds the password)."
            " Look with: launcher doctor",
        )
    for pattern, message, hint in _CAUSES:
        if pattern.search(text):
            secret = _SECRET.search(text)
            words = {**vars(place), "secret": secret[0] if secret else "ARN"}
            return Cause(message.format(**words), hint.format(**words))
    if "ResourceInitializationError" in text:
        return Cause(
            "What it needs first (the secret, the login to the registry, the log) could not be prepared.",
            "Often that passes: run the same command again. If not, look with: launcher doctor",
        )
    return Cause("ECS gives the reason above.", "Look with: launcher doctor")
