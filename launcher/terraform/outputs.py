"""A Terraform root's outputs: from `terraform output -json`, from a state file, or from a state in S3."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from launcher.aws.refusals import BAD_CREDENTIALS, IAM_POLICY, advice
from launcher.errors import AccessDeniedError, ConfigurationError, CredentialsError, ProgramNotFoundError
from launcher.machine.process import Completed, Runner, uncoloured
from launcher.machine.untrusted_text import UnreadableError, json_at, parse_json, read_text
from launcher.models import Sourced
from launcher.terraform.backend import (
    NAMES,
    S3State,
    initialised,
    local_state,
    noted_backend,
    plain_backend,
    programs,
    state_in_s3,
    terraform_command,
)

_NEEDS_INIT = re.compile(r"Backend initialization required|Initialization required|terraform init", re.IGNORECASE)
_REASON = re.compile(r"^Reason: (.+)", re.MULTILINE)
_LOCKED = re.compile(r"state lock|state is (already )?locked", re.IGNORECASE)
_NO_CREDENTIALS = re.compile(
    r"no valid credential|NoCredentialProviders|failed to (get shared config profile|refresh cached credentials)|"
    r"AssumeRoleTokenProvider|(token|credentials|session) .{0,60}(expired|invalid)",
    re.IGNORECASE,
)
_ONLY_TOFUS = re.compile(r'Blocks of type "encryption" are not expected')
_ENCRYPTED = re.compile(r'does not have a "version" attribute|encrypted payload|decrypt', re.IGNORECASE)
_DENIED = re.compile(r"AccessDenied|not authorized to perform|StatusCode: 403", re.IGNORECASE)
# Types of the outputs that are not strings; a number in quotes is accepted too.
_KINDS: Mapping[str, Any] = {
    "private_subnet_ids": list,
    "rds_port": int | str,
    "aws_account_id": int | str,
    "account_id": int | str,
}
_WORDS = {bool: "a boolean", dict: "an object", float: "a number", int: "a number", list: "a list", str: "a string"}


class ObjectReader(Protocol):
    """Reads an object from S3."""

    def read_object(self, bucket: str, key: str) -> bytes | None:
        """Return the object's content; None if there is no such object."""
        ...


