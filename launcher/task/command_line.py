"""What a container's command line does to the database, parsed as Alembic parses it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

_CHANGING = frozenset({"adopt", "create_db", "downgrade", "ensure_version", "mark", "reset", "stamp", "upgrade"})
"""The commands that change a database."""

_ABSOLUTE = re.compile(r"\w+")  # not `+1`, which means another revision each time


class _Reader(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise ValueError; the container refuses what can't be parsed."""
        raise ValueError(message)


def _reader() -> _Reader:
    reader = _Reader(add_help=False)
    for flags in (("-c", "--config"), ("-n", "--name"), ("-x",)):
        reader.add_argument(*flags)
    for flags in (("--raiseerr",), ("-q", "--quiet"), ("--version",), ("-h", "--help")):
        reader.add_argument(*flags, action="store_true")
    reader.add_argument("name")
    reader.add_argument("rest", nargs=argparse.REMAINDER)
    return reader


def change(command: Sequence[str]) -> str | None:
    """Return how a command changes a database.

    Returns:
        The command, such as `upgrade` or `adopt`; None if it only reads, prints SQL or help, or can't be parsed.
    """
    options = _Reader(add_help=False)
    options.add_argument("--sql", action="store_true")
    options.add_argument("-h", "--help", action="store_true")
    try:
        asked = _reader().parse_args(command[1:])
        only_printed, _ = options.parse_known_args(asked.rest)
    except ValueError:
        return None
    prints = asked.help or asked.version or only_printed.sql or only_printed.help
    return asked.name if asked.name in _CHANGING and not prints else None


def is_plain_upgrade(command: Sequence[str]) -> bool:
    """Whether it is `upgrade REVISION` without options, which does nothing when run a second time."""
    return len(command) == 3 and command[1] == "upgrade" and _ABSOLUTE.fullmatch(command[2]) is not None
