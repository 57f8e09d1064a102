"""A Terraform root's outputs: from `terraform output -json`, from a state file, or from a state in S3."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from launcher import hcl
from launcher.errors import ConfigurationError, ProgramNotFoundError
from launcher.models import Secret, Sourced
from launcher.process import Runner

_NEEDS_INIT = re.compile(r"Backend initialization required|Initialization required|terraform init", re.IGNORECASE)
_LOCKED = re.compile(r"state lock|state is (already )?locked", re.IGNORECASE)


class ObjectReader(Protocol):
    """Reads an object from S3."""

    def read_object(self, bucket: str, key: str) -> bytes | None:
        """Its content, or None."""
        ...


@dataclass(frozen=True)
class Outputs:
    """The outputs of one Terraform root.

    Attributes:
        values: by name, as Terraform has them.
        origin: where they were read, for people.
        directory: the root; None for a stack without Terraform.
        state: bucket and key of the state, where it is in S3.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origin: str = "no Terraform"
    directory: Path | None = None
    state: tuple[str, str] | None = None

    def get(self, name: str) -> Sourced[Any] | None:
        """The output, or None where it is missing, null or empty."""
        value = self.values.get(name)
        return None if value in (None, "", [], {}) else Sourced(value, f"{self.origin} {name}")

    def require(self, name: str, option: str) -> Sourced[Any]:
        """The output; `option` is what can be given instead of it.

        Raises:
            ConfigurationError: it is missing, null or empty.
        """
        found = self.get(name)
        if found is not None:
            return found
        hint = f"Give {option}, or add the output and apply: terraform -chdir={self.directory} apply"
        if self.directory is None:
            raise ConfigurationError(
                f"{option} is not given, and there is no Terraform to ask.", hint=f"Give {option}."
            )
        what = "is empty" if self.values.get(name) is not None else "is null" if name in self.values else "is missing"
        raise ConfigurationError(f"The Terraform output {name} {what} ({self.directory}).", hint=hint)


def read_outputs(
    directory: Path, run: Runner, s3: Callable[[str | None], ObjectReader], *, workspace: str | None = None
) -> Outputs:
    """The outputs of the Terraform root in `directory`.

    Args:
        directory: such as `terraform/environments/prod`.
        run: starts `terraform`; where that is not installed, or the root was never initialised here, the state is
            read without it.
        s3: a reader for the region of the state's bucket.
        workspace: as `TF_WORKSPACE` names it, which the program reads by itself; None for the one that was selected.

    Raises:
        ConfigurationError: there is no state, or it is locked, or holds no outputs.
        AwsError: the state in S3 can't be read.
    """
    _refuse_locked(directory)
    try:
        completed = run(["terraform", f"-chdir={directory}", "output", "-json", "-no-color"])
    except ProgramNotFoundError as error:
        return _from_state(directory, s3, workspace, missing=error)
    if completed.exit_code != 0:
        if _NEEDS_INIT.search(completed.stderr):
            return _from_state(directory, s3, workspace, missing=None)
        if _LOCKED.search(completed.stderr):
            raise ConfigurationError(
                f"The Terraform state of {directory} is locked.",
                hint="Wait until the other `terraform` has ended, then try again.",
                details=completed.tail,
            )
        raise ConfigurationError(
            f"`terraform output` failed in {directory}.",
            hint=f"Try it by hand: terraform -chdir={directory} output",
            details=completed.tail,
        )
    values = {name: output.get("value") for name, output in _output_object(completed.stdout, directory).items()}
    noted = _noted_backend(directory)
    state = _s3_state(directory, workspace, *noted) if noted else None
    return _not_empty(Outputs(values, "terraform output", directory, state))


def read_password(directory: Path) -> Sourced[Secret] | None:
    """`db_password` of the `secrets.tfvars` in `directory`; None where there is no such file.

    Raises:
        ConfigurationError: the file can't be read, or holds no such key, or not as a plain string.
    """
    path = directory / "secrets.tfvars"
    if not path.is_file():
        return None
    values = hcl.read(path)
    if "db_password" not in values:
        raise ConfigurationError(
            f"{path} holds no db_password.",
            hint='Add the line db_password = "...", or set DB_PASSWORD, or give --db-password-secret.',
        )
    value = values["db_password"]
    if not isinstance(value, str) or not value:
        raise ConfigurationError(
            f"db_password in {path} is not a string in double quotes, or is empty.",
            hint='Write it as db_password = "...", or set DB_PASSWORD.',
        )
    return Sourced(Secret(value), f"db_password in {path}")


