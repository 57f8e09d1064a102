"""The error for a failed step: which revision, what became of its work, where the database is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alembic.runtime.migration import RevisionStep
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from neuraknot_db import settings
from neuraknot_db.database import diagnosis, display, interrupt, sqlstate
from neuraknot_db.database.driver import Exchange
from neuraknot_db.errors import (
    InterruptedRunError,
    LockUnavailableError,
    MigrationFailedError,
    NeuraknotError,
    RefusedError,
    TransactionEndedError,
    UnreachableError,
)
from neuraknot_db.revisions import concurrently, files
from neuraknot_db.revisions.containment import words
from neuraknot_db.revisions.options import Step
from neuraknot_db.settings import Limits

if TYPE_CHECKING:
    from neuraknot_db.database.sql_text import Statement
    from neuraknot_db.revisions.places import Location


STAYS = "What its statement did stays, and the next run sends it again: write IF NOT EXISTS or the like."
"""What there is to say of a statement outside of a transaction where what it ensures is not so."""


class FailurePoint(NamedTuple):
    """Where a run was when it ended, and what the database says about that.

    Attributes:
        doing: what was running, as the subject of a sentence.
        landed: whether it is committed, according to the database; None if it could not be asked.
        revision: where the database is.
        step: what was running, as Alembic's step; None for anything else, or if everything is committed.
        alone: the statement, if it was sent outside of a transaction.
        alone_line: the line of the revision's file that sent it.
        begun: whether anything of it had been sent.
        kept: a sentence to use instead of where the database is: what a rollback kept.
        left: whether the revision sent something in an autocommit_block, which stays.
        batches: how many rows the committed batches of its backfill have changed, in words; empty for none.
        asked: whether a query of its `expects` or `ensures` was running, and none of its own statements.
        within: whether a caller's transaction holds it: only the caller knows where the database is.
        exchange: the statement that failed.
        limits: its timeouts.
        cause: what the database says about the cause, as a hint.
    """

    doing: str
    landed: bool | None
    revision: str | None
    step: Step | None = None
    alone: Statement | None = None
    alone_line: int | None = None
    begun: bool = True
    kept: str = ""
    left: bool = False
    batches: str = ""
    asked: bool = False
    within: bool = False
    exchange: Exchange = Exchange()
    limits: Limits = Limits()
    cause: str | None = None

    @property
    def at(self) -> str:
        """Where the database is, as a sentence."""
        if self.within:
            return ""
        if self.landed is None:
            return "Ask the database once it answers: alembic current, and neuraknot-db log."
        return self.kept if self.kept and not self.landed else f"The database is at {self.revision or 'no revision'}."

    @property
    def undone(self) -> str:
        """What became of its work, to follow a verb."""
        if not self.begun:
            return " before it began"
        if self.landed is None:
            return ", and whether it was committed is not known"
        if self.alone is not None:
            return " outside of a transaction"
        if self.batches:
            return f" and was rolled back to its last batch, with {self.batches} rows changed"
        return " and was rolled back" + ", but for what its autocommit_block has sent" * self.left


def explained(error: Exception, point: FailurePoint) -> NeuraknotError | None:
    """Return the error that says what happened to which revision; None for a defect of ours."""
    if interrupted := interrupt.interruption(error):
        return _interrupted(interrupted, point)
    if isinstance(error, NeuraknotError) or point.landed or (point.step is None and not isinstance(error, DBAPIError)):
        found = diagnosis.explain(error)
    else:
        found = _of_step(error, point)
    told = isinstance(found, RefusedError | TransactionEndedError)
    if found is not None and point.kept and not told and not (found.hint or "").startswith(point.at):
        found.hint = " ".join(filter(None, (point.at, found.hint)))
    return found


def _of_step(error: Exception, point: FailurePoint) -> NeuraknotError:
    found: NeuraknotError
    place = _located(error, point)
    if isinstance(error, DBAPIError):
        line = place.text.line if place and place.text and place.text.as_written else None
        ours = place is not None and place.line is None
        found = diagnosis.database_error(error, doing=point.doing, undone=point.undone, line=line, ours=ours)
        found = _timed_out(error, found, point) or found
        if place and place.line:
            found.details = (f"{place.shown}:", *found.details)
        elif place:
            when = "the COMMIT" if error.statement is None else "its end, where the log is written"
            found.details = (*found.details, f"It was found at {when}, so which line is to blame is not known.")
    elif diagnosis.is_lost(error):
        found = UnreachableError(f"{point.doing} lost its connection{point.undone}.", hint="Run the command again.")
    elif isinstance(error, CommandError) and "expected to match" in str(error):
        # Alembic's update of alembic_version found another revision there.
        return moved("on")
    elif isinstance(error, AssertionError) and _in_autocommit_block(error):
        found = MigrationFailedError(
            f"{point.doing} leaves its transaction (autocommit_block), which the one transaction of a reset forbids."
        )
    else:
        found = MigrationFailedError(f"{point.doing} failed{point.undone}: {words(error)}.")
    # What the server is in may be the cause, and then the file is not to blame.
    advice = point.cause or found.hint
    if point.cause is None and place and sqlstate.of(error) == sqlstate.READ_ONLY:
        what = "what writes: such a query may only read" if point.asked else "what makes the transaction read-only"
        advice = f"Take out of {place.shown} {what}."
    elif advice is None and place is not None:
        advice = f"Correct {place.shown}, and run the command again."
    left = _left_behind(point, point.alone, error) if point.alone is not None else None
    found.hint = " ".join(filter(None, (point.at, left, advice)))
    return found


def _timed_out(error: DBAPIError, found: NeuraknotError, point: FailurePoint) -> NeuraknotError | None:
    """Return the error that names our own timeout instead of what was found, if that is what ended it.

    The server's words can't tell: for a session that was idle for too long none arrive, and the others are translated.
    """
    if not isinstance(point.step, RevisionStep):
        return None
    idle, took = (round(1000 * seconds) for seconds in point.exchange)
    if diagnosis.is_silent(error) and 0 < point.limits.idle_in_transaction_session_timeout <= idle:
        what, name = f"it had sent nothing for {display.duration(idle)}", "idle_in_transaction_session_timeout"
    elif diagnosis.is_cancelled(error) and 0 < point.limits.statement_timeout <= took:
        what, name = f"a statement took {display.duration(took)}", "statement_timeout"
    elif diagnosis.is_cancelled(error) and "statement timeout" in str(error) and took < point.limits.statement_timeout:
        spelled = settings.spelled(point.limits.statement_timeout)
        return MigrationFailedError(
            f"{point.doing} was ended{point.undone.replace(' was', '')}: a statement took {display.duration(took)},"
            " and what the revision has set as statement_timeout is less.",
            hint=f'Take that out of {path_of(point.step)}: there it is a line, statement_timeout = "{spelled}"',
            details=found.details,
        )
    else:
        return None
    limit: int = getattr(point.limits, name)
    return MigrationFailedError(
        f"{point.doing} was ended{point.undone.replace(' was', '')}: {what}, and {name} is {settings.spelled(limit)}.",
        hint=f'To give it more time, put `{name} = "{settings.spelled(2 * limit)}"` below down_revision in'
        f" {path_of(point.step)}, and run the command again.",
        details=found.details,
    )


def _located(error: Exception, point: FailurePoint) -> Location | None:
    """Return where a revision failed; None for anything else."""
    if not isinstance(point.step, RevisionStep):
        return None
    from neuraknot_db.database import excerpt  # few runs fail
    from neuraknot_db.revisions import places

    path = str(point.step.revision.path)
    sql = error.statement if isinstance(error, DBAPIError) else None
    position = excerpt.position_of(error) if isinstance(error, DBAPIError) else None
    # It may have been sent when its function had returned.
    held = [(path, point.alone_line)] if point.alone_line else []
    return places.locate(places.failing_calls(error, path) or held, path, sql, position)


def unanswered(error: Exception, point: FailurePoint, committed: str) -> UnreachableError:
    """The error for a lost connection after a COMMIT that landed, with steps left to do.

    Args:
        error: the original error.
        point: where the run is now.
        committed: what landed, as the subject of a sentence.
    """
    why = diagnosis.database_error(error).message.partition(": ")[2] if isinstance(error, DBAPIError) else f"{error}."
    return UnreachableError(
        f"{committed} was committed, but the connection was lost before the server said so: {why}",
        hint=f"{point.at} Run the command again: it goes on from there.",
    )


def ended_itself(point: FailurePoint, error: DBAPIError | None) -> TransactionEndedError:
    """The error for a revision that committed or rolled back its own transaction."""
    shown = diagnosis.database_error(error, doing="What came then", undone="").message if error else ""
    what = path_of(point.step) if isinstance(point.step, RevisionStep) else "the revision"
    return TransactionEndedError(
        f"{point.doing} ended its own transaction: what it had committed by then has stayed, and was not recorded.",
        hint=f"{point.at} Undo by hand what has stayed, take COMMIT and ROLLBACK out of {what}, and run it again.",
        details=(shown,) if shown else (),
    )


def unlocked(point: FailurePoint) -> LockUnavailableError:
    """The error for a revision that gave up the migration lock, which somebody else has taken by now."""
    return LockUnavailableError(
        f"{point.doing} gave up the lock that keeps other migrations out, and another has it now: it"
        f"{point.undone.removeprefix(' and')}.",
        hint=f"{point.at} Take pg_advisory_unlock out of what it calls. What the other one did: neuraknot-db log",
    )


def moved(where: str) -> LockUnavailableError:
    """The error for a concurrent migration."""
    return LockUnavailableError(
        f"The database was moved {where} while this run was at work.",
        hint="Somebody migrates without the lock. See neuraknot-db log, then run the command again.",
    )


def path_of(step: RevisionStep) -> Path:
    """Return the revision's file, as a person would type it here."""
    return files.here(step.revision.path)


