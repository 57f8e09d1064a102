"""The image: its name in the registry, and a tag that is the hash of its content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.aws.refusals import IAM_POLICY
from launcher.errors import AccessDeniedError, ConfigurationError, ImageError, UsageError
from launcher.image.context import fingerprint

if TYPE_CHECKING:
    from launcher.aws.client import Aws

DOCKERFILE = "Dockerfile.migrate"

# Docker's grammar: https://pkg.go.dev/github.com/distribution/reference. A first part is a host if it has a dot or a
# port, or is localhost.
_LABEL, _PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?", r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    r"(?![0-9a-f]{64}$)"  # an image's ID
    rf"(?P<name>(?:(?P<host>localhost|(?=[^/]*[.:])(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?)/)?"
    rf"(?P<path>(?![^:@]{{256}}){_PART}(?:/{_PART})*))"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Image:
    """An image that exists or must be built.

    Attributes:
        repository: where it is pulled from, without tag: `123456789012.dkr.ecr.REGION.amazonaws.com/NAME`.
        tag: the hash of its content, or as given.
        digest: the registry's digest; None for an image that must be built.
        given: whether the caller named it.
    """

    repository: str
    tag: str | None
    digest: str | None
    given: bool = False

    @property
    def reference(self) -> str:
        """The reference for the task definition: by digest if there is one."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


def content_tag(root: Path, platform: str, base: str | None = None) -> str:
    """Return the tag of the image that would be built from `root` now, on the Dockerfile's base image or on `base`.

    Raises:
        ConfigurationError: there is no Dockerfile, or a file can't be read.
    """
    if not (root / DOCKERFILE).is_file():
        raise ConfigurationError(
            f"There is no {DOCKERFILE} in {root.resolve()}.",
            hint="Run the launcher in the project's root, name that with --root, or give --image.",
        )
    return f"content-{fingerprint(root, DOCKERFILE, platform, base)[:24]}"


def require_base(reference: str, source: str = "--base") -> None:
    """Check that this can be a base image, as Docker writes one; `source` is the option or variable that gives it.

    Raises:
        UsageError: it is not a valid reference.
    """
    if _REFERENCE.fullmatch(reference) is None:
        raise UsageError(
            f"{source} {reference!r} is not an image reference.",
            hint="Write it as in a Dockerfile: python:3.13, HOST:PORT/NAME:TAG or HOST/NAME@sha256:...",
        )


def given_image(reference: str, own: str, aws: Aws) -> Image:
    """Return the image that the caller names: by digest, or by a tag in the stack's own ECR.

    Args:
        reference: as given.
        own: the stack's own repository, `REGISTRY/NAME`; another registry can't be queried from here.
        aws: for the stack's region.

    Raises:
        UsageError: it is not a valid reference, or can't be pinned to a digest.
        ImageError: ECR has no such image.
        AccessDeniedError: the caller may not ask for it.
    """
    parts = _REFERENCE.fullmatch(reference)
    if parts is None or not (parts["tag"] or parts["digest"]):
        raise UsageError(
            f"{reference!r} is not an image reference with a tag or a digest.",
            hint="Write it as REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:...",
        )
    repository: str = parts["path"]
    digest: str | None = parts["digest"]
    registry = own.partition("/")[0]
    if parts["host"] == registry:
        try:
            digest = aws.image_digest(repository, tag=parts["tag"], digest=digest)
        except AccessDeniedError as error:
            if parts["name"] != own and error.hint == IAM_POLICY:  # that policy names the stack's own repository only
                error.hint = (
                    f"Allow the caller ecr:DescribeImages on the repository {repository}, and the task's execution role"
                    " to pull from it."
                )
            raise
        if digest is None:
            raise ImageError(
                f"ECR has no image {reference}.",
                hint="List what it has, archived images too, which can't be pulled: aws ecr describe-images"
                f" --repository-name {repository} --region {aws.region} --filter imageStatus=ANY",
            )
    elif digest is None:
        raise UsageError(
            f"The image {reference} is not in this stack's ECR ({registry}), so its tag can't be pinned.",
            hint="Name it by digest: REGISTRY/NAME@sha256:...",
        )
    return Image(parts["name"], parts["tag"], digest, given=True)
