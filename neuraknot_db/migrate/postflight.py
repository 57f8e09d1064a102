"""After a run: was it really committed, and does the database hold what it should?"""

from __future__ import annotations

import logging
from collections.abc import Collection

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from neuraknot_db.database import diagnosis, interrupt
from neuraknot_db.database.state import DatabaseState, joined
from neuraknot_db.errors import (
    InterruptedRunError,
    LockUnavailableError,
    MigrationFailedError,
    NeuraknotError,
    SchemaDiffersError,
    UnreachableError,
)
from neuraknot_db.migrate import failures
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.record import Recorder

log = logging.getLogger(__name__)


def check(
    recorder: Recorder,
    script: ScriptDirectory,
    heads: Collection[str],
    outcome: Outcome,
    *,
    compare: bool,
    production: bool,
) -> None:
    """Check the database on a new connection, as its next user will see it.

    Args:
        recorder: the run's recorder; opens that connection.
        script: where the revisions and snapshots are.
        heads: where the run believes the database to be.
        outcome: corrected if the database says otherwise.
        compare: whether to compare the schema with its snapshot.
        production: whether a difference is an error.

    Raises:
        MigrationFailedError: the version is not what the run committed.
        SchemaDiffersError: in production, the schema is not what its revision should hold.
        LockUnavailableError, UnreachableError: in production, the schema could not be compared; elsewhere a warning.
        InterruptedRunError: a signal or the deadline came after everything was committed.
    """
    at = joined(heads) or "no revision"
    try:
        with recorder.opened() as connection:
            found = DatabaseState.of(connection)
            outcome.after = found.revision
            if frozenset(found.versions) != frozenset(heads):
                raise MigrationFailedError(
                    f"The run ended without an error, but the database is at {found.revision or 'no revision'} and not"
                    f" at {at}: something rolled it back.",
                    hint="See neuraknot-db log and the server's own log, then run the command again.",
                )
            if compare and len(heads) == 1:
                _compare(connection, script, *heads, production=production)
            elif compare and heads:
                log.warning("the schema was compared with nothing: no snapshot is that of two revisions (%s)", at)
    except (DBAPIError, InvalidRequestError, InterruptedRunError, UnreachableError) as error:
        if isinstance(error, InterruptedRunError) or interrupt.interruption(error):
            point = failures.FailurePoint("The run", landed=True, revision=outcome.after)
            raise failures.explained(error, point) or error from error
        failure = _not_compared(error, at)
        if production:
            raise failure from error
        log.warning("%s", failure.message)


def _compare(connection: Connection, script: ScriptDirectory, revision: str, *, production: bool) -> None:
    from neuraknot_db.schema import snapshots  # few runs need it
    from neuraknot_db.schema.verify import verify

    if not snapshots.path_of(script, revision).exists():
        if production:  # elsewhere, a revision in development has no snapshot yet
            what = "the schema was compared with nothing: %s has no snapshot (neuraknot-db snapshot makes one)"
            log.warning(what, revision)
        return
    report = verify(connection, script)
    if production:
        report.demand()
    for difference in report.differences:
        log.warning("the schema is not what its revision should hold: %s", difference)


def _not_compared(error: Exception, at: str) -> NeuraknotError:
    """Everything is committed by now: the migration neither failed nor was rolled back."""
    found: NeuraknotError
    if isinstance(error, DBAPIError):
        found = diagnosis.database_error(error, doing="The comparison")
    else:
        found = error if isinstance(error, UnreachableError) else UnreachableError(f"{error}.")
    kind = type(found) if isinstance(found, LockUnavailableError | UnreachableError) else SchemaDiffersError
    return kind(
        f"The run is committed, at {at}, but its schema was not compared with what it should be. {found.message}",
        hint="Compare it when nobody is in the way: neuraknot-db verify",
        details=found.details,
    )
