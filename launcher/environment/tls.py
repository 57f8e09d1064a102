"""The caller's options for TLS to the database, checked against what libpq supports in the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.models import Sourced

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""The same modes as in `neuraknot_db`."""
_HINT = "Put the authority's certificate into docker/certificates/: --db-sslrootcert /app/certificates/FILE"


def check(given: Mapping[str, Sourced[Any]]) -> None:
    """Check `db_sslmode` and `db_sslrootcert` among the given values, by name.

    Raises:
        UsageError: the mode is unknown to libpq, or the certificate is not a path in the image or is required.
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
