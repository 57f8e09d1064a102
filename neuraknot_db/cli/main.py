"""The command `neuraknot-db`: Alembic's own command line, with this project's commands and exit codes."""

from __future__ import annotations

import argparse
import configparser
import inspect
import re
import sys
import textwrap
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import alembic
from alembic import command
from alembic.config import CommandFunction, CommandLine, Config
from alembic.script import ScriptDirectory

from neuraknot_db import __version__, settings
from neuraknot_db.cli import commands, streams, usage
from neuraknot_db.cli.console import demand_written, reporting
from neuraknot_db.errors import UsageError
from neuraknot_db.migrate import x_options
from neuraknot_db.migrate.outcome import OUTCOME, Outcome
from neuraknot_db.revisions import files, targets

DESCRIPTION = "Migrates NeuraKnot's PostgreSQL database: every Alembic command, and a few more."

EPILOG = """\
environment variables:
  DATABASE_URL
      postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require
  DB_HOST, DB_PORT (5432), DB_USER (postgres), DB_PASSWORD, DB_NAME (neuraKnot),
  DB_SSLMODE (disable to verify-full), DB_SSLROOTCERT
      the same one by one (the last two also for a DATABASE_URL that says
      nothing of TLS); with none of all these set, an embedded PostgreSQL
      is used (in a checkout: pip install '.[dev]')
  NEURAKNOT_ENV
      the environment's name; dev, development, local, test and ci are not
      production, any other is; not set: dev on the embedded PostgreSQL,
      production elsewhere
  NEURAKNOT_RESULT
      json: the last line on standard output is a JSON object with the outcome
      (of a command line that can be read)
  NEURAKNOT_DEADLINE
      when to end, in seconds since 1970: what runs then is cancelled and rolled
      back, with exit code 24
  NEURAKNOT_LOCK_TIMEOUT (2s), NEURAKNOT_STATEMENT_TIMEOUT (15min)
      how long a statement waits for a table's lock, and how long it may take
  NEURAKNOT_LOCK_TRIES (10), NEURAKNOT_LOCK_PAUSE (3s)
      how often a revision that gets no lock is tried, and the first pause,
      which doubles
  NEURAKNOT_LOCK_WAIT (10min)
      how long to wait for another migration to end, and a backfill for standbys
  NEURAKNOT_BATCH_DURATION (250ms)
      how long a batch of a backfill should take

options of -x, which stands before the command:
  -x create_db=true   create the database first if it is missing
  -x force=true       upgrade although unversioned tables stand in the way
  -x confirm=NAME     confirm a downgrade or a stamp in production, by the
                      database's name
  -x accept_edit=REV  take the edit of a revision that was applied before, of
                      several as REV,REV
  -x from=REV         only if the database is at REV by then (base: at none)

completion in bash and zsh, in a checkout:
  eval "$(register-python-argcomplete neuraknot-db)"

exit codes:
  0 done                     5 refused, nothing changed
  1 a defect, or lost output 6 database not reached
  2 wrong usage              7 a migration failed, rolled back
  3 the schema differs       24 out of time
  4 locked                   130, 143 interrupted
"""


_NAMING_REVISIONS = frozenset({"revision", "revisions", "target", "rev", "head"})
_WITHOUT_REVISIONS = (command.init, command.list_templates)
_MAKING_REVISIONS = {
    command.revision: 'neuraknot-db revision -m "add new table"',
    command.merge: 'neuraknot-db merge heads -m "join both lines"',
}
_LONGEST_ID = 32
"""Characters that alembic_version takes."""

_EXAMPLES = "Examples:\n"
_SEE = "Environment variables, -x and exit codes: neuraknot-db --help"


