"""The values of a stack that the caller gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.environment.names import Names
from launcher.models import Sourced

NON_PRODUCTION = frozenset({"dev", "development", "local", "test", "ci"})
"""The environments without production guards; `neuraknot_db` has the same list."""


def is_production(environment: str) -> bool:
    """Whether the guards of production apply to an environment: to every unknown name too."""
    return environment.lower() not in NON_PRODUCTION


@dataclass(frozen=True)
class Options:
    """The values of a stack that the caller gives; the others come from Terraform and the service.

    Attributes:
        environment: `dev`, `prod`, or any other name.
        given: values by name (`cluster`, `db_host`, ...), each with its option or variable.
        project: the prefix of every name: `neuraKnot`.
        root: the folder that contains `terraform/environments/`.
        terraform_dir: the Terraform root, if it is elsewhere.
        workspace: the Terraform workspace, if a variable names one.
        redirected: the variable that may point Terraform to another state than its files; None if there is none.
        profile: the AWS profile, if an option names one.
    """

    environment: str
    given: Mapping[str, Sourced[Any]] = field(default_factory=dict)
    project: str = "neuraKnot"
    root: Path = field(default_factory=Path)
    terraform_dir: Sourced[Path] | None = None
    workspace: str | None = None
    redirected: str | None = None
    profile: str | None = None

    @property
    def production(self) -> bool:
        """Whether the guards of production apply."""
        return is_production(self.environment)

    @property
    def names(self) -> Names:
        """The names of the environment's resources."""
        return Names(f"{self.project}-{self.environment}")

    @property
    def directory(self) -> Path:
        """The Terraform root."""
        if self.terraform_dir is not None:
            return self.terraform_dir.value
        return self.root / "terraform" / "environments" / self.environment
