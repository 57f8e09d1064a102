"""A backfill that no run would begin."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.revisions.options import declared_backfill

CODE = "refused-backfill"


def check(subject: Subject) -> Iterator[Finding]:
    """Find a backfill beside an `upgrade()`, or outside of a transaction."""
    try:
        declared_backfill(subject.revision)
    except (RefusedError, UsageError) as refused:
        yield subject.finding(subject.line_of("backfill"), CODE, refused.message, refused.hint or "")
