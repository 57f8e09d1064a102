"""A checksum of what a revision does: comments and white space may change freely."""

from __future__ import annotations

import hashlib

KIND = "tree:"
"""Before each checksum; those of older versions, of what a revision sent when it was run, have `ast:` or nothing."""


UPGRADE = ("upgrade", "backfill")
"""What of a revision's file an upgrade runs."""


def checksum(source: bytes, *roots: str) -> str:
    """SHA-256 of what a revision does, as the syntax tree of its file has it; nothing of it is run.

    Counted are the named functions and variables, those of `UPGRADE` if none are, and the file's own names that they
    use. Not counted by these: how it is run (`transactional`, timeouts), the way back and what that loses, and what the
    file imports.
    """
    # A run with nothing to do needs no syntax tree.
    from neuraknot_db.revisions.syntax import Source

    return KIND + hashlib.sha256(Source(source).canonical(*(roots or UPGRADE))).hexdigest()


def source_sha256(source: bytes) -> str:
    """SHA-256 of a revision's file."""
    return hashlib.sha256(source).hexdigest()
