"""What the caller gives of a stack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.environment.names import Names
from launcher.errors import UsageError
from launcher.models import Sourced

NON_PRODUCTION = frozenset({"dev", "development", "local", "test", "ci"})
"""The environments without production's guards; the database's side knows the same names."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")


@dataclass(frozen=True)
class Options:
    """What the caller gives of a stack; whatever is not given comes from Terraform and the service.

    Attributes:
        environment: `dev`, `prod`, or any other name.
        given: values by name (`cluster`, `db_host`, ...), each with the option or variable it came from.
        project: the prefix of every name: `neuraKnot`.
        root: where `terraform/environments/` is looked for.
        terraform_dir: the Terraform root, if it is elsewhere.
        workspace: the Terraform workspace, where a variable names one.
        redirected: the variable that may lead Terraform to another state than its files do, if there is one.
    """

    environment: str
    given: Mapping[str, Sourced[Any]] = field(default_factory=dict)
    project: str = "neuraKnot"
    root: Path = field(default_factory=Path)
    terraform_dir: Sourced[Path] | None = None
    workspace: str | None = None
    redirected: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.environment):
            raise UsageError(
                f"{self.environment!r} is not a valid environment name.",
                hint="Name one like dev or prod with --environment.",
            )

    @property
    def production(self) -> bool:
        """Whether production's guards apply: they do for every name that is not known."""
        return self.environment.lower() not in NON_PRODUCTION

    @property
    def names(self) -> Names:
        """Those of the environment's resources."""
        return Names(f"{self.project}-{self.environment}")

    @property
    def directory(self) -> Path:
        """The Terraform root."""
        if self.terraform_dir is not None:
            return self.terraform_dir.value
        return self.root / "terraform" / "environments" / self.environment
