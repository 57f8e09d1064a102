"""A Terraform root whose state has the local stack's outputs; `terraform output` needs no provider for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5


def write_root(directory: Path, outputs: Mapping[str, Any], password: str | None = None) -> None:
    """Write a root: a configuration, a local state with the outputs, and `secrets.tfvars` if there is a password.

    Args:
        directory: created if it is missing; existing files are replaced.
        outputs: by name; None means null.
        password: may have any characters.
    """
    directory.mkdir(parents=True, exist_ok=True)
    configuration = ['terraform {\n  required_version = ">= 1.0"\n}\n']
    configuration += [f'output "{name}" {{\n  value = {json.dumps(value)}\n}}\n' for name, value in outputs.items()]
    (directory / "main.tf").write_text("\n".join(configuration), encoding="utf-8")
    state = {
        "version": 4,
        "terraform_version": "1.9.0",
        "serial": 1,
        "lineage": str(uuid5(NAMESPACE_URL, str(directory))),
        "outputs": {name: {"value": value, "type": _type(value)} for name, value in outputs.items()},
        "resources": [],
        "check_results": None,
    }
    (directory / "terraform.tfstate").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    if password is not None:
        quoted = json.dumps(password, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
        secrets = directory / "secrets.tfvars"
        secrets.touch(mode=0o600)
        secrets.write_text(f"db_password = {quoted}\n", encoding="utf-8")


def _type(value: Any) -> Any:
    if isinstance(value, list):
        return ["tuple", [_type(item) for item in value]]
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "dynamic" if value is None else "string"
