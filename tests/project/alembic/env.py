"""Alembic loads this file for each command that meets a database: the rest is in `neuraknot_db.cli.env`."""

from neuraknot_db.cli import env

env.run()
