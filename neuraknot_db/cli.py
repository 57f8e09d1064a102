"""The command `neuraknot-db`: Alembic's own command line, with this project's commands and exit codes."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from argparse import Namespace
from collections.abc import Sequence
from typing import cast

from alembic import command
from alembic.config import CommandFunction, CommandLine, Config
from alembic.script import ScriptDirectory

from neuraknot_db import commands, runner
from neuraknot_db.console import Outcome, reporting

DESCRIPTION = "Migrates NeuraKnot's PostgreSQL database: every Alembic command, and a few more."

EPILOG = """\
environment variables:
  DATABASE_URL
      postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require
  DB_HOST, DB_PORT (5432), DB_USER (postgres), DB_PASSWORD, DB_NAME (neuraKnot),
  DB_SSLMODE (disable to verify-full), DB_SSLROOTCERT
      the same one by one; with none of all these set, an embedded PostgreSQL
      serves (pip install 'neuraknot-db[dev]')
  NEURAKNOT_ENV
      the environment's name; dev, development, local, test and ci are not
      production, any other is; not set: dev on the embedded PostgreSQL,
      production elsewhere
  NEURAKNOT_RESULT
      json: the last line on standard output is a JSON object with the outcome
  NEURAKNOT_LOCK_TIMEOUT (2s), NEURAKNOT_STATEMENT_TIMEOUT (15min)
      how long a statement waits for a table's lock, and how long it may take
  NEURAKNOT_LOCK_TRIES (10), NEURAKNOT_LOCK_PAUSE (3s)
      how often a revision without its lock is tried again, and the first
      pause, which doubles
  NEURAKNOT_LOCK_WAIT (10min)
      how long to wait for another migration to end

options of -x, which stands before the command:
  -x create_db=true   create the database first if it is missing
  -x force=true       upgrade although unversioned tables stand in the way
  -x confirm=NAME     confirm a downgrade in production with the database's name
  -x accept_edit=REV  take the edit of a revision that was applied before

exit codes:
  0 done                     5 refused, nothing changed
  2 wrong usage              6 database not reached
  3 the schema differs       7 a migration failed, rolled back
  4 locked                   130, 143 interrupted
"""


_WITHOUT_REVISIONS = (command.init, command.list_templates)


class _Paragraphs(argparse.RawDescriptionHelpFormatter):
    """Fits paragraphs into the terminal, and leaves lines of a layout of their own as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text == EPILOG:
            return super()._fill_text(text, width, indent)
        return "\n\n".join(textwrap.fill(paragraph, width) for paragraph in text.split("\n\n"))


class NeuraknotCommandLine(CommandLine):
    """Alembic's documented command line, extended: each stock command works as it is."""

    _POSITIONAL_OPTS = {  # noqa: RUF012 - as Alembic declares it
        **CommandLine._POSITIONAL_OPTS,
        "environment": {"metavar": "ENV", "help": "such as dev or prod"},
    }

    def __init__(self, prog: str | None = None) -> None:
        super().__init__(prog)
        self.parser.description = DESCRIPTION
        self.parser.epilog = EPILOG
        self.parser.formatter_class = _Paragraphs
        self.subparsers.metavar = "COMMAND"
        for added in commands.COMMANDS:
            self.register_command(cast(CommandFunction, added.function))
            subparser = self.subparsers.choices[added.function.__name__]
            subparser.description = inspect.getdoc(added.function)
            subparser.formatter_class = _Paragraphs
            for flags, settings in added.options:
                subparser.add_argument(*flags, **settings)

    def run_cmd(self, config: Config, options: Namespace) -> None:
        """Run a command, and end the process with this project's code if it fails."""
        function, positional, keywords = options.cmd
        outcome = Outcome(function.__name__)
        config.attributes[runner.OUTCOME] = outcome
        with reporting(outcome, quiet=options.quiet, raise_errors=options.raiseerr):
            if function.__module__ == command.__name__ and function not in _WITHOUT_REVISIONS:
                script = ScriptDirectory.from_config(config)
                runner.load(script)
                if function is command.revision and options.rev_id is None:
                    options.rev_id = next_revision_id(script)
            function(
                config,
                *(getattr(options, name, None) for name in positional),
                **{name: getattr(options, name, None) for name in keywords},
            )


def next_revision_id(script: ScriptDirectory) -> str:
    """The number after the highest that a revision has: `005` after `004`."""
    numbers = [int(revision.revision) for revision in script.walk_revisions() if revision.revision.isdigit()]
    return f"{max(numbers, default=0) + 1:03d}"


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of `neuraknot-db`."""
    NeuraknotCommandLine(prog="neuraknot-db").main(argv)
