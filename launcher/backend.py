"""Where a Terraform root keeps its state: on this disk, in S3, or where only Terraform itself can read it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher import hcl
from launcher.errors import ConfigurationError


def command(directory: Path | None, *arguments: str) -> str:
    """`terraform` in a root, for people who copy it into a shell."""
    return shlex.join(["terraform", f"-chdir={directory}", *arguments])


def state_in_s3(directory: Path, workspace: str | None, kind: str, config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Bucket and key of the state, if an S3 backend keeps it."""
    bucket, key = config.get("bucket"), config.get("key")
    if kind != "s3" or not bucket or not key:
        return None
    workspace = workspace or selected_workspace(directory)
    prefix = config.get("workspace_key_prefix", "env:")
    return bucket, key if workspace == "default" else f"{prefix}/{workspace}/{key}"


def backend(directory: Path) -> tuple[str, Mapping[str, Any]]:
    """The backend's type and settings: as `terraform init` noted them, else as the *.tf files have them."""
    noted = noted_backend(directory)
    if noted is not None:
        return noted
    for path in sorted(directory.glob("*.tf")):
        if "backend" not in path.read_text(encoding="utf-8", errors="replace"):
            continue
        for block in hcl.read(path).get("terraform", []):
            for entry in block.get("backend", []):
                for name, config in entry.items():
                    if isinstance(config, dict):
                        return name, config
    return "local", {}


def noted_backend(directory: Path) -> tuple[str, Mapping[str, Any]] | None:
    """What `terraform init` noted; None where it was never run, or nothing but the local backend was asked for.

    Raises:
        ConfigurationError: it can't be read.
    """
    noted = directory / ".terraform" / "terraform.tfstate"
    if not noted.is_file():
        return None
    try:
        backend = json.loads(noted.read_text(encoding="utf-8")).get("backend") or {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{noted} can't be read: {error}", hint=f"Initialise it again: {command(directory, 'init')}"
        ) from error
    if not backend.get("type"):
        return None
    return backend["type"], {key: value for key, value in (backend.get("config") or {}).items() if value is not None}


def selected_workspace(directory: Path) -> str:
    """The workspace that `terraform workspace select` noted."""
    path = directory / ".terraform" / "environment"
    return path.read_text(encoding="utf-8").strip() or "default" if path.is_file() else "default"
