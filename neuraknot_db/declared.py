"""What a revision declares about itself in module variables, checked before anything runs.

losses = {"values of users.avatar_url": "SELECT count(*) FROM ..."}   what its downgrade loses
lock_timeout = "5s"          how long each of its statements waits for a lock
statement_timeout = "1h"     how long each may take
transactional = False        it is one statement that can't be in a transaction
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alembic.runtime.migration import RevisionStep, StampStep

from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.settings import milliseconds

if TYPE_CHECKING:
    from neuraknot_db.sqltext import Statement

Step = RevisionStep | StampStep


@dataclass(frozen=True)
class Declared:
    """A step's declarations.

    Attributes:
        lock_timeout: milliseconds; None for the run's own.
        statement_timeout: likewise.
        alone: the one statement of a revision that can't be in a transaction; None for any other.
        losses: what a downgrade loses: a noun phrase for each query that counts it; nothing for an upgrade.
    """

    lock_timeout: int | None = None
    statement_timeout: int | None = None
    alone: Statement | None = None
    losses: Mapping[str, str] | None = None


def revision_of(step: Step) -> str:
    """The revision that a step applies, takes back or stamps."""
    if isinstance(step, RevisionStep):
        return step.revision.revision
    return ", ".join(step.to_revisions) or "base"


def of(step: Step) -> Declared:
    """What the step's revision declares.

    Raises:
        UsageError: a timeout is no duration.
        RefusedError: it is to run outside of a transaction, and holds more than one statement.
    """
    if not isinstance(step, RevisionStep):
        return Declared()
    module = step.revision.module

    def timeout(name: str, *, least: int = 0) -> int | None:
        value = getattr(module, name, None)
        if value is None:
            return None
        return milliseconds(value, f"{name} of revision {step.revision.revision}", least=least)

    transactional = getattr(module, "transactional", True)
    if not isinstance(transactional, bool):
        raise UsageError(
            f"transactional of revision {step.revision.revision} is {transactional!r}.", hint="Write True or False."
        )
    return Declared(
        lock_timeout=timeout("lock_timeout", least=1 if transactional else 0),
        statement_timeout=timeout("statement_timeout"),
        alone=None if transactional else _only_statement(step),
        losses=getattr(module, "losses", {}) if step.is_downgrade else {},
    )


def _only_statement(step: RevisionStep) -> Statement:
    # Few revisions need these two, and they take a while to import.
    from neuraknot_db import offline, outside, sqltext

    revision, direction = step.revision.revision, "upgrade" if step.is_upgrade else "downgrade"
    try:
        found = sqltext.statements(offline.emitted(step.migration_fn))
    except Exception as error:
        raise RefusedError(
            f"Revision {revision} is not transactional, and its {direction} can't be read without a database:"
            f" {type(error).__name__}.",
            hint="Write its one statement as op.execute(...).",
        ) from error
    if len(found) != 1:
        raise RefusedError(
            f"Revision {revision} is not transactional, and its {direction} holds {len(found)} statements: if one"
            " failed, those before it would stay.",
            hint="Split it into revisions of one statement each.",
        )
    if outside.is_nameless_index(found[0]):
        raise RefusedError(
            f"Revision {revision} builds an index without a name, which can't be found again after a failure.",
            hint="Name it: CREATE INDEX CONCURRENTLY IF NOT EXISTS name ON ...",
        )
    return found[0]
