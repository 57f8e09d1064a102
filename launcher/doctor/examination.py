"""What `launcher doctor` examines: from options and Terraform, even if only some of it can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from launcher.aws.client import Aws
from launcher.doctor.checks import CHECKS
from launcher.doctor.diagnose import Check, SkippedError, diagnose
from launcher.doctor.facts import Facts, Subject
from launcher.doctor.network import NETWORK_CHECKS
from launcher.doctor.report import Report
from launcher.environment.options import Options
from launcher.environment.password import find_password
from launcher.environment.stack import StackNames, identify, known, region_for, values_for
from launcher.errors import LauncherError
from launcher.terraform.backend import terraform_command
from launcher.terraform.outputs import Outputs

_GROUPS = ("Caller", "ECS", "Roles", "Network", "Database", "Image and log")
ALL_CHECKS: tuple[Check[Facts], ...] = tuple(
    sorted((*CHECKS, *NETWORK_CHECKS), key=lambda check: _GROUPS.index(check.group))
)


def examine(
    options: Options,
    outputs: Callable[[], Outputs],
    aws_for: Callable[[str], Aws],
    environ: Mapping[str, str],
    shown_options: str = "",
    shown_of_place: str = "",
) -> Report:
    """Examine an environment.

    Args:
        options: the caller's values.
        outputs: reads Terraform; its error becomes the finding about Terraform, and default names replace the outputs.
        aws_for: makes the clients for a region.
        environ: for `DB_PASSWORD` and `TF_VAR_db_password`.
        shown_options: the options that name this environment, for the proposed commands.
        shown_of_place: those of them that `logs` and `stop` take.
    """
    problem: LauncherError | None = None
    try:
        found = outputs()
        region = region_for(options, found).value
    except LauncherError as error:
        found, problem = Outputs(), error
        region = region_for(options, found).value

    def terraform() -> str:
        if problem is not None:
            raise problem
        values_for(options, found)
        if found.directory is None:
            raise SkippedError("not asked; the options give everything")
        return f"{len(found.values)} outputs in {found.directory}, by {found.origin}"

    subject = _subject(options, found, region, environ, terraform, shown_options, shown_of_place)
    return diagnose(ALL_CHECKS, Facts(subject, aws_for), shown_options)


def _subject(
    options: Options,
    outputs: Outputs,
    region: str,
    environ: Mapping[str, str],
    terraform: Callable[[], str],
    shown_options: str,
    shown_of_place: str,
) -> Subject:
    def given(name: str) -> Any:
        return options.given[name].value if name in options.given else None

    names, named = options.names, StackNames.of(options, outputs)
    instance = named.db_instance
    return Subject(
        environment=options.environment,
        region=region,
        cluster=named.cluster,
        service=named.service,
        family=names.family,
        repository=names.repository,
        log_group=names.log_group,
        subnets=given("subnets"),
        security_groups=given("security_groups"),
        assign_public_ip=given("public_ip"),
        platform=given("platform"),
        execution_role=given("execution_role"),
        task_role=given("task_role"),
        db_instance=instance.value if instance else None,
        db_host=named.db_host,
        db_port=known(options, outputs, "db_port") or 5432,
        identify=lambda aws: identify(options, outputs, aws),
        password=lambda aws: find_password(
            options,
            outputs,
            aws,
            environ,
            instance=instance,
            host=named.db_host,
            user=known(options, outputs, "db_user"),
        ),
        terraform=terraform,
        apply=terraform_command(outputs.directory, "apply") if outputs.directory else None,
        options=f" {shown_options}" if shown_options else "",
        options_of_place=f" {shown_of_place}" if shown_of_place else "",
    )
