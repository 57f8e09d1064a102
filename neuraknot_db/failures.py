"""What ended a step of a run, in words: which revision, what became of what it had done, where the database is."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from neuraknot_db import diagnosis, interrupt
from neuraknot_db.declared import Step
from neuraknot_db.errors import (
    InterruptedRunError,
    LockUnavailableError,
    MigrationFailedError,
    NeuraknotError,
    TransactionEndedError,
    UsageError,
)

if TYPE_CHECKING:
    from neuraknot_db.sqltext import Statement


@dataclass(frozen=True)
class Place:
    """Where a run was when something ended it.

    Attributes:
        step: what was under way, None once everything is committed.
        doing: the same as the subject of a sentence.
        alone: the statement, where it is one outside of a transaction.
        revision: where the database is.
    """

    step: Step | None
    doing: str
    alone: Statement | None
    revision: str | None

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
        found = MigrationFailedError(f"{place.doing} failed{undone}: {type(error).__name__}: {error}.")
    if isinstance(found, MigrationFailedError):
        found.hint = place.at
        if isinstance(place.step, RevisionStep):
            found.hint += f" Correct {path_of(place.step)} and run the command again."
        if place.alone is not None:
            found.hint += f" {_left_behind(place.alone)}"
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
    return _here(step.revision.path)


def unreadable(script: ScriptDirectory, error: Exception) -> MigrationFailedError | None:
    """Why the revisions' files can't be read; None where it is for Alembic to say."""
    words, hint = f"{type(error).__name__}: {error}", "Correct it and run the command again"
    if isinstance(error, CommandError):
        if "Could not determine revision id" not in str(error):
            return None
        name = str(error).partition("filename ")[2].partition(". Be sure")[0]
        words, place = "it holds no `revision = ...`", str(_here(f"{script.versions}/{name}"))
    elif isinstance(error, SyntaxError):
        place = f"{_here(error.filename or script.versions)}, line {error.lineno}"
    elif isinstance(error, KeyError) and (naming := _naming(script, error.args[0])):
        words, place = f"it names {error.args[0]}, which no file has", naming
    else:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_within(frame.filename, script)]
        place = f"{_here(ours[-1].filename)}, line {ours[-1].lineno}" if ours else str(_here(script.versions))
    return MigrationFailedError(f"A revision file can't be read: {words}.", hint=f"{hint}: {place}")


def refuse_twice(script: ScriptDirectory) -> None:
    """Refuse two files of one revision, of which Alembic would run the one that it read last.

    Raises:
        UsageError: there are some.
    """
    files: dict[str, list[str]] = {}
    for each in script._load_revisions():
        files.setdefault(each.revision, []).append(str(_here(each.path)))
    for revision, paths in files.items():
        if len(paths) > 1:
            raise UsageError(
                f"Revision {revision} is in two files: {' and '.join(sorted(paths))}.",
                hint="Give one of them the next number, in its name too, and the other as its down_revision.",
            )


def _naming(script: ScriptDirectory, unknown: object) -> str | None:
    found = [each for each in script._load_revisions() if unknown in each._versioned_down_revisions]
    return str(_here(found[0].path)) if found else None


def _is_within(path: str, script: ScriptDirectory) -> bool:
    return Path(path).is_relative_to(script.versions)


def _here(path: str) -> Path:
    found = Path(path)
    return found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found


def _interrupted(error: InterruptedRunError, place: Place) -> InterruptedRunError:
    name, again = error.message.partition(";")[0], "Run the command again: it goes on from there."
    doing = place.doing[0].lower() + place.doing[1:]
    if place.step is None:
        error.message, again = f"{name} when everything was committed.", "See neuraknot-db verify."
    elif place.alone is None:
        error.message = f"{name}: {doing} was rolled back."
    else:
        error.message = f"{name}: {doing} was ended, outside of a transaction."
        again += f" {_left_behind(place.alone)}"
    error.hint = f"{place.at} {again}"
    return error


def _left_behind(statement: Statement) -> str:
    from neuraknot_db import outside

    index = outside.may_leave(statement)
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
