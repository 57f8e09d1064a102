"""What a container's command line does to the database, parsed as `neuraknot-db` parses it."""

from __future__ import annotations

import argparse
import functools
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from launcher.errors import UsageError

_CHANGING = frozenset({"adopt", "create_db", "downgrade", "ensure_version", "mark", "reset", "stamp", "upgrade"})
"""The commands that change a database."""

_COMMANDS = {
    "adopt": "--dry-run --replace-functions --json",
    "branches": "-v/--verbose",
    "check": "",
    "create_db": "",
    "current": "-c/--check-heads -v/--verbose",
    "downgrade": "revision --sql --tag=",
    "ensure_version": "--sql",
    "heads": "-v/--verbose --resolve-dependencies",
    "history": "-r/--rev-range= -v/--verbose -i/--indicate-current",
    "list_templates": "",
    "log": "--json",
    "mark": "environment --confirm=",
    "plan": "target? --json",
    "reset": "--confirm= --environment= --no-upgrade",
    "show": "rev",
    "stamp": "revisions+ --sql --tag= --purge",
    "upgrade": "revision --sql --tag=",
    "verify": "--json",
}
"""What the image's `neuraknot-db` understands: arguments, options, and with `=` those that have a value."""

_OF_A_CHECKOUT = frozenset({"diagram", "edit", "init", "lint", "merge", "revision", "serve", "snapshot"})
"""The commands that the image is without, or that write into a checkout."""

_OURS = frozenset({"adopt", "create_db", "log", "mark", "plan", "reset", "verify"})
"""The commands that are not Alembic's, to which -x means nothing."""

_X_OPTIONS = frozenset({"accept_edit", "confirm", "create_db", "force"})

_ABSOLUTE = re.compile(r"\w+")  # not `+1`, which means another revision each time


class _Printed(Exception):  # noqa: N818 - it is no error
    """An option such as --help ends the parsing, as it does in the container."""


class _Prints(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        raise _Printed


class _Reader(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, add_help=False)
        self.add_argument("-h", "--help", action=_Prints, nargs=0)

    def error(self, message: str) -> NoReturn:
        raise ValueError(re.sub(r"^argument COMMAND: invalid choice: ('.*') \(.*", r"there is no command \1", message))


def check(arguments: Sequence[str]) -> str | None:
    """Return the command in the arguments of `neuraknot-db`; None if they only print help or the version.

    Raises:
        UsageError: the container would refuse them.
    """
    try:
        asked, rest = _reader().parse_known_args(arguments)
        wrong = _wrong(asked, rest)
    except _Printed:
        return None
    except ValueError as error:
        wrong = str(error)
    if wrong is None:
        return str(asked.name)
    raise UsageError(
        f"neuraknot-db does not understand this: {wrong}.",
        hint=f"There are: {', '.join(_COMMANDS)}. The options of each: neuraknot-db COMMAND --help",
    )


def change(command: Sequence[str]) -> str | None:
    """Return how a command changes a database.

    Args:
        command: the program, `alembic` or `neuraknot-db`, and its arguments.

    Returns:
        The command, such as `upgrade` or `adopt`; None if it only reads, prints SQL or help, or can't be parsed.
    """
    try:
        asked, _ = _reader().parse_known_args(command[1:])  # another image's may have more options
    except (_Printed, ValueError):
        return None
    return asked.name if asked.name in _CHANGING and not vars(asked).get("sql") else None


def reports(command: Sequence[str]) -> bool:
    """Whether the container's last line is a report: not after --help, nor if it can't parse the command."""
    try:
        _reader().parse_known_args(command[1:])
    except (_Printed, ValueError):
        return False
    return True


def is_plain_upgrade(command: Sequence[str]) -> bool:
    """Whether it is `upgrade REVISION` without options, which does nothing when run a second time."""
    return len(command) == 3 and command[1] == "upgrade" and _ABSOLUTE.fullmatch(command[2]) is not None


def _wrong(asked: Namespace, rest: Sequence[str]) -> str | None:
    """Return why the container would refuse a command line that could be parsed; None if it would not."""
    unknown = {option.partition("=")[0] for option in asked.x} - _X_OPTIONS
    if asked.name in _OF_A_CHECKOUT:
        return f"{asked.name} needs a checkout, and the container has none"
    if rest:
        return f"unrecognized arguments: {' '.join(rest)}"
    if unknown:
        return f"-x {min(unknown)} is not known"
    return f"-x means nothing to {asked.name}" if asked.x and asked.name in _OURS else None


@functools.cache
def _reader() -> _Reader:
    reader = _Reader()
    reader.add_argument("-c", "--config")
    reader.add_argument("-n", "--name")
    reader.add_argument("-x", action="append", default=[])
    reader.add_argument("--raiseerr", action="store_true")
    reader.add_argument("-q", "--quiet", action="store_true")
    reader.add_argument("--version", action=_Prints, nargs=0)
    commands = reader.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, words in _COMMANDS.items():
        command = commands.add_parser(name)
        for word in words.split():
            flags = word.rstrip("=").split("/")
            if not word.startswith("-"):
                command.add_argument(word.rstrip("?+"), nargs=word[-1] if word[-1] in "?+" else None)
            elif word.endswith("="):
                command.add_argument(*flags)
            else:
                command.add_argument(*flags, action="store_true")
    for name in _OF_A_CHECKOUT:
        commands.add_parser(name)
    return reader
