"""How the container gets the database password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.environment.rds import find_rds
from launcher.errors import AccessDeniedError, AwsError, ConfigurationError
from launcher.models import Password, Secret, Sourced
from launcher.terraform.outputs import Outputs
from launcher.terraform.secrets import read_password

if TYPE_CHECKING:
    from launcher.aws.client import Aws
    from launcher.environment.options import Options

_SECRET = re.compile(
    r"arn:aws[\w-]*:(?:secretsmanager:[\w-]+:\d{12}:secret:[^\s:]+(?:(?::[^\s:]*){3})?|ssm:[\w-]+:\d{12}:parameter/\S+)"
)
ARN_HINT = (
    "Write it as arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, with :KEY:: after it (three colons) for a key of"
    " a JSON secret, or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME. A password itself belongs in DB_PASSWORD."
)


def is_secret_arn(value: Any) -> bool:
    """Whether it is the ARN of a secret or parameter; otherwise it may be the password and must not be shown."""
    return isinstance(value, str) and _SECRET.fullmatch(value) is not None


def find_password(
    options: Options,
    outputs: Outputs,
    aws: Aws,
    instance: Sourced[str] | None,
    environ: Mapping[str, str],
    host: str | None = None,
) -> Sourced[Password]:
    """Find the password: a secret's ARN, else a variable, else `secrets.tfvars`.

    Args:
        options: the caller's values.
        outputs: Terraform's outputs.
        aws: for the stack's region; no secret's value is read.
        instance: the RDS instance or cluster, which may have its own secret.
        environ: for `DB_PASSWORD` and `TF_VAR_db_password`.
        host: the database's host.

    Raises:
        ConfigurationError: there is no password, or Terraform's value is not the ARN of a secret.
        AwsError: AWS refused a call.
    """
    named = named_secret(options, outputs)
    if named is not None:
        return Sourced(Password(reference=named.value), named.source)
    refused: AwsError | None = None
    if instance is not None:
        try:
            database = find_rds(aws, instance.value, host)
        except AccessDeniedError as error:
            refused = error
        else:
            if database is not None and database.secret:
                return Sourced(Password(reference=_managed(database.secret)), f"MasterUserSecret of {database.name}")
    for variable in ("DB_PASSWORD", "TF_VAR_db_password"):
        if environ.get(variable):
            return Sourced(Password(value=Secret(environ[variable])), variable)
    from_file = read_password(options.directory)
    if from_file is not None:
        return Sourced(Password(value=from_file.value), from_file.source)
    if refused is not None:
        raise refused
    raise ConfigurationError(
        f"There is no password for the database: no secret, no DB_PASSWORD, and no {options.directory}/secrets.tfvars.",
        hint=f"Set DB_PASSWORD,{'' if instance else ' or name the RDS instance or cluster with --db-instance,'} or give"
        f" a secret's ARN with --db-password-secret: aws secretsmanager list-secrets --region {aws.region}",
    )


def named_secret(options: Options, outputs: Outputs) -> Sourced[str] | None:
    """Return the password's reference from the caller or Terraform, without asking RDS.

    Raises:
        ConfigurationError: Terraform's value is not the ARN of a secret.
    """
    given = options.given.get("db_password_secret") or _arn(outputs, "db_password_secret_arn")
    if given is not None:
        return given
    managed = _arn(outputs, "rds_master_user_secret_arn")
    return Sourced(_managed(managed.value), managed.source) if managed else None


def _managed(arn: str) -> str:
    """Return the reference to the password in a secret managed by RDS."""
    return f"{arn}:password::"


def _arn(outputs: Outputs, name: str) -> Sourced[str] | None:
    found = outputs.get(name)
    if found is not None and not is_secret_arn(found.value):
        raise ConfigurationError(f"{found.source} is not the ARN of a secret or a parameter.", hint=ARN_HINT)
    return found
