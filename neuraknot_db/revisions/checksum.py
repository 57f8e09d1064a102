"""A checksum of what a revision does, independent of comments and white space."""

from __future__ import annotations

import hashlib

KIND = "tree:"
"""Prefix of each checksum; older versions, which hashed what a revision sent when run, used `ast:` or nothing."""


UPGRADE = ("upgrade", "backfill")
"""What an upgrade runs of a revision's file; `backfill` is reserved for large data changes."""


def checksum(source: bytes, *roots: str) -> str:
    """Return the SHA-256 of what a revision does, from its file's syntax tree; nothing of it is run.

    Includes the named functions and variables (by default `UPGRADE`) and the file's own names that they use. These
    defaults exclude how it is run (`transactional`, timeouts), what it expects and ensures, the downgrade
    and its losses, and what the file imports.
    """
    # Imported here: a run with nothing to do needs no syntax tree.
    from neuraknot_db.revisions.syntax import Source

    return KIND + hashlib.sha256(Source(source).canonical(*(roots or UPGRADE))).hexdigest()


def source_sha256(source: bytes) -> str:
    """Return the SHA-256 of a revision's file."""
    return hashlib.sha256(source).hexdigest()
