"""Map AWS's error codes to the launcher's errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from launcher.errors import AccessDeniedError, AwsError, CredentialsError, NotFoundError, TransientAwsError

# Codes without the ending that some protocols add, and without the service that some put before a dot.
_ENDING = r"(?:Exception|Fault)"
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}
# EC2 also says RequestExpired of credentials.
_WRONG_TIME = {"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
_WRONG_TIME_WORDS = re.compile("Signature (?:expired|not yet current)", re.IGNORECASE)
_INVALID = {
    "AuthFailure",
    "IDPRejectedClaim",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidIdentityToken",
    "InvalidSecurity",
    "InvalidSignature",
    "InvalidToken",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
}
BAD_CREDENTIALS = re.compile(rf"\b(?:{'|'.join(sorted(_EXPIRED | _WRONG_TIME | _INVALID))}){_ENDING}?\b")
"""Matches a code that is about the credentials, where another program quotes AWS."""
# Often after the name of who denied it: KMSAccessDenied.
_DENIED = ("AccessDenied", "Forbidden", "NotAuthorized", "Unauthorized", "UnauthorizedAccess", "UnauthorizedOperation")
_THROTTLED = {
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttled",
    "Throttling",
    "TooManyRequests",
}
# By call, the codes that say that there is no such thing, as botocore has them; any other one is a refusal.
_NOT_FOUND = {
    "ecr:DescribeImages": {"ImageNotFoundException", "RepositoryNotFoundException"},
    "ecr:DescribeRepositories": {"RepositoryNotFoundException"},
    "ecs:DescribeServices": {"ClusterNotFoundException"},
    "iam:GetRole": {"NoSuchEntity"},
    "iam:SimulatePrincipalPolicy": {"NoSuchEntity"},
    "logs:GetLogEvents": {"ResourceNotFoundException"},
    "rds:DescribeDBClusterSnapshots": {"DBClusterSnapshotNotFoundFault"},
    "rds:DescribeDBClusters": {"DBClusterNotFoundFault"},
    "rds:DescribeDBInstances": {"DBInstanceNotFound"},
    "rds:DescribeDBSnapshots": {"DBSnapshotNotFound"},
    "s3:GetObject": {"NoSuchKey"},
    "secretsmanager:DescribeSecret": {"ResourceNotFoundException"},
}
_DENIAL = re.compile(
    r"(?:User|principal):? (?P<principal>arn:\S+) is not authorized to perform:? (?P<action>[\w-]+:\w+)"
    r"(?: on resource:? (?P<resource>\S+))?"
)

# Where the cluster, the network or the roles may be wrong, which doctor looks at.
_EXAMINED = ("ecs:RegisterTaskDefinition", "ecs:RunTask")
_EXAMINED_CODES = {"ClientException", "ClusterNotFoundException", "InvalidParameterException"}
IAM_POLICY = "Give the caller the policy that `launcher iam-policy` prints."
_ROLE = "Have the role's trust policy allow it, and a policy of who asks; or name another profile with --profile."
# What else than a missing permission denies a call, in AWS's words, and what to do: to allow more would not help.
_DENIERS = (
    (
        re.compile(
            r"((?:service control|resource control|declarative) policy|(?<=organizational )policy)", re.IGNORECASE
        ),
        "A {0} of the organization denies it, whatever the account's own policies say: ask the organization's"
        " administrator.",
    ),
    (
        re.compile(r"BlockedException|account (?:is|was|has been)(?: currently)? (?:blocked|suspended)", re.IGNORECASE),
        "AWS has blocked the account, whatever its policies say: ask AWS Support.",
    ),
    (
        re.compile(r"permissions boundary", re.IGNORECASE),
        "A permissions boundary denies it, whatever the policies say: ask whoever set the boundary.",
    ),
    (
        re.compile(r"session policy", re.IGNORECASE),
        "The policy of this session denies it, whatever the role's policies say: sign in without it, or widen it"
        " where the session is made.",
    ),
    (
        re.compile(r"VPC endpoint policy", re.IGNORECASE),
        "The policy of a VPC endpoint denies it: widen that, or go by another way.",
    ),
    (
        re.compile(r"resource-based policy|role trust policy", re.IGNORECASE),
        "The resource's own policy denies it, or has to allow it to another account: widen that.",
    ),
    (
        re.compile(r"tag polic|TagPolic", re.IGNORECASE),
        "A tag policy of the organization wants other tags: ask the organization's administrator.",
    ),
    (
        re.compile(r"explicit deny", re.IGNORECASE),
        "A policy denies it outright, which no other can undo: look for its Deny, and what condition that has.",
    ),
)


def advice(message: str) -> str | None:
    """Return what to do if something else than a missing permission denies a call; None if it is not told."""
    for denier, what in _DENIERS:
        found = denier.search(message)
        if found is not None:
            return what.format(*(word.lower() for word in found.groups()))
    return None


def denial(message: str) -> tuple[str, str, str] | None:
    """Return principal, action and resource from AWS's message about a denied permission; None for other messages."""
    found = _DENIAL.search(message)
    if found is None:
        return None
    return found["principal"], found["action"], (found["resource"] or "").rstrip(".,;")


