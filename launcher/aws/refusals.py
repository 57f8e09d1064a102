"""Map AWS's error codes to the launcher's errors."""

from __future__ import annotations

import re

from launcher.errors import AccessDeniedError, AwsError, CredentialsError, NotFoundError, TransientAwsError

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_INVALID = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException"}
_THROTTLED = {
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
}
_NOT_FOUND = re.compile(r"NotFound|^NoSuch")
_DENIAL = re.compile(
    r"(?:User|principal):? (?P<principal>arn:\S+) is not authorized to perform:? (?P<action>[\w-]+:\w+)"
    r"(?: on resource:? (?P<resource>\S+))?"
)


def denial(message: str) -> tuple[str, str, str] | None:
    """Return principal, action and resource from AWS's message about a denied permission; None for other messages."""
    found = _DENIAL.search(message)
    if found is None:
        return None
    return found["principal"], found["action"], (found["resource"] or "").rstrip(".,;")


def refusal(action: str, code: str, message: str, status: int, *, sign_in: str) -> AwsError:
    """Return the error for a call that AWS refused.

    Args:
        action: the call as an IAM action.
        code: AWS's error code.
        message: AWS's error message.
        status: the HTTP status.
        sign_in: hint on how to get credentials.
    """
    message = message or code
    if code in _EXPIRED:
        return CredentialsError("The AWS credentials have expired.", hint=sign_in, action=action, code=code)
    if code in _INVALID:
        return CredentialsError(
            f"AWS does not accept these credentials: {message}", hint=sign_in, action=action, code=code
        )
    if code in _DENIED:
        return _denied(action, code, message)
    if code in _THROTTLED or status >= 500:
        return TransientAwsError(
            f"AWS can't serve {action} now: {message}",
            hint="Wait a minute, then run the same command again.",
            action=action,
            code=code,
        )
    kind = NotFoundError if _NOT_FOUND.search(code) else AwsError
    return kind(
        f"AWS refused {action}: {message}", hint="Look for the cause with: launcher doctor", action=action, code=code
    )


def _denied(action: str, code: str, message: str) -> AccessDeniedError:
    principal, denied, resource = denial(message) or ("", action, "")
    on = f" on {resource}" if resource else ""
    found = _DENIAL.search(message)
    why = message[found.end() :].strip(" .").removeprefix("because ") if found else message
    refused = AccessDeniedError(
        f"{principal or 'The caller'} may not do {denied}{on}.",
        hint="`launcher iam-policy` prints the policy that the caller needs.",
        details=(f"AWS says: {why}",) if why else (),
        action=denied,
        code=code,
    )
    refused.principal, refused.resource = principal, resource
    return refused