@dataclass(frozen=True)
class Outputs:
    """The outputs of one Terraform root.

    Attributes:
        values: Terraform's values, by name.
        origin: where they were read, for display.
        directory: the root; None for a stack without Terraform.
        state: the state, if it is in S3.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origin: str = "no Terraform"
    directory: Path | None = None
    state: S3State | None = None

    def get(self, name: str) -> Sourced[Any] | None:
        """Return the output; None if it is missing, null or empty.

        Raises:
            ConfigurationError: its type is wrong, or it contains a character that can't be printed.
        """
        value = self.values.get(name)
        if value in (None, "", [], {}):
            return None
        hint = f"Give the option instead, or put it right and apply: {terraform_command(self.directory, 'apply')}"
        if isinstance(value, bool) or not isinstance(value, _KINDS.get(name, str)):
            raise ConfigurationError(
                f"The Terraform output {name} can't be {_WORDS[type(value)]} ({self.directory}).",
                hint=hint,
            )
        if isinstance(value, str) and not value.isprintable():
            raise ConfigurationError(
                f"The Terraform output {name} holds a character that can't be printed ({self.directory}).",
                hint=hint,
            )
        return Sourced(value, f"{self.origin} {name}")

    def require(self, name: str, option: str) -> Sourced[Any]:
        """Return the output; the error names `option` as the alternative.

        Raises:
            ConfigurationError: it is missing, null or empty, or as for `get`.
        """
        found = self.get(name)
        if found is not None:
            return found
        hint = f"Give {option}, or add the output and apply: {terraform_command(self.directory, 'apply')}"
        if self.directory is None:
            raise ConfigurationError(
                f"{option} is not given, and there is no Terraform to ask.", hint=f"Give {option}."
            )
        what = "is empty" if self.values.get(name) is not None else "is null" if name in self.values else "is missing"
        raise ConfigurationError(f"The Terraform output {name} {what} ({self.directory}).", hint=hint)


def read_outputs(
    directory: Path,
    run: Runner,
    s3: Callable[[str | None], ObjectReader],
    *,
    workspace: str | None = None,
    redirected: str | None = None,
    profile: str | None = None,
) -> Outputs:
    """Return the outputs of the Terraform root in `directory`.

    Args:
        directory: such as `terraform/environments/prod`.
        run: starts `terraform`; if it is not installed, or the root was never initialized here, the state is read
            without it, provided that its backend is certain.
        s3: makes a reader for the region of the state's bucket.
        workspace: the value of `TF_WORKSPACE`, which the program itself reads too; None for the selected one.
        redirected: the variable, if any, that may point the program to another state than its files.
        profile: the AWS profile that the program is given; None for AWS's own order.

    Raises:
        ConfigurationError: there is no state, or it is locked, or it has no outputs.
        AwsError: the state in S3 can't be read, for example without credentials.
    """
    try:
        return _read(directory, run, s3, workspace, redirected, profile)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename or directory} can't be read: {error.strerror}.",
            hint=f"See whether Terraform can: {terraform_command(directory, 'output')}",
        ) from error


def _read(
    directory: Path,
    run: Runner,
    s3: Callable[[str | None], ObjectReader],
    workspace: str | None,
    redirected: str | None,
    profile: str | None,
) -> Outputs:
    kind, config = noted_backend(directory) or ("local", {})
    if kind == "local":
        _refuse_locked(directory, local_state(directory, workspace, config))
    try:
        completed = _asked(directory, run)
    except ProgramNotFoundError as error:
        if redirected is not None:
            raise ConfigurationError(
                f"{error.message} With {redirected} set, nothing else can tell where {directory} keeps its state.",
                hint=f"Install {NAMES[error.program]}, or unset {redirected}.",
            ) from error
        return _from_state(directory, s3, workspace, missing=error)
    if completed.exit_code != 0:
        # If an initialized root is refused now, its backend has changed: reading without the program would read the old
        # state.
        if _NEEDS_INIT.search(completed.stderr) and not initialised(directory) and redirected is None:
            return _from_state(directory, s3, workspace, missing=None)
        raise _failed(directory, completed, profile)
    values = {name: output.get("value") for name, output in _output_object(completed.stdout, directory).items()}
    state = state_in_s3(directory, workspace, kind, config)
    return _not_empty(Outputs(values, f"{completed.arguments[0]} output", directory, state))


def _asked(directory: Path, run: Runner) -> Completed:
    """Run `terraform output`, or `tofu output`.

    Raises:
        ProgramNotFoundError: no program that can read the root is installed; it names the first of them.
    """
    missing: ProgramNotFoundError | None = None
    for program in programs(directory):
        try:
            return run([program, f"-chdir={directory}", "output", "-json", "-no-color"])
        except ProgramNotFoundError as error:
            missing = missing or error
    assert missing is not None
    raise missing


def _failed(directory: Path, completed: Completed, profile: str | None) -> Exception:
    """Return why `terraform output` failed."""
    from launcher.aws.sign_in import remedy  # botocore is imported while the program runs

    said, tail = completed.stderr, completed.tail
    if _NO_CREDENTIALS.search(said) or BAD_CREDENTIALS.search(said):
        return CredentialsError(
            f"Terraform has no AWS credentials that work for the state of {directory}.",
            hint=remedy(profile, asks=False),
            details=tail,
        )
    if _DENIED.search(said):
        return AccessDeniedError(
            f"AWS does not let Terraform read the state of {directory}.",
            hint=advice(said) or IAM_POLICY,
            details=tail,
        )
    if _LOCKED.search(said):
        return ConfigurationError(
            f"The Terraform state of {directory} is locked.",
            hint=f"Wait until the other Terraform has ended, then try again: {terraform_command(directory, 'output')}",
            details=tail,
        )
    if _NEEDS_INIT.search(said):
        reason = _REASON.search(said)
        return ConfigurationError(
            f"Terraform does not read the state of {directory} before that is initialised for its backend.",
            hint=f"Initialise it: {terraform_command(directory, 'init')}",
            details=(f"Terraform says: {reason[1]}",) if reason else tail,
        )
    if completed.arguments[0] == "terraform" and _ONLY_TOFUS.search(said):
        return ConfigurationError(f"{directory} is written for OpenTofu.", hint=_install("tofu"), details=tail)
    if _ENCRYPTED.search(said):
        return _encrypted(f"of {directory}", tail)
    return ConfigurationError(
        f"`{completed.arguments[0]} output` failed in {directory}.",
        hint=f"Try it by hand: {terraform_command(directory, 'output')}",
        details=tail,
    )


def _output_object(text: str, directory: Path) -> Mapping[str, Any]:
    """Return the JSON object in the program's output; a wrapper or a warning may have printed text around it."""
    text, empty, unreadable = uncoloured(text), False, None
    for found in re.finditer(r"^\{", text, re.MULTILINE):  # nested objects are indented
        try:
            value = json_at(text, found.start())
        except UnreadableError as error:
            unreadable = unreadable or error
            continue
        if value and all(isinstance(item, dict) and "value" in item for item in value.values()):
            return dict(value)
        empty = empty or not value  # a wrapper may print its own object first
    if unreadable is not None:
        raise ConfigurationError(
            f"What `terraform output -json` printed in {directory} can't be read: {unreadable}.",
            hint="Is it a wrapper's, or is an output no text? Look at it: "
            + terraform_command(directory, "output", "-json"),
        )
    if empty:
        return {}
    raise ConfigurationError(
        f"`terraform output -json` in {directory} printed no JSON object with outputs.",
        hint="Is `terraform` a wrapper that prints something else? In GitHub Actions set terraform_wrapper: false.",
    )


