"""From options, Terraform outputs and the running service to one `Stack` with the source of each value."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.environment import forms
from launcher.environment.host import address, elsewhere, writer
from launcher.environment.options import Options
from launcher.environment.password import find_password
from launcher.environment.rds import RdsHost
from launcher.environment.service import gives_network, network_for
from launcher.errors import ConfigurationError, CredentialsError
from launcher.machine.process import Runner
from launcher.models import Identity, Place, Sourced, Stack
from launcher.terraform.outputs import ObjectReader, Outputs, read_outputs

if TYPE_CHECKING:
    from launcher.aws.client import Aws

DEFAULT_REGION = "ap-northeast-1"
CONTAINER = "migrate"

# Only what the tasks run in or connect to: another account may share a key, a secret or an image.
_STACK_ARN = re.compile(r"^arn:aws[\w-]*:(?:ecs|rds):[\w-]*:(\d{12}):(?:cluster|service|db)[:/]")
# Outputs required from Terraform if no option gives the value.
_OUTPUTS = {
    "cluster": "ecs_cluster_name",
    "service": "backend_go_service_name",
    "db_host": "rds_host",
    "db_port": "rds_port",
    "db_name": "rds_database_name",
    "db_user": "rds_username",
    "subnets": "private_subnet_ids",
}
_DEFAULTS: Mapping[str, Any] = {"db_port": 5432, "db_name": "neuraKnot", "db_user": "postgres"}


def outputs_for(
    options: Options, run: Runner, s3: Callable[[str | None], ObjectReader], *, needed: frozenset[str] | None = None
) -> Outputs:
    """Return the environment's Terraform outputs; none if the options give everything that is needed.

    Args:
        options: the caller's values.
        run: starts `terraform`.
        s3: makes a reader for the region of the state's bucket.
        needed: names of options; by default those that a `Stack` requires.

    Raises:
        ConfigurationError: values are missing and Terraform has none, or its state is another environment's.
    """
    if needed is None:
        needed = frozenset({"cluster", "db_host"} | (set() if gives_network(options.given) else {"service"}))
    missing = sorted(needed - set(options.given))
    if not missing:
        return Outputs()
    directory = options.directory
    if not directory.is_dir():
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise ConfigurationError(
            f"There is no Terraform root {directory} for the environment {options.environment}.",
            hint=f"{_other_roots(options)}, or give {flags}.",
        )
    outputs = read_outputs(
        directory, run, s3, workspace=options.workspace, redirected=options.redirected, profile=options.profile
    )
    of = outputs.get("environment")
    if of is not None and of.value != options.environment:
        raise ConfigurationError(
            f"The Terraform state of {directory} is of the environment {of.value}, not {options.environment}.",
            hint="Name the right root with --terraform-dir or TF_WORKSPACE, or its environment: "
            f"launcher doctor --environment {shlex.quote(of.value)} --terraform-dir {shlex.quote(str(directory))}",
        )
    return outputs


def region_for(options: Options, outputs: Outputs) -> Sourced[str]:
    """Return the region: the caller's, else Terraform's, else Tokyo."""
    return options.given.get("region") or outputs.get("aws_region") or Sourced(DEFAULT_REGION, "default")


def identify(options: Options, outputs: Outputs, aws: Aws) -> Identity:
    """Return the caller's identity.

    Raises:
        CredentialsError: the credentials are for another account than the stack's.
    """
    identity = aws.identity()
    expected = _expected_account(options, outputs)
    if expected is not None and expected.value != identity.account:
        raise CredentialsError(
            f"These credentials are of the account {identity.account} (role {identity.role}), but {options.environment}"
            f" lives in the account {expected.value} ({expected.source}).",
            hint=f"Sign in to the other account (if it is this one, give --account {identity.account}), or name a"
            " profile of it with --profile: aws configure list-profiles",
        )
    return identity


def value_for(options: Options, outputs: Outputs, name: str) -> Sourced[Any]:
    """Return a value from the caller, else from Terraform.

    Args:
        options: the caller's values.
        outputs: Terraform's outputs.
        name: an option's name: `cluster`, `db_host`, ...

    Raises:
        ConfigurationError: the value is missing or not valid.
    """
    if name == "db_port":
        return _port_for(options, outputs)
    if name in options.given:
        found = options.given[name]
    elif name in _DEFAULTS and outputs.directory is None:
        found = Sourced(_DEFAULTS[name], "default")
    else:
        found = outputs.require(_OUTPUTS[name], f"--{name.replace('_', '-')}")
        forms.check(name, found, ConfigurationError)
    if name == "db_host":
        return writer(address(found)[0])
    # ECS accepts an ARN as a name, but IAM's ARNs are built from names.
    return Sourced(found.value.rsplit("/", 1)[-1], found.source) if name in ("cluster", "service") else found


def values_for(options: Options, outputs: Outputs) -> Mapping[str, Sourced[Any]]:
    """Return all values that a stack needs from the caller and Terraform, by option name.

    Raises:
        ConfigurationError: a value is missing or not valid.
    """
    names = ["cluster", "db_host", "db_port", "db_name", "db_user"]
    if outputs.directory is not None:
        names.append("subnets")  # only checked: the service's own are used, but a valid state has them
    if not gives_network(options.given):
        names.append("service")
    return {name: value_for(options, outputs, name) for name in names}


def instance_for(options: Options, host: str) -> Sourced[str] | None:
    """Return the RDS instance or cluster: the caller's, else the one in the host name; None if the host names none."""
    given, found = options.given.get("db_instance"), RdsHost.parse(host)
    if given is not None:
        return Sourced(given.value.lower(), given.source)  # as RDS keeps names, and ARNs have them
    return Sourced(found.name, "the database's host name") if found else None


