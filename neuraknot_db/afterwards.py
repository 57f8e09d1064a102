"""After a run: did it really happen, and does the database hold what it should?"""

from __future__ import annotations

from contextlib import AbstractContextManager

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import diagnosis, guards, interrupt
from neuraknot_db.console import log
from neuraknot_db.errors import (
    InterruptedRunError,
    LockUnavailableError,
    MigrationFailedError,
    NeuraknotError,
    SchemaDiffersError,
    UnreachableError,
)
from neuraknot_db.steps import Walk


def check(beside: AbstractContextManager[Connection], script: ScriptDirectory, walk: Walk, *, production: bool) -> None:
    """Look at the database on a new connection, as its next user will.

    Args:
        beside: opens that connection.
        script: where the revisions and snapshots are.
        walk: the run.
        production: whether a difference is an error.

    Raises:
        MigrationFailedError: the version is not what the run took itself to have committed.
        SchemaDiffersError: in production, the schema is not what its revision should hold.
        LockUnavailableError, UnreachableError: in production, the schema could not be compared; elsewhere that is told.
        InterruptedRunError: SIGINT or SIGTERM came, when everything was committed.
    """
    try:
        _compare(beside, script, walk, production=production)
    except (DBAPIError, InterruptedRunError, UnreachableError) as error:
        if isinstance(error, InterruptedRunError) or interrupt.interruption(error):
            raise walk.explain(error) or error from error
        failure = _not_compared(error, walk)
        if production:
            raise failure from error
        log.warning("%s", failure.message)


def _compare(
    beside: AbstractContextManager[Connection], script: ScriptDirectory, walk: Walk, *, production: bool
) -> None:
    with beside as connection:
        found = guards.inspect(connection).versions
        if frozenset(found) != walk.heads:
            raise MigrationFailedError(
                f"The run ended without an error, but the database is at {', '.join(found) or 'no revision'} and not"
                f" at {', '.join(sorted(walk.heads)) or 'no revision'}: something rolled it back.",
                hint="See neuraknot-db log and the server's own log, then run the command again.",
            )
        # With two heads there is no one revision to compare with.
        if not (len(walk.heads) == 1 and walk.steps[-1].is_upgrade):
            return
        from neuraknot_db import snapshots
        from neuraknot_db.verify import verify

        if not snapshots.path_of(script, *walk.heads).exists():
            if production:  # elsewhere a revision that is being written has none yet
                what = "the schema was compared with nothing: %s has no snapshot (neuraknot-db snapshot makes one)"
                log.warning(what, *walk.heads)
            return
        report = verify(connection, script)
        if production:
            report.demand()
        for difference in report.differences:
            log.warning("the schema is not what its revision should hold: %s", difference)


def _not_compared(error: DBAPIError | UnreachableError, walk: Walk) -> NeuraknotError:
    """Everything is committed by now: this is no migration that failed or was rolled back."""
    found: NeuraknotError
    if isinstance(error, UnreachableError):
        found = error
    else:
        found = diagnosis.database_error(error, doing="The comparison", undone="")
    kind = type(found) if isinstance(found, LockUnavailableError | UnreachableError) else SchemaDiffersError
    return kind(
        f"The run is committed, at {', '.join(sorted(walk.heads)) or 'no revision'}, but its schema was not compared"
        f" with what it should be. {found.message}",
        hint="Compare it when nobody is in the way: neuraknot-db verify",
        details=found.details,
    )