def _not_empty(outputs: Outputs) -> Outputs:
    if outputs.values:
        return outputs
    raise ConfigurationError(
        f"The Terraform root {outputs.directory} has no state, or a state without outputs.",
        hint=f"A workspace is chosen by TF_WORKSPACE. Apply it first: {terraform_command(outputs.directory, 'apply')}",
    )


def _refuse_locked(directory: Path, state: Path) -> None:
    """Raise if a local state has a lock file: it is being written."""
    path = state.parent / f".{state.name}.lock.info"
    if not path.is_file():
        return
    try:
        info = parse_json(read_text(path))
    except UnreadableError:
        info = None
    told = {name: str(value) for name, value in info.items()} if isinstance(info, dict) else {}
    who, when = told.get("Who", "somebody"), told.get("Created", "some time ago")
    raise ConfigurationError(
        f"The Terraform state of {directory} is locked by {who} since {when}.",
        hint=f"Wait for it to end. If nothing runs any more, remove the stale lock: rm {shlex.quote(str(path))}",
    )


def _from_state(
    directory: Path,
    s3: Callable[[str | None], ObjectReader],
    workspace: str | None,
    *,
    missing: ProgramNotFoundError | None,
) -> Outputs:
    """Read the state from the backend without the program; `missing` if that is not installed."""

    def refused(error: ConfigurationError) -> ConfigurationError:
        if missing is None:
            return error
        written = f"{directory} is written for {NAMES[missing.program]}. " if len(programs(directory)) == 1 else ""
        return ConfigurationError(
            f"{written}{missing.message} {error.message}",
            hint=f"Install {NAMES[missing.program]}, and run: {terraform_command(directory, 'init')}",
        )

    try:
        kind, config = plain_backend(directory)
    except ConfigurationError as error:
        raise refused(error) from error
    if kind == "local":
        path = local_state(directory, workspace, config)
        _refuse_locked(directory, path)
        if path.exists():
            return _state_outputs(_content(path), str(path), directory)
        if missing is None:
            return _not_empty(Outputs({}, str(path), directory))
        raise ConfigurationError(
            f"{missing.message} There is no state file {path} to read without it.",
            hint=_install(missing.program),
        )
    if kind != "s3":
        raise refused(
            ConfigurationError(
                f"The state of {directory} is kept by the backend {kind!r}, which only `terraform` itself can read.",
                hint=f"Initialise it: {terraform_command(directory, 'init')}",
            )
        )
    state = state_in_s3(directory, workspace, kind, config)
    if state is None:
        raise refused(
            ConfigurationError(
                f"The S3 backend of {directory} names no bucket or key.",
                hint=f"Initialise it: {terraform_command(directory, 'init', '-backend-config=...')}",
            )
        )
    origin = f"s3://{state.bucket}/{state.key}"
    body = s3(config.get("region")).read_object(state.bucket, state.key)
    if body is None:
        raise ConfigurationError(
            f"There is no Terraform state at {origin}.",
            hint=f"A workspace is chosen by TF_WORKSPACE. Apply it first: {terraform_command(directory, 'apply')}",
        )
    return replace(_state_outputs(body, origin, directory), state=state)


def _state_outputs(body: bytes, origin: str, directory: Path) -> Outputs:
    try:
        state = parse_json(body)
    except UnreadableError as error:
        raise _no_state(origin, f": {error}") from None
    if isinstance(state, dict) and "encrypted_data" in state:
        raise _encrypted(origin)
    outputs = state.get("outputs") if isinstance(state, dict) and state.get("version") == 4 else None
    if not isinstance(outputs, dict) or not all(isinstance(output, dict) for output in outputs.values()):
        raise _no_state(origin)
    return _not_empty(Outputs({name: output.get("value") for name, output in outputs.items()}, origin, directory))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _no_state(str(path), f" that can be read: {error.strerror}") from None


def _install(program: str) -> str:
    return f"Install {NAMES[program]}, or give the values as options: launcher ecs-migrate --help"


def _encrypted(what: str, said: tuple[str, ...] = ()) -> ConfigurationError:
    return ConfigurationError(
        f"The state {what} is encrypted, as OpenTofu does it; only `tofu` with the key can read it.",
        hint="Install OpenTofu, and give it the key; or give the values as options: launcher ecs-migrate --help",
        details=said,
    )


def _no_state(origin: str, why: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"{origin} is no Terraform state of version 4{why}.", hint="See whether it is the right file, and whole."
    )
