"""Change the environment marker."""

from __future__ import annotations

import logging

from alembic.script import ScriptDirectory

from neuraknot_db import settings
from neuraknot_db.database import lock, session
from neuraknot_db.history.log import Entry
from neuraknot_db.migrate import preflight
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)


def mark(where: Settings, script: ScriptDirectory, environment: str, outcome: Outcome) -> None:
    """Mark a database with an environment's name, under the migration lock, with a row in the log.

    Args:
        where: the database.
        script: where the revisions are.
        environment: the name.
        outcome: filled in after a failure.

    Raises:
        NeuraknotError: it was refused or interrupted, or failed.
    """
    with session.open_session(where) as connection:
        lock.acquire(connection, settings.limits().patience)
        history = preflight.check(connection, where, script, Command("mark")).found.history
        before = history.environment
        recorder, entry = Recorder(where, connection), Entry(None, "mark")
        try:
            history.mark(environment)
            recorder.write(connection, entry)
            connection.commit()
        except Exception as error:
            explained = recorder.explain(connection, error, entry, outcome, doing="The marking")
            if explained is not None:
                raise explained from error
    log.info("%s: marked as %s (before: %s)", where.place, environment, before or "nothing")