@dataclass(frozen=True)
class StackNames:
    """What options and Terraform name of a stack, even if only some of it can be read; else the usual names.

    Attributes:
        cluster: the ECS cluster.
        service: the backend's service; None if the caller gives the network instead.
        db_host: the database's host; None if it is not known.
        db_instance: the RDS instance or cluster; None if the host names none.
    """

    cluster: str
    service: str | None
    db_host: str | None
    db_instance: Sourced[str] | None

    @classmethod
    def of(cls, options: Options, outputs: Outputs) -> StackNames:
        """Read the names; what is missing or not valid is left to `values_for` to report."""
        names, host = options.names, known(options, outputs, "db_host")
        service = None if gives_network(options.given) else known(options, outputs, "service") or names.service
        usual = Sourced(names.db_instance, "its usual name") if host is None else None
        instance = instance_for(options, host or "") or usual
        return cls(known(options, outputs, "cluster") or names.cluster, service, host, instance)


def known(options: Options, outputs: Outputs, name: str) -> Any:
    """Return a value like `value_for`, or None where that raises."""
    try:
        return value_for(options, outputs, name).value
    except ConfigurationError:
        return None


def resolve(options: Options, outputs: Outputs, aws: Aws, identity: Identity, environ: Mapping[str, str]) -> Stack:
    """Combine all sources into the stack.

    Args:
        options: the caller's values.
        outputs: Terraform's outputs.
        aws: for the stack's region; only read from.
        identity: from `identify`.
        environ: for `DB_PASSWORD` and `TF_VAR_db_password`.

    Raises:
        ConfigurationError: a value is missing, or the service can't be used.
        AwsError: AWS refused a call.
    """
    region = region_for(options, outputs)
    values = values_for(options, outputs)
    network = network_for(options.given, values["cluster"], values.get("service"), aws, identity, region)
    instance = instance_for(options, values["db_host"].value)
    return Stack(
        environment=options.environment,
        production=options.production or elsewhere(values["db_host"].value, outputs),
        identity=identity,
        region=region,
        cluster=values["cluster"],
        service=network.service,
        subnets=network.subnets,
        security_groups=network.security_groups,
        assign_public_ip=network.assign_public_ip,
        execution_role=network.execution_role,
        task_role=network.task_role,
        platform=network.platform,
        db_instance=instance,
        db_host=values["db_host"],
        db_port=values["db_port"],
        db_name=values["db_name"],
        db_user=values["db_user"],
        db_sslmode=options.given.get("db_sslmode") or Sourced("require", "default"),
        db_sslrootcert=options.given.get("db_sslrootcert"),
        password=find_password(
            options,
            outputs,
            aws,
            environ,
            instance=instance,
            host=values["db_host"].value,
            user=values["db_user"].value,
        ),
        family=options.names.family,
        container=CONTAINER,
        repository=options.names.repository,
        log_group=options.names.log_group,
    )


def place_for(options: Options, outputs: Outputs) -> Place:
    """Return where an environment's tasks run, which is enough to look at them.

    Raises:
        ConfigurationError: the cluster is not known.
    """
    return Place(
        environment=options.environment,
        region=region_for(options, outputs).value,
        cluster=value_for(options, outputs, "cluster").value,
        family=options.names.family,
        container=CONTAINER,
        repository=options.names.repository,
        log_group=options.names.log_group,
    )


def _port_for(options: Options, outputs: Outputs) -> Sourced[int]:
    host = options.given.get("db_host") or outputs.get("rds_host")
    beside = address(host)[1] if host else None
    found = options.given.get("db_port") or outputs.get("rds_port") or beside
    if found is None:
        no_terraform = outputs.directory is None
        found = Sourced(_DEFAULTS["db_port"], "default") if no_terraform else outputs.require("rds_port", "--db-port")
    port = Sourced(_port(found), found.source)
    if host is not None and beside is not None and beside.value != port.value:
        raise ConfigurationError(
            f"The database's port is {port.value} ({port.source}), but {host.value} ({host.source}) has another.",
            hint=f"Give both: --db-host {address(host)[0].value} --db-port {port.value}",
        )
    return port


def _port(value: Sourced[Any]) -> int:
    try:
        port = int(value.value)
    except (TypeError, ValueError):
        port = 0
    if not 1 <= port <= 65535:
        raise ConfigurationError(f"{value.value!r} ({value.source}) is not a valid port.", hint="Give --db-port 5432.")
    return port


def _expected_account(options: Options, outputs: Outputs) -> Sourced[str] | None:
    """Return the stack's account: as given, or from Terraform's outputs."""
    told = options.given.get("account") or outputs.get("aws_account_id") or outputs.get("account_id")
    if told is not None:
        return Sourced(str(told.value), told.source)
    for name, value in outputs.values.items():
        found = _STACK_ARN.match(value) if isinstance(value, str) else None
        if found is not None:
            return Sourced(found[1], f"{outputs.origin} {name}")
    return None


def _other_roots(options: Options) -> str:
    """Return how to name another Terraform root: of the checkout, or of none."""
    root = options.root / "terraform" / "environments"
    if options.terraform_dir is None and not root.is_dir():
        return "Run it in a checkout, or name that with --root or the Terraform root with --terraform-dir"
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    there_are = f"There are: {', '.join(names)}. " if names else ""
    return f"{there_are}Name one with --environment or --terraform-dir"
