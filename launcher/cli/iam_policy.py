"""`launcher iam-policy`: the policy for one environment, and what its CI role lacks of it today."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launcher.cli.commands import read_terraform
from launcher.cli.shared_options import Common
from launcher.doctor import least_policy
from launcher.doctor.policy_resources import PolicyResources
from launcher.environment.options import Options
from launcher.environment.rds import RdsDatabase, find_rds
from launcher.environment.stack import identify, region_for, resolve
from launcher.errors import AwsError, ConfigurationError, CredentialsError, LauncherError
from launcher.models import Stack
from launcher.terraform.backend import S3State, backend, state_in_s3
from launcher.terraform.outputs import Outputs

if TYPE_CHECKING:
    from launcher.aws.client import Aws

_KEY = re.compile(r"arn:aws[\w-]*:kms:[\w-]+:\d{12}:key/[\w-]+")


def show(common: Common) -> int:
    """Print the policy on standard output, and its origin and what the CI role lacks on standard error.

    Returns:
        0; if something could not be read, a message says so and default names are used.

    Raises:
        CredentialsError: there are no credentials, and no account is given either.
    """
    console = common.console
    outputs = _outputs(common)
    region = region_for(common.options, outputs).value
    aws = common.aws(region)
    named = _named(common, outputs, aws, region)
    state = named.state
    if state is not None and state.by_caller:
        named = replace(named, state_key=_state_key(common, state))
    elif state is not None and state.credentials:
        needs = f"sts:AssumeRole on {state.role}" if state.role else "s3:GetObject and s3:ListBucket there"
        console.say(
            f"The Terraform state s3://{state.bucket}/{state.key} is read by whom the backend itself names"
            f" ({', '.join(state.credentials)}). That one needs {needs}, and this policy leaves it out."
        )
    role = _ci_role(common, named, aws)
    named = replace(named, caller=role)
    console.data(json.dumps(least_policy.policy(named), indent=2))
    _tell_lacking(common, named, role, aws)
    return 0


def _outputs(common: Common) -> Outputs:
    try:
        return read_terraform(common)
    except (ConfigurationError, AwsError) as error:
        common.console.say(f"Terraform's outputs can't be read. {error.message}")
        return Outputs(state=_state(common.options))


def _state(options: Options) -> S3State | None:
    """Return where the state is in S3: a caller who can't read it needs that permission first."""
    try:
        return state_in_s3(options.directory, options.workspace, *backend(options.directory))
    except (ConfigurationError, OSError):
        return None


def _state_key(common: Common, state: S3State) -> str | None:
    """Return the ARN of the key that encrypts the state: as S3 says, else as the backend's files do."""
    config: Mapping[str, Any] = {}
    with suppress(ConfigurationError, OSError):
        config = backend(common.options.directory)[1]
    try:
        return common.aws(config.get("region")).object_key(state.bucket, state.key)
    except AwsError as error:
        told = config.get("kms_key_id")
        if isinstance(told, str) and _KEY.fullmatch(told):
            return told
        common.console.say(
            f"Which key encrypts the Terraform state is not known{f' ({told})' if told else ''}: if it is one of your"
            f" own, reading the state needs kms:Decrypt on it too. {error.message}"
        )
        return None


def _named(common: Common, outputs: Outputs, aws: Aws, region: str) -> PolicyResources:
    """Return the stack's own names, or default names if it can't be read: the caller may lack permissions."""
    options = common.options
    try:
        identity = identify(options, outputs, aws)
        stack = resolve(options, outputs, aws, identity, common.dependencies.environ)
    except LauncherError as error:
        account = options.given.get("account")
        if account is None and isinstance(error, CredentialsError):
            error.hint = f"{error.hint} Or name the account: launcher iam-policy {common.shown} --account 123456789012"
            raise
        number = str(account.value) if account is not None else aws.identity().account
        common.console.say(
            "The stack can't be read, so what neither options nor Terraform's outputs name goes by its usual name."
            f" {error.message}"
        )
        return PolicyResources.by_name(options, outputs, number, region)
    return PolicyResources.of(stack, _database(common, stack, aws), outputs.state)


def _database(common: Common, stack: Stack, aws: Aws) -> RdsDatabase | None:
    """Return the database in RDS; None if it can't be looked at, and its policy will name all that it may be."""
    named = stack.db_instance
    try:
        return find_rds(aws, named.value, stack.db_host.value) if named else None
    except AwsError as error:
        common.console.say(
            "RDS can't be asked, so the policy is for an instance and for a cluster: make it anew once it can."
            f" {error.message}"
        )
        return None


def _ci_role(common: Common, named: PolicyResources, aws: Aws) -> str:
    """Return the ARN of the CI role, which gets the policy whoever the caller is; with its path if IAM returns it."""
    name = common.options.names.ci_role
    try:
        found = aws.role_arn(name)
    except AwsError:  # the next call to IAM reports why
        found = None
    return found or named.arn("iam", f"role/{name}")


def _tell_lacking(common: Common, named: PolicyResources, role: str, aws: Aws) -> None:
    console, name = common.console, role.rsplit("/", 1)[-1]
    try:
        missing = least_policy.lacking(named, role, aws)
    except AwsError as error:
        console.say(f"Which of these permissions {name} lacks could not be asked. {error.message}")
        return
    lacks = [decision for decision in missing if decision.allowed is False]
    for decision in missing:
        if decision.allowed is None:
            keys = ", ".join(decision.lacks)
            console.say(f"Not known: {decision.action} on {decision.resource}; IAM can't tell without knowing {keys}.")
    if not lacks:
        console.say(f"{name} has all {'others' if missing else 'of these permissions'}.")
        return
    console.say(f"{name} lacks:")
    width = max(len(decision.action) for decision in lacks)
    for decision in lacks:
        console.say(f"   {decision.action:<{width}} {decision.resource}")
    for remedy in least_policy.remedies(lacks):
        console.say(remedy)
    if all(decision.remedy for decision in lacks):
        return
    command = f"launcher iam-policy {common.shown} 2>/dev/null"
    console.say("To give it that:")
    console.say(
        f"   aws iam put-role-policy --role-name {name} --policy-name neuraknot-launcher "
        f'--policy-document "$({command})"'
    )
