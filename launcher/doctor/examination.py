"""What `launcher doctor` examines, from options and Terraform, however little of it can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from launcher.aws import Aws
from launcher.doctor.checks import CHECKS
from launcher.doctor.facts import Facts, Subject
from launcher.doctor.network import NETWORK_CHECKS
from launcher.doctor.report import Check, Report, SkippedError, diagnose
from launcher.errors import LauncherError
from launcher.models import Sourced
from launcher.stack import Options, find_password, region_for
from launcher.terraform import Outputs

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
) -> Report:
    """Examine an environment.

    Args:
        options: what the caller gives.
        outputs: reads Terraform; what it raises becomes the finding about Terraform, and the usual names stand in for
            the outputs.
        aws_for: makes the clients for a region.
        environ: `DB_PASSWORD` and `TF_VAR_db_password` are looked for in it.
        shown_options: how this environment is named on the command line, for the commands that are proposed.
    """
    problem: LauncherError | None = None
    try:
        found = outputs()
    except LauncherError as error:
        found, problem = Outputs(), error

    def terraform() -> str:
        if problem is not None:
            raise problem
        if found.directory is None:
            raise SkippedError("not asked; the options give everything")
        return f"{len(found.values)} outputs in {found.directory}, by {found.origin}"

    subject = _subject(options, found, environ, terraform, shown_options)
    return diagnose(ALL_CHECKS, Facts(subject, aws_for(subject.region)))


def _subject(
    options: Options, outputs: Outputs, environ: Mapping[str, str], terraform: Callable[[], str], shown_options: str
) -> Subject:
    def pick(name: str, output: str | None = None) -> Any:
        found = options.given.get(name) or (outputs.get(output) if output else None)
        return found.value if found is not None else None

    host = pick("db_host", "rds_host")
    from_host = host.split(".")[0] if host is not None and host.endswith(".rds.amazonaws.com") else None
    instance = pick("db_instance") or from_host or f"{options.name}-db".lower()
    return Subject(
        environment=options.environment,
        region=region_for(options, outputs).value,
        cluster=pick("cluster", "ecs_cluster_name") or f"{options.name}-cluster",
        service=pick("service", "backend_go_service_name") or f"{options.name}-backend-go",
        family=f"{options.name}-migrate",
        repository=f"{options.name}-migrate".lower(),
        log_group=f"/ecs/{options.name}-migrate",
        subnets=pick("subnets"),
        security_groups=pick("security_groups"),
        assign_public_ip=pick("assign_public_ip"),
        execution_role=pick("execution_role"),
        task_role=pick("task_role"),
        db_instance=instance,
        db_host=host,
        db_port=int(pick("db_port", "rds_port") or 5432),
        password=lambda aws: find_password(options, outputs, aws, Sourced(instance, "its name"), environ),
        terraform=terraform,
        options=f" {shown_options}" if shown_options else "",
    )