def _interrupted(error: InterruptedRunError, point: FailurePoint) -> InterruptedRunError:
    name, again = interrupt.name_of(error.exit_code), "Run the command again: it goes on from there."
    doing = point.doing[0].lower() + point.doing[1:]
    if point.landed:
        error.message, again = f"{name} when everything was committed.", "See neuraknot-db verify."
    elif not point.begun:
        error.message = f"{name} before {doing} began."
    elif point.landed is None:
        error.message, again = f"{name}; whether {doing} was committed is not known.", ""
    elif point.alone is None:
        error.message = f"{name}: {doing}{point.undone.removeprefix(' and')}."
    else:
        error.message = f"{name}: {doing} was ended, outside of a transaction."
        again += f" {_left_behind(point, point.alone, error)}"
    error.hint = f"{point.at} {'' if point.kept else again}".rstrip()
    return error


def _left_behind(point: FailurePoint, statement: Statement, error: Exception) -> str:
    if point.asked:
        return STAYS
    index, state = concurrently.built(statement), sqlstate.of(error)
    if index is not None and state == sqlstate.DUPLICATE_TABLE:
        # An invalid index of that name would have been dropped before.
        return (
            f"The index {index[0]} was not begun: what has its name stands untouched."
            " Write IF NOT EXISTS to take that for it, or drop it first."
        )
    if state == sqlstate.UNDEFINED_TABLE and concurrently.detached(statement):
        return "Where an earlier run has detached it, write that down with alembic stamp."
    return concurrently.may_leave(statement) or "What a statement outside of a transaction has done stays."


def _in_autocommit_block(error: AssertionError) -> bool:
    trace = error.__traceback__
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return "autocommit_block" in names
