"""The files of `alembic/snapshots/`, generated on scratch databases."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.database import engine
from neuraknot_db.database.create import scratch_database
from neuraknot_db.dev.measure import measure, merged
from neuraknot_db.migrate import run
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.schema import effects, snapshots
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)


def generate(config: Config, script: ScriptDirectory, server: Settings) -> dict[Path, str]:
    """Return what each file should hold: the schema after each revision, and what its statements do.

    Args:
        config: Alembic's.
        script: where the revisions are.
        server: any database of the server on which the scratch databases are made, and dropped in the end.

    Raises:
        NeuraknotError: a revision failed, or the server refused.
    """
    with scratch_database(server) as where, engine.connect(where) as connection:
        config.attributes[run.HELD] = run.HeldSession(where, connection, Recorder(where, connection))

        def upgrade_to(revision: str) -> None:
            command.upgrade(config, revision)

        wanted = dict(snapshots.take_all(script, upgrade_to, lambda: engine.connect(where)))
    with scratch_database(server) as where:
        for revision, found in measure(script, where).items():
            path = effects.path_of(script, revision)
            wanted[path] = effects.render(revision, merged(effects.read(path), found))
            for way, told in (("upgrade", found.upgrade), ("downgrade", found.downgrade)):
                if told.failure:
                    log.warning("the %s of revision %s was not measured: %s", way, revision, told.failure)
    return wanted