def failure_text(failure: Mapping[str, Any]) -> str:
    """Return the text of a failure that ECS puts into an answer."""
    return " ".join(filter(None, (failure.get("reason"), failure.get("detail")))) or "it gives no reason"


def refusal(action: str, code: str, message: str, status: int, *, sign_in: str) -> AwsError:
    """Return the error for a call that AWS refused.

    Args:
        action: the call as an IAM action.
        code: AWS's error code.
        message: AWS's error message.
        status: the HTTP status.
        sign_in: hint on how to get credentials.
    """
    message, bare = message or code, re.sub(f"{_ENDING}$", "", code.rpartition(".")[2])
    if bare in _WRONG_TIME or _WRONG_TIME_WORDS.search(message):
        return CredentialsError(
            f"AWS does not accept the time of this call: {message}",
            hint="Set this machine's clock, which `date -u` shows: sudo timedatectl set-ntp true"
            + (" (if it is right, the credentials have expired: sign in anew)" if bare == "RequestExpired" else ""),
            action=action,
            code=code,
        )
    if bare in _EXPIRED:
        return CredentialsError("The AWS credentials have expired.", hint=sign_in, action=action, code=code)
    if bare in _INVALID:
        return CredentialsError(
            f"AWS does not accept these credentials: {message}", hint=sign_in, action=action, code=code
        )
    if "MultiFactorAuthentication failed" in message:
        return CredentialsError(
            "AWS does not accept this MFA code.",
            hint="Run the same command again with the next one.",
            action=action,
            code=code,
        )
    if bare.endswith(_DENIED):
        return _denied(action, code, message)
    if bare in _THROTTLED or status >= 500:
        return TransientAwsError(
            f"AWS can't serve {action} now: {message}",
            hint="Wait a minute, then run the same command again.",
            action=action,
            code=code,
        )
    kind = NotFoundError if code in _NOT_FOUND.get(action, ()) else AwsError
    examined = action in _EXAMINED and code in _EXAMINED_CODES
    hint = advice(f"{code} {message}") or ("Look for the cause with: launcher doctor" if examined else None)
    return kind(f"AWS refused {action}: {message}", hint=hint, action=action, code=code)


def _denied(action: str, code: str, message: str) -> AccessDeniedError:
    principal, denied, resource = denial(message) or ("", action, "")
    on = f" on {resource}" if resource else ""
    found = _DENIAL.search(message)
    why = message[found.end() :].strip(" .").removeprefix("because ") if found else message
    refused = AccessDeniedError(
        f"{principal or 'The caller'} may not do {denied}{on}.",
        hint=advice(message) or (_ROLE if denied.startswith("sts:AssumeRole") else IAM_POLICY),
        details=(f"AWS says: {why}",) if why else (),
        action=denied,
        code=code,
    )
    refused.principal, refused.resource = principal, resource
    return refused
