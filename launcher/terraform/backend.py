"""Where a Terraform root keeps its state: on this disk, in S3, or where only Terraform itself can read it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import ConfigurationError
from launcher.machine.untrusted_text import UnreadableError, parse_json, read_text
from launcher.terraform import hcl

Backend = tuple[str, Mapping[str, Any]]
"""The type and the known settings."""

_DECIDING = {"local": ("path", "workspace_dir"), "s3": ("bucket", "key", "region", "workspace_key_prefix")}
# Required by the backend: if a root's files omit them, they were given to `init` by -backend-config.
_REQUIRED = {"bucket", "key", "region"}
_ENDPOINTS = {"endpoint", "endpoints"}
_BLOCK = re.compile(r"\b(?:backend|cloud)\b")
_WORKSPACE = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.~$&+=:@-]+")


def terraform_command(directory: Path | None, *arguments: str) -> str:
    """Return a `terraform` command for a root, quoted for a shell."""
    return shlex.join(["terraform", f"-chdir={directory}", *arguments])


def redirection(environ: Mapping[str, str]) -> str | None:
    """Return the variable that may point Terraform to another state than its files; None if there is none."""
    found = (
        name
        for name, value in environ.items()
        if (name == "TF_DATA_DIR" and value) or (name.startswith("TF_CLI_ARGS") and re.search("-state|-backend", value))
    )
    return min(found, default=None)


def state_in_s3(directory: Path, workspace: str | None, kind: str, config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the state's bucket and key; None if it is not in an S3 backend.

    Raises:
        ConfigurationError: the given workspace name is not valid, or the selected workspace can't be read.
    """
    bucket, key = config.get("bucket"), config.get("key")
    prefix = config.get("workspace_key_prefix") or "env:"
    if kind != "s3" or not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
        return None
    workspace = selected_workspace(directory, workspace)
    return bucket, key if workspace == "default" else f"{prefix}/{workspace}/{key}"


def local_state(directory: Path, workspace: str | None, config: Mapping[str, Any]) -> Path:
    """Return the state file of a local backend.

    Raises:
        ConfigurationError: as for `selected_workspace`.
    """
    workspace = selected_workspace(directory, workspace)
    if workspace == "default":
        return directory / (config.get("path") or "terraform.tfstate")
    return directory / (config.get("workspace_dir") or "terraform.tfstate.d") / workspace / "terraform.tfstate"


def initialised(directory: Path) -> bool:
    """Whether Terraform was initialized here before."""
    return (directory / ".terraform").exists()


def backend(directory: Path) -> Backend:
    """Return the backend, if it is certain without running Terraform.

    It is the one in the root's files; `terraform init` recorded what they omit.

    Raises:
        ConfigurationError: it is not certain: a file can't be read, or the files differ from what was recorded.
    """
    declared, noted = _declared(directory), noted_backend(directory)
    if noted is None:
        if declared is not None and initialised(directory):
            raise _uncertain(directory, f"it was initialised without the backend {declared[0]!r} that its files name")
        found = declared or ("local", {})
    elif declared is None or declared[0] != noted[0]:
        now = repr(declared[0]) if declared else "none"
        raise _uncertain(directory, f"it was initialised with the backend {noted[0]!r}, and its files name {now}")
    else:
        _compare(directory, declared, noted)
        found = noted
    # An endpoint in the files counts even if it is an expression.
    elsewhere = declared is not None and not _ENDPOINTS.isdisjoint(declared[1])
    if found[0] == "s3" and (elsewhere or any(_given(found[1].get(name)) for name in _ENDPOINTS)):
        raise _uncertain(directory, "its bucket has an endpoint of its own")
    return found


def noted_backend(directory: Path) -> Backend | None:
    """Return the backend recorded by `terraform init`; None if it was never run, or for a default local backend.

    Raises:
        ConfigurationError: the record can't be read.
    """
    noted = directory / ".terraform" / "terraform.tfstate"
    if not noted.exists():
        return None
    try:
        state = parse_json(read_text(noted))
    except UnreadableError as error:
        raise _unreadable(directory, noted, str(error)) from None
    found = state.get("backend") or {} if isinstance(state, dict) else None
    kind, config = (found.get("type"), found.get("config") or {}) if isinstance(found, dict) else (0, {})
    if not isinstance(kind, str | None) or not isinstance(config, dict):
        raise _unreadable(directory, noted, "it holds something else than Terraform writes there")
    for name in _DECIDING.get(kind or "", ()):
        if not isinstance(config.get(name), str | None):
            raise _uncertain(directory, f"{name} of the backend {kind!r} is not a plain string")
    return (kind, {key: value for key, value in config.items() if value is not None}) if kind else None


