"""The database password in `secrets.tfvars`, which Terraform reads and never prints."""

from __future__ import annotations

from pathlib import Path

from launcher.errors import ConfigurationError
from launcher.machine.untrusted_text import is_text
from launcher.models import Secret, Sourced
from launcher.terraform import hcl


def read_password(directory: Path) -> Sourced[Secret] | None:
    """Return `db_password` from `secrets.tfvars` in `directory`; None if there is no such file.

    Raises:
        ConfigurationError: the file can't be read, or has no such key, or its value is not a plain, non-empty string.
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
    if not isinstance(value, str) or not value or not is_text(value):
        raise ConfigurationError(
            f"db_password in {path} is not a string in double quotes, or is empty.",
            hint='Write it as db_password = "...", or set DB_PASSWORD.',
        )
    return Sourced(Secret(value), f"db_password in {path}")


def written_passwords(directory: Path) -> list[Secret]:
    """Return the texts to hide: all that `secrets.tfvars` in `directory` may contain as `db_password`."""
    try:
        found = read_password(directory)
    except ConfigurationError:
        return [Secret(text) for text in hcl.written(directory / "secrets.tfvars", "db_password")]
    return [found.value] if found else []