class _Paragraphs(argparse.RawDescriptionHelpFormatter):
    """Wraps paragraphs to the terminal's width, and keeps lines that have their own layout."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text == EPILOG:
            return super()._fill_text(text, width, indent)
        paragraphs = text.split("\n\n")
        return "\n\n".join(each if each.startswith(_EXAMPLES) else textwrap.fill(each, width) for each in paragraphs)


class NeuraknotCommandLine(CommandLine):
    """Alembic's documented command line, extended: each stock command works unchanged."""

    _POSITIONAL_OPTS = {  # noqa: RUF012 - as Alembic declares it
        **CommandLine._POSITIONAL_OPTS,
        "action": {"metavar": "ACTION", "choices": cast("Any", ("record", "check")), "help": "record or check"},
        "environment": {"metavar": "ENV", "help": "such as dev or prod"},
    }

    def __init__(self, prog: str | None = None) -> None:
        super().__init__(prog)
        for action in self.parser._actions:
            if isinstance(action, argparse._VersionAction):
                action.version = f"%(prog)s {__version__}, with Alembic {alembic.__version__}"
        self.parser.description = DESCRIPTION
        self.parser.epilog = EPILOG
        self.parser.formatter_class = _Paragraphs
        self.subparsers.metavar = "COMMAND"
        for added in commands.COMMANDS:
            self.register_command(cast(CommandFunction, added.function))
            subparser = self.subparsers.choices[added.function.__name__]
            subparser.description = inspect.getdoc(added.function)
            subparser.formatter_class = _Paragraphs
            for flags, how in added.options:
                subparser.add_argument(*flags, **how)
        for subparser in self.subparsers.choices.values():
            subparser.epilog = _SEE
        self._list_commands()
        for parser in (self.parser, *self.subparsers.choices.values()):
            parser.error = partial(usage.misused, parser)  # type: ignore[method-assign]

    def _list_commands(self) -> None:
        """Have the help list this project's commands first, then Alembic's, then the options."""
        listed = {action.dest: action for action in self.subparsers._choices_actions}
        ours = [listed.pop(added.function.__name__) for added in commands.COMMANDS]
        for title, actions in ("this project's commands", ours), ("Alembic's commands", list(listed.values())):
            self.parser.add_argument_group(title)._group_actions.extend(actions)
        self.parser._positionals._group_actions.clear()  # the same commands in one list
        self.parser._action_groups.sort(key=lambda group: group is self.parser._optionals)

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Run a command line."""
        words, commands_ = list(sys.argv[1:] if argv is None else argv), self.subparsers.choices
        if words and usage.is_unknown(self.parser, words[0]):  # argparse would take its value for the command
            usage.unknown(self.parser, next((commands_[each] for each in words if each in commands_), None), words)
        options, unknown = self.parser.parse_known_args(words)
        if unknown:
            command = vars(options).get("cmd")
            usage.unknown(self.parser, commands_[command[0].__name__] if command else None, unknown)
        super().main(words)

    def run_cmd(self, config: Config, options: Namespace) -> None:
        """Run a command; on failure, end the process with this project's exit code."""
        function, positional, keywords = options.cmd
        outcome = Outcome(function.__name__)
        config.attributes[OUTCOME] = outcome
        with reporting(outcome, config):
            _allow_percent(config)
            asked = x_options.read(config)
            if asked != x_options.NOTHING and function.__module__ != command.__name__:
                # A reset that ignored them would already have dropped everything.
                raise UsageError(
                    f"-x means nothing to {function.__name__}.",
                    hint="It is for alembic's upgrade, downgrade and stamp.",
                )
            if function.__module__ == command.__name__ and function not in _WITHOUT_REVISIONS:
                script = ScriptDirectory.from_config(config)
                files.load(script)
                _demand_revisions(script, function, options)
                if function in _MAKING_REVISIONS:
                    options.rev_id = _new_revision_id(script, options, example=_MAKING_REVISIONS[function])
            with targets.ranging(getattr(options, "rev_range", None), function.__name__):
                function(
                    config,
                    *(getattr(options, name, None) for name in positional),
                    **{name: getattr(options, name, None) for name in keywords},
                )


def _demand_revisions(script: ScriptDirectory, function: Callable[..., object], options: Namespace) -> None:
    """Refuse names of revisions of which Alembic's command would make something else, or a traceback.

    Raises:
        UsageError: there is no such revision or range.
    """
    given = vars(options)
    several: list[str] = given.get("revisions") or []
    for text in [*several, given.get("revision", "")] if given.get("sql") else ():
        if ":" in text or function is command.downgrade:
            targets.demand_range(text, function.__name__)
    for text in (*several * (function is command.merge), *(given.get("depends_on") or ())):
        targets.demand_found(script, text, base=False)
    for text in given.get("head"), given.get("rev"):
        if text not in (None, "current"):
            targets.demand_found(script, text)


def _allow_percent(config: Config) -> None:
    """Let the checkout's path contain a %, which the parser of alembic.ini treats as special."""
    try:
        parser = config.file_config
    except configparser.Error as error:
        words = " ".join(str(error).split())
        raise UsageError(f"alembic.ini can't be read: {words}.", hint="git checkout alembic.ini") from error
    parser.set("DEFAULT", "here", parser.defaults()["here"].replace("%", "%%"))


def _new_revision_id(script: ScriptDirectory, options: Namespace, *, example: str) -> str:
    """Return the given id, or the number after the highest revision's: `005` after `004`."""
    if not re.search(r"\w", options.message or ""):
        raise UsageError("A revision needs a message, which also names its file.", hint=example)
    walked = list(script.walk_revisions())
    known = {name for each in walked for name in (each.revision, *each.branch_labels)}
    for what, wanted in ("revision id", options.rev_id), ("branch label", options.branch_label):
        if wanted is None:
            continue
        if not re.fullmatch(r"\w+", wanted) or len(wanted) > _LONGEST_ID or wanted in files.MEANING_OTHERS:
            raise UsageError(
                f"{wanted!r} is not a valid {what}.",
                hint=f"Use up to {_LONGEST_ID} letters, digits and underscores, and no word such as head.",
            )
        if wanted in known:
            raise UsageError(
                f"There is a revision {wanted} already.", hint="Leave --rev-id out: revisions are numbered."
            )
    highest = max((int(each.revision) for each in walked if each.revision.isdecimal()), default=0)
    return options.rev_id or f"{highest + 1:03d}"


def _complete(parsed: NeuraknotCommandLine) -> None:
    """Answer a shell that asks for completions, and exit."""
    try:
        import argcomplete
    except ModuleNotFoundError:  # it is in no image
        raise SystemExit(1) from None

    def revisions(**_: Any) -> list[str]:
        script = ScriptDirectory.from_config(Config("alembic.ini"))
        return ["head", "base", *(each.revision for each in script.walk_revisions())]

    for command_ in parsed.subparsers.choices.values():
        for action in command_._actions:
            if action.dest in _NAMING_REVISIONS:
                action.completer = revisions  # type: ignore[attr-defined]
    argcomplete.autocomplete(parsed.parser)


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of `neuraknot-db`."""
    parsed = NeuraknotCommandLine(prog="neuraknot-db")
    if settings.completing():
        _complete(parsed)
    with streams.guarded():
        try:
            parsed.main(argv)
        except SystemExit as stop:
            demand_written(stop.code)
            raise
