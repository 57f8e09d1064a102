"""What ended a step of a run, in words: which revision, what became of what it had done, where the database is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.runtime.migration import RevisionStep
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from neuraknot_db import diagnosis, interrupt, revisions
from neuraknot_db.containment import words
from neuraknot_db.declared import Step
from neuraknot_db.errors import (
    InterruptedRunError,
    LockUnavailableError,
    MigrationFailedError,
    NeuraknotError,
    TransactionEndedError,
)

if TYPE_CHECKING:
    from neuraknot_db.sqltext import Statement


_DUPLICATE = "42P07"


@dataclass(frozen=True)
class Place:
    """Where a run was when something ended it.

    Attributes:
        step: what was under way, None once everything is committed.
        doing: the same as the subject of a sentence.
        alone: the statement, where it is one outside of a transaction, and was sent.
        revision: where the database is.
        left: whether the revision has sent something in an autocommit_block, which stays.
    """

    step: Step | None
    doing: str
    alone: Statement | None
    revision: str | None
    left: bool = False

    @property
    def at(self) -> str:
        """Where the database is, as a sentence."""
        return f"The database is at {self.revision or 'no revision'}."


def explained(error: Exception, place: Place) -> NeuraknotError | None:
    """The error that says what happened to which revision; None for a defect of ours."""
    if interrupted := interrupt.interruption(error):
        return _interrupted(interrupted, place)
    if isinstance(error, NeuraknotError) or place.step is None:
        return diagnosis.explain(error)
    undone = " and was rolled back" if place.alone is None else " outside of a transaction"
    if place.left:
        undone += ", but for what its autocommit_block has sent"
    found: NeuraknotError
    if isinstance(error, DBAPIError):
        found = diagnosis.database_error(error, doing=place.doing, undone=undone)
    elif isinstance(error, CommandError) and "expected to match" in str(error):
        # Alembic's own update of alembic_version found another revision there.
        found = moved("on")
    elif isinstance(error, AssertionError) and _in_autocommit_block(error):
        found = MigrationFailedError(
            f"{place.doing} leaves its transaction (autocommit_block), which the one transaction of a reset forbids."
        )
    else:
        found = MigrationFailedError(f"{place.doing} failed{undone}: {words(error)}.")
    if isinstance(found, MigrationFailedError):
        # The server's word may be that the file is not to blame.
        advice = found.hint
        found.hint = place.at
        if advice is not None:
            found.hint += f" {advice}"
        elif isinstance(place.step, RevisionStep):
            found.hint += f" Correct {path_of(place.step)} and run the command again."
        if place.alone is not None:
            found.hint += f" {_left_behind(place.alone, error)}"
    return found


def ended_itself(place: Place, error: DBAPIError | None) -> TransactionEndedError:
    """A revision that committed or rolled back what its transaction held."""
    shown = diagnosis.database_error(error, doing="What came then", undone="").message if error else ""
    what = path_of(place.step) if isinstance(place.step, RevisionStep) else "the revision"
    return TransactionEndedError(
        f"{place.doing} ended its own transaction: what it had committed by then has stayed, and was not recorded.",
        hint=f"{place.at} Undo by hand what has stayed, take COMMIT and ROLLBACK out of {what}, and run it again.",
        details=(shown,) if shown else (),
    )


def moved(where: str) -> LockUnavailableError:
    """Somebody else's migration."""
    return LockUnavailableError(
        f"The database was moved {where} while this run was at work.",
        hint="Somebody migrates without the lock. See neuraknot-db log, then run the command again.",
    )


def path_of(step: RevisionStep) -> Path:
    """The revision's file, as a person would type it here."""
    return revisions.here(step.revision.path)


def _interrupted(error: InterruptedRunError, place: Place) -> InterruptedRunError:
    name, again = error.message.partition(";")[0], "Run the command again: it goes on from there."
    doing = place.doing[0].lower() + place.doing[1:]
    if place.step is None:
        error.message, again = f"{name} when everything was committed.", "See neuraknot-db verify."
    elif place.alone is None:
        error.message = f"{name}: {doing} was rolled back."
    else:
        error.message = f"{name}: {doing} was ended, outside of a transaction."
        again += f" {_left_behind(place.alone, error)}"
    error.hint = f"{place.at} {again}"
    return error


def _left_behind(statement: Statement, error: Exception) -> str:
    from neuraknot_db import outside

    index = outside.may_leave(statement)
    if index is not None and getattr(getattr(error, "orig", None), "pgcode", None) == _DUPLICATE:
        # An invalid one of that name would have been dropped before.
        return (
            f"{index} was not begun: what has its name stands untouched."
            " Write IF NOT EXISTS to take that for it, or drop it first."
        )
    if index is None:
        return "What a statement outside of a transaction has done stays."
    return f"{index} may have stayed invalid: the next run drops it and builds it anew."


def _in_autocommit_block(error: AssertionError) -> bool:
    trace = error.__traceback__
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return "autocommit_block" in names