def selected_workspace(directory: Path, named: str | None = None) -> str:
    """Return the workspace `named` by `TF_WORKSPACE`, else the one recorded by `terraform workspace select`.

    Raises:
        ConfigurationError: it is not a valid workspace name, or the record can't be read.
    """
    if named:
        if not _WORKSPACE.fullmatch(named):
            raise ConfigurationError(
                f"TF_WORKSPACE holds no name of a workspace: {named!r}.",
                hint="Unset it, or see what there is: env -u TF_WORKSPACE "
                + terraform_command(directory, "workspace", "list"),
            )
        return named
    path = directory / ".terraform" / "environment"
    if not path.exists():
        return "default"
    try:
        name = read_text(path).strip() or "default"
    except UnreadableError as error:
        raise _unreadable(directory, path, str(error)) from None
    if not _WORKSPACE.fullmatch(name):
        raise _unreadable(directory, path, "it holds no name of a workspace")
    return name


def _declared(directory: Path) -> Backend | None:
    """Return the backend in the root's files; None if there is none, which means a local state at its default path."""
    found: list[tuple[Path, str, Any]] = []
    for path in sorted(directory.iterdir()):
        name = path.name
        if name.startswith(".") or path.is_dir():
            continue
        if name.endswith((".tofu", ".tofu.json")):
            raise _uncertain(directory, f"{name} is OpenTofu's")
        if name.endswith(".tf"):
            found += ((path, *entry) for entry in _blocks(_parsed(directory, path)))
        elif name.endswith(".tf.json") and any(_blocks(_parsed(directory, path))):
            raise _uncertain(directory, f"{name} holds it as JSON")
    if len(found) > 1 or any(path.stem == "override" or path.stem.endswith("_override") for path, *_ in found):
        raise _uncertain(directory, f"{' and '.join(path.name for path, *_ in found)} set it, one over the other")
    for path, kind, config in found:
        if not isinstance(config, dict):
            raise _uncertain(directory, f"{path.name} holds it in a form that is not understood")
        for name in filter(config.__contains__, _DECIDING.get(kind, ())):
            value = config[name]
            if not isinstance(value, str) or "${" in value or "%{" in value:
                raise _uncertain(directory, f"{name} in {path.name} is not a plain string")
            if not value:
                raise _uncertain(directory, f"{name} in {path.name} is empty")
        return kind, config
    return None


def _parsed(directory: Path, path: Path) -> Any:
    try:
        text = read_text(path)
        if path.suffix == ".json":
            return parse_json(text)
    except UnreadableError as error:
        raise _uncertain(directory, f"{path.name} can't be read: {error}") from None
    return hcl.read(path) if _BLOCK.search(text) else {}


def _blocks(file: Any) -> list[tuple[str, Any]]:
    """Return type and settings of each backend, or possible backend, in a file; `cloud` counts as one."""
    blocks: list[tuple[str, Any]] = []
    for root in _listed(file):
        for block in _listed(root.get("terraform") if isinstance(root, dict) else [""]):
            if not isinstance(block, dict):
                blocks.append(("", None))
                continue
            blocks += (("cloud", {}) for _ in _listed(block.get("cloud")))
            for entry in _listed(block.get("backend")):
                blocks += entry.items() if isinstance(entry, dict) else [("", None)]
    return blocks


def _listed(value: Any) -> list[Any]:
    """Flatten nested lists: Terraform's JSON treats them as one."""
    found, rest = list[Any](), [value]
    while rest:  # no recursion: nesting may be deep
        item = rest.pop()
        if isinstance(item, list):
            rest += reversed(item)
        elif item is not None:
            found.append(item)
    return found


def _compare(directory: Path, declared: Backend, noted: Backend) -> None:
    """Check that no setting that decides where the state is has changed since `init`."""
    for name in _DECIDING.get(declared[0], ()):
        now, then = declared[1].get(name), noted[1].get(name)
        if now != then and not (now is None and name in _REQUIRED):
            was = f"{name} was {then!r}" if then is not None else f"there was no {name}"
            raise _uncertain(
                directory, f"{was} when it was initialised, and is {now!r} in its files" if now else f"{was} then only"
            )


def _given(value: Any) -> bool:
    """Whether it is not empty."""
    return any(map(_given, value.values())) if isinstance(value, dict) else value not in (None, "", [])


def _uncertain(directory: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Where {directory} keeps its Terraform state is not known for certain: {why}.",
        hint=f"Have Terraform 1.x sort it out: {terraform_command(directory, 'init')}",
    )


def _unreadable(directory: Path, path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} can't be read: {why}.", hint=f"Initialise it again: {terraform_command(directory, 'init')}"
    )
