"""What is configured to give AWS credentials, and so what to do where they are missing, expired or not accepted."""

from __future__ import annotations

import os
import shlex

import botocore.session
from botocore.exceptions import ConfigParseError, InvalidConfigError, RefreshWithMFAUnsupportedError

# What gives a profile credentials, in botocore's order.
_BY_SETTING = {
    "web_identity_token_file": "Look at the file with the profile's token: {get}",
    "sso_account_id": "Sign in anew: aws sso login {profile}",
    "sso_role_name": "Sign in anew: aws sso login {profile}",
    "aws_access_key_id": "Give the profile keys that are valid: aws configure {profile}",
    "aws_secret_access_key": "Give the profile keys that are valid: aws configure {profile}",
    "login_session": "Sign in anew: aws login {profile}",
    "credential_process": "Run the program that the profile names by itself: {get}",
    "credential_source": "See whether this machine has what the profile names: {get}",
    "role_arn": "Put right what {file} says of the profile {name}.",
}
_BY_VARIABLE = {
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "Look at the role of this container's task.",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "Look at what AWS_CONTAINER_CREDENTIALS_FULL_URI and"
    " AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE name.",
}


def remedy(named: str | None, error: Exception | None = None, *, asks: bool = True) -> str:
    """Return what to do to have credentials that work, as a hint.

    Args:
        named: the profile that the caller names; without one AWS's own order decides.
        error: why botocore has none; None if it has some that AWS does not accept.
        asks: whether who needs them asks for an MFA code.
    """
    environ = os.environ
    if not named and environ.get("AWS_ACCESS_KEY_ID"):
        return (
            "Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN anew, or unset them and name a profile"
            " (`aws configure list-profiles`) with --profile."
        )
    if isinstance(error, RefreshWithMFAUnsupportedError):
        return "Run the same command again, with the next MFA code."
    session = botocore.session.get_session()
    if named:
        session.set_config_variable("profile", named)
    name, file = session.get_config_variable("profile") or "default", session.get_config_variable("config_file")
    try:
        profiles = session.full_config["profiles"]
    except ConfigParseError as unreadable:
        return f"Put {unreadable.kwargs['path']} right: it is to have the form of an INI file."
    if name not in profiles and name != "default":
        return "List the profiles that there are with `aws configure list-profiles`, and name one with --profile."
    first, settings, seen = name, profiles.get(name, {}), {name}
    if not named and "role_arn" not in settings and environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return "Look at what AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN name."
    found = "role_arn" if isinstance(error, InvalidConfigError) else None
    while found is None and "role_arn" in settings and str(settings.get("source_profile")) in profiles.keys() - seen:
        name = settings["source_profile"]
        seen.add(name)
        settings = profiles[name]
    if not asks and any({"role_arn", "mfa_serial"} <= profiles.get(each, {}).keys() for each in seen):
        return (
            "Neither Terraform nor a run without a terminal asks for an MFA code. Hand over a session that was signed"
            " in (without --profile):"
            f' eval "$(aws configure export-credentials --profile {shlex.quote(first)} --format env)"'
        )
    found = found or next((setting for setting in _BY_SETTING if setting in settings), None)
    if found is not None:
        profile = f"--profile {shlex.quote(name)}"
        get = f"aws configure get {found} {profile}"
        return _BY_SETTING[found].format(file=file, name=name, profile=profile, get=get)
    for variable, hint in _BY_VARIABLE.items():
        if variable in environ:
            return hint
    return (
        "Name a profile (`aws configure list-profiles`) with --profile or AWS_PROFILE, or set AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY."
    )
