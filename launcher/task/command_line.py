"""What a container's command line asks of the database, read as Alembic's own command line reads it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

_MOVING = frozenset({"downgrade", "reset", "stamp", "upgrade"})
_ABSOLUTE = re.compile(r"\w+")  # not `+1`, which is another revision each time


class _Reader(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Whatever can't be read, the container refuses."""
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


def move(command: Sequence[str]) -> str | None:
    """How a command changes the revision that the database is at.

    Returns:
        `upgrade`, `downgrade`, `stamp` or `reset`; None for one that only reads, prints SQL or help, or can't be read.
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
    return asked.name if asked.name in _MOVING and not prints else None


def is_plain_upgrade(command: Sequence[str]) -> bool:
    """Whether it is `upgrade REVISION` without an option: done twice, it finds nothing to do."""
    return len(command) == 3 and command[1] == "upgrade" and _ABSOLUTE.fullmatch(command[2]) is not None
