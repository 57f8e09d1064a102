"""Where a Terraform root keeps its state: on this disk, in S3, or where only Terraform itself can read it."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import ConfigurationError
from launcher.machine.untrusted_text import UnreadableError, parse_json, read_text
from launcher.terraform import hcl

NAMES = {"terraform": "Terraform 1.x", "tofu": "OpenTofu"}
"""What each program that reads a root is called."""

Backend = tuple[str, Mapping[str, Any]]
"""The type and the known settings."""

_DECIDING = {"local": ("path", "workspace_dir"), "s3": ("bucket", "key", "region", "workspace_key_prefix")}
# Required by the backend: if a root's files omit them, they were given to `init` by -backend-config.
_REQUIRED = {"bucket", "key", "region"}
# What else an S3 backend may set without changing which state is read, or by whom.
_HARMLESS = {
    *_DECIDING["s3"],
    "acl",
    "allowed_account_ids",
    "dynamodb_table",
    "encrypt",
    "forbidden_account_ids",
    "kms_key_id",
    "max_retries",
    "retry_mode",
    "skip_credentials_validation",
    "skip_metadata_api_check",
    "skip_region_validation",
    "skip_requesting_account_id",
    "skip_s3_checksum",
    "use_dualstack_endpoint",
    "use_fips_endpoint",
    "use_lockfile",
}
# What gives it other credentials than the caller's.
_CREDENTIALS = {
    "access_key",
    "assume_role_with_web_identity",
    "profile",
    "secret_key",
    "shared_config_files",
    "shared_credentials_file",
    "shared_credentials_files",
    "token",
}
_OPENTOFU = (".tofu", ".tofu.json")
_OPENTOFUS_REGISTRY = "registry.opentofu.org"
_TERRAGRUNTS = ("terragrunt.hcl", "terragrunt.hcl.json")
# What such a file may hold without moving the state, which `include`, `remote_state`, `generate` and `terraform` may.
_UNMOVING = {
    "dependencies",
    "dependency",
    "errors",
    "exclude",
    "feature",
    "inputs",
    "locals",
    "prevent_destroy",
    "retryable_errors",
    "skip",
    "terraform_version_constraint",
    "terragrunt_version_constraint",
}
_BLOCK = re.compile(r"\b(?:backend|cloud)\b")
# A backend that seems to hold a variable or a function.
_REFERENCE = re.compile(
    r'\bbackend\s+"\w+"\s*\{(?:[^{}]|\{[^{}]*\})*?(?:\{[^{}]*?)?'
    r"(?:\b(?:var|local|path)\.|\bterraform\.workspace|\w\()"
)
_WORKSPACE = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.~$&+=:@-]+")


@dataclass(frozen=True)
class S3State:
    """A state in S3.

    Attributes:
        bucket, key: where it is.
        role: the ARN of the role that Terraform assumes to read it; None if it assumes none, or it is not known.
        credentials: what in the backend makes somebody else than the caller read it, or assume the role.
    """

    bucket: str
    key: str
    role: str | None = None
    credentials: tuple[str, ...] = ()

    @property
    def by_caller(self) -> bool:
        """Whether the caller itself reads it."""
        return self.role is None and not self.credentials


def programs(directory: Path) -> tuple[str, ...]:
    """Return the programs that can read a root, the better one first: `terraform` and `tofu`, which is OpenTofu's.

    Files that only OpenTofu reads may hold the backend, so `terraform` would read another state; and it takes no
    backend with a variable, a local or a function in it.
    """
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    if any(name.endswith(_OPENTOFU) or (name.endswith(".tf") and _evaluated(directory / name)) for name in names):
        return ("tofu",)
    with contextlib.suppress(UnreadableError):
        if ".terraform.lock.hcl" in names and _OPENTOFUS_REGISTRY in read_text(directory / ".terraform.lock.hcl"):
            return ("tofu", "terraform")
    return ("terraform", "tofu")


def terraform_command(directory: Path | None, *arguments: str) -> str:
    """Return a command of `terraform`, or of `tofu` where that serves a root, quoted for a shell."""
    able = programs(directory) if directory is not None else ("terraform",)
    program = next((name for name in able if shutil.which(name)), able[0])
    return shlex.join([program, f"-chdir={directory}", *arguments])


def redirection(environ: Mapping[str, str]) -> str | None:
    """Return the variable that may point Terraform to another state than its files; None if there is none."""
    found = (
        name
        for name, value in environ.items()
        if (name == "TF_DATA_DIR" and value) or (name.startswith("TF_CLI_ARGS") and re.search("-state|-backend", value))
    )
    return min(found, default=None)


def state_in_s3(directory: Path, workspace: str | None, kind: str, config: Mapping[str, Any]) -> S3State | None:
    """Return the state in S3, and who reads it; None if it is not in an S3 backend.

    Raises:
        ConfigurationError: the given workspace name is not valid, or the selected workspace can't be read.
    """
    bucket, key = config.get("bucket"), config.get("key")
    prefix = config.get("workspace_key_prefix") or "env:"
    if kind != "s3" or not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
        return None
    workspace = selected_workspace(directory, workspace)
    blocks = (config, *_listed(config.get("assume_role")))  # once the role was a setting of the backend itself
    roles = [block.get("role_arn") for block in blocks if isinstance(block, dict)]
    role = next((arn for arn in roles if isinstance(arn, str) and arn.startswith("arn:")), None)
    others = config.keys() & (_CREDENTIALS if role else _CREDENTIALS | {"assume_role", "role_arn"})
    named = (f"profile {config[name]}" if name == "profile" and config[name] else name for name in sorted(others))
    return S3State(bucket, key if workspace == "default" else f"{prefix}/{workspace}/{key}", role, tuple(named))


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
        # A setting in the files counts even if it is an expression.
        found = noted[0], {**declared[1], **noted[1]}
    return found


def plain_backend(directory: Path) -> Backend:
    """Return the backend, if it is certain and the caller can read it as Terraform does.

    Raises:
        ConfigurationError: as for `backend`, or it sets what only Terraform follows.
    """
    kind, config = backend(directory)
    followed = sorted(config.keys() - _HARMLESS) if kind == "s3" else []
    if followed:
        raise _uncertain(directory, f"its S3 backend sets {', '.join(followed)}, which only Terraform follows")
    return kind, config


def noted_backend(directory: Path) -> Backend | None:
    """Return the backend recorded by `terraform init`; None if it was never run, or for a default local backend.

    Raises:
        ConfigurationError: the record can't be read, or Terragrunt may keep the state elsewhere.
    """
    noted = _noted(directory)
    if any((directory / name).exists() and _moves(directory / name) for name in _TERRAGRUNTS):
        raise ConfigurationError(
            f"{directory} is written for Terragrunt, which keeps the state where only it knows.",
            hint="Give the values as options: launcher ecs-migrate --help",
        )
    return noted


def _moves(terragrunts: Path) -> bool:
    """Whether a file of Terragrunt's may move the state away from where Terraform itself would look."""
    try:
        told = parse_json(read_text(terragrunts)) if terragrunts.suffix == ".json" else hcl.read(terragrunts)
    except (ConfigurationError, UnreadableError):
        return True
    return not (isinstance(told, dict) and told.keys() <= _UNMOVING)


def _noted(directory: Path) -> Backend | None:
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
    # Of a setting that nobody made, `init` records nothing in some form.
    made = {name: value for name, value in config.items() if set(_leaves(value)) - {None, "", False}}
    return (kind, made) if kind else None


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
        if name.endswith(_OPENTOFU):
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


def _evaluated(path: Path) -> bool:
    """Whether a backend's setting in a file is to be evaluated, which only OpenTofu does."""
    with contextlib.suppress(UnreadableError, ConfigurationError):
        return _REFERENCE.search(read_text(path)) is not None and any(
            None in _leaves(config) for _, config in _blocks(hcl.read(path))
        )
    return False


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


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the values in nested objects and lists."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def _uncertain(directory: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"Where {directory} keeps its Terraform state is not known for certain: {why}.",
        hint=f"Have {NAMES[programs(directory)[0]]} sort it out: {terraform_command(directory, 'init')}",
    )


def _unreadable(directory: Path, path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} can't be read: {why}.", hint=f"Initialise it again: {terraform_command(directory, 'init')}"
    )
