"""Alembic loads this file for each command that meets a database: the rest is in `neuraknot_db.runner`."""

from neuraknot_db import runner

runner.run()
