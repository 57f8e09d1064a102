"""The database's host: without its port, fit to be written to, and Terraform's own or another."""

from __future__ import annotations

import re

from launcher.environment.rds import RdsHost
from launcher.errors import ConfigurationError
from launcher.models import Sourced
from launcher.terraform.outputs import Outputs

_ENDPOINT = re.compile(r"([^:]+):(\d+)")


def address(host: Sourced[str]) -> tuple[Sourced[str], Sourced[int] | None]:
    """Split a host and its port, if any: Terraform's RDS endpoint has one."""
    found = _ENDPOINT.fullmatch(host.value)
    return (Sourced(found[1], host.source), Sourced(int(found[2]), host.source)) if found else (host, None)


def writer(host: Sourced[str]) -> Sourced[str]:
    """Return the host.

    Raises:
        ConfigurationError: it only reads.
    """
    found = RdsHost.parse(host.value)
    if found is not None and found.writer is not None:
        raise ConfigurationError(
            f"{host.value} ({host.source}) is where the readers of the cluster {found.name} are: a migration writes.",
            hint=f"Name its writer: --db-host {found.writer}",
        )
    return host


def elsewhere(host: str | None, outputs: Outputs, instance: str | None = None) -> bool:
    """Whether a host is known to be another than Terraform's own: its environment and its passwords are unknown.

    `instance` is the instance or cluster that the caller names, whose word counts for a host outside of RDS.
    """
    own = outputs.values.get("rds_host")  # of any type: an option may replace a wrong output
    if not host or not isinstance(own, str) or not own:
        return False
    own = address(Sourced(own, ""))[0].value.lower()
    told = RdsHost.parse(own)
    alias = instance is not None and told is not None and told.name == instance.lower() and not RdsHost.parse(host)
    return own != host.lower() and not alias
