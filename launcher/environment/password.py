"""How the container gets the database password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.environment.host import elsewhere
from launcher.environment.rds import RdsDatabase, find_rds
from launcher.errors import AccessDeniedError, ConfigurationError
from launcher.models import Password, Secret, Sourced
from launcher.terraform.outputs import Outputs
from launcher.terraform.secrets import read_password

if TYPE_CHECKING:
    from launcher.aws.client import Aws
    from launcher.environment.options import Options

_SECRET = re.compile(
    r"arn:aws[\w-]*:(?:secretsmanager:[\w-]+:\d{12}:secret:[^\s:]+(?:(?::[^\s:]*){3})?|ssm:[\w-]+:\d{12}:parameter/\S+)"
)
_MANAGED = re.compile(r":secret:rds!")
_PARTS, _KEY = 10, 7  # of a reference to a secret: behind the ARN's seven are the key, the stage and the version
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
    environ: Mapping[str, str],
    *,
    instance: Sourced[str] | None,
    host: str | None,
    user: str | None,
) -> Sourced[Password]:
    """Find the password: the caller's own, else a secret, else `secrets.tfvars`, which has the master's.

    What Terraform has serves Terraform's own host only.

    Args:
        options: the caller's values.
        outputs: Terraform's outputs.
        aws: for the stack's region; no secret's value is read.
        environ: for `DB_PASSWORD` and `TF_VAR_db_password`.
        instance: the RDS instance or cluster, which may have its own secret.
        host: the database's host.
        user: the database's user; the secret that RDS manages is only the master's. None if it is not known.

    Raises:
        ConfigurationError: there is no password, or Terraform's value is not the ARN of a secret.
        AwsError: AWS refused a call.
    """
    given = options.given.get("db_password_secret")
    if given is not None:
        return _reference(given)
    for variable in ("DB_PASSWORD", "TF_VAR_db_password"):
        if environ.get(variable):
            return Sourced(Password(value=Secret(environ[variable])), variable)
    named = named_secret(options, outputs, host)
    if named is not None and not _MANAGED.search(named.value):
        return _reference(named)
    database, refused = _database(aws, instance, host)
    managed = named
    if database is not None and database.secret:  # RDS knows better than a state
        managed = Sourced(database.secret, f"MasterUserSecret of {database.name}")
    other = elsewhere(host, outputs, instance.value if instance else None)
    master = (database and database.master) or (None if other else outputs.values.get("rds_username"))
    if managed is not None and user in (None, master):
        return _reference(managed)
    from_file = None if other else read_password(options.directory)
    # Terraform's `db_password` is what it gave the master.
    if from_file is not None and (not master or user in (None, master)):
        return Sourced(Password(value=from_file.value), from_file.source)
    if refused is not None:
        raise refused
    others = ", ".join(found.source for found in (managed, from_file) if found is not None)
    there_is = f"only the password of {master or 'a master who is not known'} ({others})" if others else "no secret"
    end = f", and no {options.directory}/secrets.tfvars." if from_file is None else "."
    end = ", and what Terraform has is for its own host." if other else end
    raise ConfigurationError(
        f"There is no password for the database's user {user or ''}".rstrip() + f": {there_is}, no DB_PASSWORD{end}",
        hint=f"Set DB_PASSWORD,{'' if instance else ' or name the RDS instance or cluster with --db-instance,'} or give"
        f" a secret's ARN with --db-password-secret: aws secretsmanager list-secrets --region {aws.region}",
    )


def named_secret(options: Options, outputs: Outputs, host: str | None) -> Sourced[str] | None:
    """Return the password's reference from the caller, or from Terraform for its own host, without asking RDS.

    Raises:
        ConfigurationError: Terraform's value is not the ARN of a secret.
    """
    given, instance = options.given.get("db_password_secret"), options.given.get("db_instance")
    if given is not None or elsewhere(host, outputs, instance.value if instance else None):
        return given
    return _arn(outputs, "db_password_secret_arn") or _arn(outputs, "rds_master_user_secret_arn")


def _reference(arn: Sourced[str]) -> Sourced[Password]:
    """Return a secret's reference, completed by its key in a secret that RDS manages, which is always JSON."""
    whole = arn.value
    if _MANAGED.search(whole):
        parts = [*whole.split(":"), "", "", ""][:_PARTS]
        parts[_KEY] = parts[_KEY] or "password"
        whole = ":".join(parts)
    return Sourced(Password(reference=whole), arn.source)


def _database(
    aws: Aws, instance: Sourced[str] | None, host: str | None
) -> tuple[RdsDatabase | None, AccessDeniedError | None]:
    """Return the database in RDS; None if there is none; and the error if the caller may not look."""
    try:
        return (find_rds(aws, instance.value, host) if instance else None), None
    except AccessDeniedError as error:
        return None, error


def _arn(outputs: Outputs, name: str) -> Sourced[str] | None:
    found = outputs.get(name)
    if found is not None and not is_secret_arn(found.value):
        raise ConfigurationError(f"{found.source} is not the ARN of a secret or a parameter.", hint=ARN_HINT)
    return found
