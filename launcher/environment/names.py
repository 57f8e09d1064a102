"""The names of an environment's resources: the launcher's own, and the defaults for Terraform's."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.models import Place


@dataclass(frozen=True)
class Names:
    """Names derived from an environment's name.

    Attributes:
        prefix: the prefix of every name: `neuraKnot-prod`.
    """

    prefix: str

    @property
    def family(self) -> str:
        """The task definition's family."""
        return f"{self.prefix}-migrate"

    @property
    def repository(self) -> str:
        """The ECR repository; ECR allows no uppercase letters."""
        return self.family.lower()

    @property
    def log_group(self) -> str:
        """The CloudWatch log group."""
        return f"/ecs/{self.family}"

    @property
    def cluster(self) -> str:
        """The ECS cluster, as named by Terraform."""
        return f"{self.prefix}-cluster"

    @property
    def service(self) -> str:
        """The backend's ECS service, as named by Terraform."""
        return f"{self.prefix}-backend-go"

    @property
    def db_instance(self) -> str:
        """The RDS instance; RDS allows no uppercase letters."""
        return f"{self.prefix}-db".lower()

    @property
    def ci_role(self) -> str:
        """The role that GitHub Actions assumes."""
        return f"{self.prefix}-github-actions-role"


def tags(environment: str) -> dict[str, str]:
    """Return the tags of what the launcher makes for an environment; its policy is bound to those of tasks."""
    return {"environment": environment, "made-by": "launcher"}


STREAM_PREFIX = "migrate"
"""The first part of a log stream's name: the option `awslogs-stream-prefix`."""


def log_stream(place: Place, task_id: str) -> str:
    """Return the log stream that the awslogs driver writes to."""
    return f"{STREAM_PREFIX}/{place.container}/{task_id}"
