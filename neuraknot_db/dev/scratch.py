"""Alembic's own commands on a scratch database, without what they tell: it would read as if a named one changed."""

from __future__ import annotations

import logging
from typing import Literal

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection

from neuraknot_db.migrate import run
from neuraknot_db.migrate.outcome import OUTCOME, Outcome
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.settings import Settings

Way = Literal["upgrade", "downgrade"]


class Scratch:
    """A session on a scratch database that the commands run on."""

    def __init__(self, config: Config, where: Settings, connection: Connection) -> None:
        """Lead the commands of this configuration there from now on."""
        self._config = config
        held = run.HeldSession(where, connection, Recorder(where, connection))
        config.attributes |= {run.HELD: held, OUTCOME: Outcome("scratch")}

    def migrate(self, way: Way, target: str) -> None:
        """Run `upgrade` or `downgrade` to a revision.

        Raises:
            NeuraknotError: as the command does.
        """
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            getattr(command, way)(self._config, target)
        finally:
            logging.disable(disabled)
