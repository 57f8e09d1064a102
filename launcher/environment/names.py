"""The names of an environment's resources: those that the launcher gives, and the usual ones of Terraform's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """What follows from an environment's name.

    Attributes:
        prefix: what each begins with: `neuraKnot-prod`.
    """

    prefix: str

    @property
    def family(self) -> str:
        """Of the task definition."""
        return f"{self.prefix}-migrate"

    @property
    def repository(self) -> str:
        """ECR's, which takes no capitals."""
        return self.family.lower()

    @property
    def log_group(self) -> str:
        """CloudWatch's."""
        return f"/ecs/{self.family}"

    @property
    def cluster(self) -> str:
        """ECS's, as Terraform calls it."""
        return f"{self.prefix}-cluster"

    @property
    def service(self) -> str:
        """The backend's, likewise."""
        return f"{self.prefix}-backend-go"

    @property
    def db_instance(self) -> str:
        """RDS's, which takes no capitals either."""
        return f"{self.prefix}-db".lower()

    @property
    def ci_role(self) -> str:
        """The role that GitHub Actions takes."""
        return f"{self.prefix}-github-actions-role"
