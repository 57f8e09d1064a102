"""Change the environment marker."""

from __future__ import annotations

import logging
import shlex

from alembic.script import ScriptDirectory

from neuraknot_db import settings
from neuraknot_db.database import lock, session
from neuraknot_db.history.log import Entry
from neuraknot_db.migrate import preflight
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.confirmation import Confirmation
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)


def mark(where: Settings, script: ScriptDirectory, environment: str, outcome: Outcome, *, confirm: str | None) -> None:
    """Mark a database with an environment's name, under the migration lock, with a row in the log.

    What takes the guards of production away is confirmed first.

    Args:
        where: the database.
        script: where the revisions are.
        environment: the name.
        outcome: filled in after a failure.
        confirm: the database's name; None to ask on a terminal.

    Raises:
        NeuraknotError: it was refused or interrupted, or failed.
    """
    with session.open_session(where) as connection:
        # Without the lock, which must not be held while a person thinks.
        now = preflight.check(connection, where, script, Command("mark")).found.history.environment or where.environment
        if settings.is_production(now) and not settings.is_production(environment):
            _confirmation(where, now, environment, confirm).demand()
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


def _confirmation(where: Settings, now: str, environment: str, confirm: str | None) -> Confirmation:
    database = where.database
    return Confirmation(
        database,
        confirm,
        f"It counts as production ({now}). Type the name of the database ({database}) to mark it as {environment}: ",
        missing=f"The database counts as production ({now}), and its name was not given: it is marked as before.",
        wrong=lambda typed: f"The confirmation is {typed!r}, and the database is {database!r}: it is marked as before.",
        hint=f"Is it no production? Then neuraknot-db mark {shlex.quote(environment)} --confirm NAME",
    )
