"""Called by `alembic/env.py`: every Alembic command that connects to a database, or prints SQL for one."""

from __future__ import annotations

from alembic import context
from alembic.runtime.environment import EnvironmentContext

from neuraknot_db.cli import streams
from neuraknot_db.cli.chosen_database import chosen
from neuraknot_db.cli.console import reporting
from neuraknot_db.database import session
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import UsageError
from neuraknot_db.migrate import x_options
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.outcome import OUTCOME, Outcome
from neuraknot_db.migrate.run import HELD, VERSION_SCHEMA, HeldSession, migrate, migrate_held
from neuraknot_db.revisions import files


def run() -> None:
    """Run the Alembic command that loaded `env.py`.

    Raises:
        SystemExit: under the plain `alembic` script, with the error's exit code.
        NeuraknotError: under a caller that put an Outcome into `Config.attributes`.
    """
    # The module exposes an EnvironmentContext's functions, but not the command's options.
    environment: EnvironmentContext = context._proxy  # type: ignore[attr-defined]
    outcome = environment.config.attributes.get(OUTCOME)
    if outcome is not None:
        _dispatch(environment, outcome)
        return
    options = environment.config.cmd_opts
    outcome = Outcome(options.cmd[0].__name__ if options else "alembic")
    with reporting(outcome, environment.config):
        _dispatch(environment, outcome)


def _dispatch(environment: EnvironmentContext, outcome: Outcome) -> None:
    options = environment.context_opts
    if "revision_context" in options:
        raise UsageError(
            "There are no models to compare the database with: the revisions are the schema's source.",
            hint="neuraknot-db verify compares the database with what its revision should hold.",
        )
    files.load(environment.script)
    asked = x_options.read(environment.config)  # refuses unknown options
    command = Command.of(environment)
    held: HeldSession | None = environment.config.attributes.get(HELD)
    if environment.is_offline_mode():
        if asked.begin is not None:
            raise UsageError("-x from means nothing to --sql.", hint="A range says it: downgrade 004:002 --sql")
        from neuraknot_db.migrate import offline  # few runs need it

        streams.carry_data()
        offline.print_script(environment, command)
    elif held is not None:
        migrate_held(environment, command, held, outcome)
    elif command.changes:
        migrate(environment, command, chosen(), outcome)
    else:
        _read(environment)


def _read(environment: EnvironmentContext) -> None:
    """Run a command that only reads, such as `current`: no lock, and no version table created."""
    with session.open_session(chosen()) as connection:
        files.demand_known(environment.script, DatabaseState.of(connection))
        environment.configure(connection=connection, dont_mutate=True, version_table_schema=VERSION_SCHEMA)
        environment.run_migrations()
