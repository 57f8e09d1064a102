"""What a revision declares about itself in module variables, checked before anything runs.

losses = {"values of users.avatar_url": "SELECT count(*) FROM ..."}   what its downgrade loses
lock_timeout = "5s"          how long each of its statements waits for a lock
statement_timeout = "1h"     how long each may take
transactional = False        it is one statement that can't be in a transaction
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import RevisionStep, StampStep

from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.settings import milliseconds

if TYPE_CHECKING:
    from neuraknot_db.sqltext import Statement

Step = RevisionStep | StampStep

# What to look for before a revision is looked at closely, which takes longer. An END alone is found when it has run.
_SETTING = ("set", "discard")
_ENDING = ("commit", "rollback", "abort", "prepare")
_UNLOCKING = ("discard", "unlock_all")
_END_AND_BEGIN = re.compile(r"end\s*;\s*begin")


@dataclass(frozen=True)
class Declared:
    """A step's declarations.

    Attributes:
        lock_timeout: milliseconds; None for the run's own.
        statement_timeout: likewise.
        alone: the one statement of a revision that can't be in a transaction; None for any other.
        losses: what a downgrade loses: a noun phrase for each query that counts it; nothing for an upgrade.
        sets: whether it may change a parameter of the session, going by its text.
    """

    lock_timeout: int | None = None
    statement_timeout: int | None = None
    alone: Statement | None = None
    losses: Mapping[str, str] | None = None
    sets: bool = False


def revision_of(step: Step) -> str:
    """The revision that a step applies, takes back or stamps."""
    if isinstance(step, RevisionStep):
        return step.revision.revision
    return ", ".join(step.to_revisions) or "base"


def of(step: Step) -> Declared:
    """What the step's revision declares.

    Raises:
        UsageError: a timeout is no duration, or another variable is not what it should be.
        RefusedError: it is to run outside of a transaction, and holds more than one statement; or it ends its own; or
            it gives up the lock that keeps other migrations out.
    """
    if not isinstance(step, RevisionStep):
        return Declared()
    module = step.revision.module

    def timeout(name: str, *, least: int = 0) -> int | None:
        value = getattr(module, name, None)
        if value is None:
            return None
        return milliseconds(value, f"{name} of revision {step.revision.revision}", least=least)

    text = Path(step.revision.path).read_text(encoding="utf-8", errors="replace").lower()
    transactional = getattr(module, "transactional", True)
    if not isinstance(transactional, bool):
        raise UsageError(
            f"transactional of revision {step.revision.revision} is {transactional!r}.", hint="Write True or False."
        )
    alone = None if transactional else _only_statement(step)
    # An autocommit_block ends it in Alembic's own way.
    may_end = transactional and "autocommit_block" not in text
    text_ends = may_end and (any(word in text for word in _ENDING) or _END_AND_BEGIN.search(text))
    if text_ends or any(word in text for word in _UNLOCKING):
        _refuse_what_ends(step, may_end=may_end)
    return Declared(
        lock_timeout=timeout("lock_timeout", least=0 if alone is not None and _waits_for_others(alone) else 1),
        statement_timeout=timeout("statement_timeout"),
        alone=alone,
        losses=_losses(step) if step.is_downgrade else {},
        sets=any(word in text for word in _SETTING),
    )


def _losses(step: RevisionStep) -> Mapping[str, str]:
    losses: Any = getattr(step.revision.module, "losses", {})
    if not isinstance(losses, Mapping) or not all(isinstance(text, str) for pair in losses.items() for text in pair):
        raise UsageError(
            f"losses of revision {step.revision.revision} is {losses!r}.",
            hint='Write what is lost and the query that counts it: {"rows of a": "SELECT count(*) FROM public.a"}',
        )
    return losses


def _waits_for_others(statement: Statement) -> bool:
    from neuraknot_db import outside

    return outside.waits_for_others(statement)


def _refuse_what_ends(step: RevisionStep, *, may_end: bool) -> None:
    """Refuse what ends the revision's own transaction, or the run's lock, as far as it can be read without a database.

    Args:
        step: whose statements are looked at.
        may_end: whether one that ends a transaction would end the revision's.
    """
    from neuraknot_db import offline, sqltext

    try:
        found = sqltext.statements(offline.emitted(step.migration_fn))
    except Exception:  # noqa: BLE001 - whatever a revision does with a connection that is not there
        return
    for statement in found:
        words = [token.text.lower() for token in statement.tokens]
        # In what a CREATE FUNCTION defines it is not run.
        unlocks = words[0] != "create" and any("pg_advisory_unlock_all" in word for word in words)
        if unlocks or words[:2] == ["discard", "all"]:
            raise RefusedError(
                f"Revision {step.revision.revision} gives up the lock that keeps other migrations out"
                f" ({statement.text}).",
                hint="Take it out: whatever a revision sets is set back after it in any case.",
            )
        ends = words[0] in {"commit", "rollback", "abort", "end"} or words[:2] == ["prepare", "transaction"]
        if may_end and ends and not (words[0] == "rollback" and "to" in words[1:3]):
            raise RefusedError(
                f"Revision {step.revision.revision} ends its own transaction ({statement.text}): what comes before it"
                " would stay, or be lost, whatever comes after.",
                hint="Take it out: each revision is one transaction, committed when it has been recorded.",
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
