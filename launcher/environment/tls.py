"""What the caller says of TLS to the database, held against what libpq can do in the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.models import Sourced

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""As the database's side knows them."""
_HINT = "Put the authority's certificate into docker/certificates/: --db-sslrootcert /app/certificates/FILE"


def check(given: Mapping[str, Sourced[Any]]) -> None:
    """Check `db_sslmode` and `db_sslrootcert` among the values that are given, by name.

    Raises:
        UsageError: libpq knows no such mode, the certificate is not a path in the image, or is needed and not named.
    """
    mode, certificate = given.get("db_sslmode"), given.get("db_sslrootcert")
    if mode is not None and mode.value not in SSLMODES:
        raise UsageError(
            f"{mode.source} {mode.value!r} is not a valid sslmode.", hint=f"Give one of: {', '.join(SSLMODES)}"
        )
    if certificate is not None and not certificate.value.startswith("/"):
        raise UsageError(f"{certificate.source} {certificate.value!r} is not a path in the image.", hint=_HINT)
    if mode is not None and mode.value.startswith("verify-") and certificate is None:  # the image has no default
        raise UsageError(f"{mode.source} {mode.value} needs --db-sslrootcert.", hint=_HINT)