def _output_object(text: str, directory: Path) -> Mapping[str, Any]:
    """The JSON object in the program's output, whatever a wrapper or a warning has printed around it."""
    decoder = json.JSONDecoder()
    for found in re.finditer(r"^\s*\{", text, re.MULTILINE):
        try:
            value, _ = decoder.raw_decode(text, found.end() - 1)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict) and all(isinstance(item, dict) and "value" in item for item in value.values()):
            return value
    raise ConfigurationError(
        f"`terraform output -json` in {directory} printed no JSON object with outputs.",
        hint="Is `terraform` a wrapper that prints something else? In GitHub Actions set terraform_wrapper: false.",
    )


def _not_empty(outputs: Outputs) -> Outputs:
    if outputs.values:
        return outputs
    raise ConfigurationError(
        f"The Terraform root {outputs.directory} has no state, or a state without outputs.",
        hint=f"Apply it first: terraform -chdir={outputs.directory} apply. A workspace is chosen by TF_WORKSPACE.",
    )


def _refuse_locked(directory: Path) -> None:
    """A local state is being written while its lock file is there."""
    path = directory / ".terraform.tfstate.lock.info"
    if not path.is_file():
        return
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        info = {}
    who, when, lock = info.get("Who", "somebody"), info.get("Created", "some time ago"), info.get("ID", "LOCK_ID")
    raise ConfigurationError(
        f"The Terraform state of {directory} is locked by {who} since {when}.",
        hint=f"Wait for it to end. If nothing runs any more: terraform -chdir={directory} force-unlock {lock}",
    )


def _from_state(
    directory: Path,
    s3: Callable[[str | None], ObjectReader],
    workspace: str | None,
    *,
    missing: ProgramNotFoundError | None,
) -> Outputs:
    """Without the program: the state where the backend keeps it."""
    kind, config = _backend(directory)
    workspace = workspace or _selected_workspace(directory)
    if kind == "local":
        default = directory / config.get("path", "terraform.tfstate")
        path = default if workspace == "default" else directory / "terraform.tfstate.d" / workspace / default.name
        if path.is_file():
            return _state_outputs(path.read_bytes(), str(path), directory)
        if missing is None:
            return _not_empty(Outputs({}, str(path), directory))
        raise ConfigurationError(
            f"{missing.message} There is no state file {path} to read without it.",
            hint="Install Terraform 1.x, or give the values as options: launcher ecs-migrate --help",
        )
    if kind != "s3":
        raise ConfigurationError(
            f"The state of {directory} is kept by the backend {kind!r}, which only `terraform` itself can read.",
            hint=f"Install Terraform 1.x, and run: terraform -chdir={directory} init",
        )
    state = _s3_state(directory, workspace, kind, config)
    if state is None:
        raise ConfigurationError(
            f"The S3 backend of {directory} names no bucket or key.",
            hint=f"Initialise it: terraform -chdir={directory} init -backend-config=...",
        )
    origin = f"s3://{'/'.join(state)}"
    body = s3(config.get("region")).read_object(*state)
    if body is None:
        raise ConfigurationError(
            f"There is no Terraform state at {origin}.",
            hint=f"Apply it first: terraform -chdir={directory} apply. A workspace is chosen by TF_WORKSPACE.",
        )
    return replace(_state_outputs(body, origin, directory), state=state)


def _s3_state(directory: Path, workspace: str | None, kind: str, config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Bucket and key of the state, if an S3 backend keeps it."""
    bucket, key = config.get("bucket"), config.get("key")
    if kind != "s3" or not bucket or not key:
        return None
    workspace = workspace or _selected_workspace(directory)
    prefix = config.get("workspace_key_prefix", "env:")
    return bucket, key if workspace == "default" else f"{prefix}/{workspace}/{key}"


def _backend(directory: Path) -> tuple[str, Mapping[str, Any]]:
    """The backend's type and settings: as `terraform init` noted them, else as the *.tf files have them."""
    noted = _noted_backend(directory)
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


def _noted_backend(directory: Path) -> tuple[str, Mapping[str, Any]] | None:
    """What `terraform init` noted; None where it was never run, or nothing but the local backend was asked for."""
    noted = directory / ".terraform" / "terraform.tfstate"
    if not noted.is_file():
        return None
    try:
        backend = json.loads(noted.read_text(encoding="utf-8")).get("backend") or {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{noted} can't be read: {error}", hint="Run terraform init again.") from error
    if not backend.get("type"):
        return None
    return backend["type"], {key: value for key, value in (backend.get("config") or {}).items() if value is not None}


def _selected_workspace(directory: Path) -> str:
    path = directory / ".terraform" / "environment"
    return path.read_text(encoding="utf-8").strip() or "default" if path.is_file() else "default"


def _state_outputs(body: bytes, origin: str, directory: Path) -> Outputs:
    try:
        state = json.loads(body)
        values = {name: output.get("value") for name, output in state["outputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{origin} is no Terraform state of version 4.", hint="Is the state encrypted? Then install Terraform."
        ) from error
    return _not_empty(Outputs(values, origin, directory))
