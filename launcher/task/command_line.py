"""What a container's command line does to the database, parsed as `neuraknot-db` parses it."""

from __future__ import annotations

import argparse
import functools
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from launcher.environment.options import is_production
from launcher.errors import UsageError
from launcher.machine.spelling import did_you_mean

_CHANGING = frozenset({"adopt", "create_db", "downgrade", "ensure_version", "mark", "reset", "stamp", "upgrade"})
"""The commands that change a database."""

_COMMANDS = {
    "adopt": "--dry-run --replace-functions --json",
    "branches": "-v/--verbose",
    "compat": "action revision_range? -o/--output=",
    "create_db": "",
    "current": "-c/--check-heads -v/--verbose",
    "downgrade": "revision --sql --tag=",
    "ensure_version": "--sql",
    "heads": "-v/--verbose --resolve-dependencies",
    "history": "-r/--rev-range= -v/--verbose -i/--indicate-current",
    "list_templates": "",
    "log": "--json --runs",
    "mark": "environment --confirm=",
    "plan": "target? --json --markdown --as-reader --count --rollback",
    "reset": "--confirm= --environment= --no-upgrade",
    "show": "rev",
    "stamp": "revisions+ --sql --tag= --purge",
    "upgrade": "revision --sql --tag=",
    "verify": "--json",
}
"""What the image's `neuraknot-db` understands: arguments, options, and with `=` those that have a value."""

_OF_A_CHECKOUT = frozenset(
    {"diagram", "edit", "init", "lint", "merge", "renumber", "revision", "serve", "snapshot", "test"}
)
_POINTLESS = {
    **dict.fromkeys(_OF_A_CHECKOUT, "needs a checkout, and the container has none"),
    "check": "compares with models, and there are none; verify compares with the revisions",
}
"""The commands that can't work in a container, each with the reason."""

_OURS = frozenset({"adopt", "compat", "create_db", "log", "mark", "plan", "reset", "verify"})
"""The commands that are not Alembic's, to which -x means nothing."""

_X_OPTIONS = frozenset({"accept_edit", "confirm", "create_db", "force", "from"})
_X_FLAGS = frozenset({"create_db", "force"})
_X_LISTS = frozenset({"accept_edit"})

_ABSOLUTE = re.compile(r"\w+")  # not `+1`, which means another revision each time
_NAME = r"[^@:+\s-]+"
_TARGET = re.compile(rf"(?:{_NAME}@)?(?:{_NAME}(?:[+-]\d{{1,9}})?|[+-]\d{{1,9}})")
_ENVIRONMENT = re.compile(r"[\w.][\w .-]{0,62}")
_OUTSIDE = re.compile(r"base-\d+|heads?\+\d+")  # before the first revision, or after the last
_TAKES_NO = {
    "upgrade": re.compile(r"-\d+"),
    "downgrade": re.compile(r"\+\d+"),
    "show": re.compile(r".+[+-]\d+|\+\d+"),
    "stamp": re.compile(r".*[+-]\d+"),
}
"""The distances that lead a command the other way, or nowhere."""


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
        found = re.match(r"argument COMMAND: invalid choice: (['\"])(.*)\1 \(", message, re.DOTALL)
        raise ValueError(f"no such command '{found[2]}'" if found else message)


def check(arguments: Sequence[str]) -> str | None:
    """Return the command in the arguments of `neuraknot-db`; None if they only print help or the version.

    Raises:
        UsageError: the container would refuse them.
    """
    name = "COMMAND"
    try:
        asked, rest = _reader().parse_known_args(arguments)
        name = str(asked.name)
        wrong = _wrong(asked, rest)
    except _Printed:
        return None
    except ValueError as error:
        wrong = str(error)
    if wrong is None:
        return name
    there_are = "" if name in _COMMANDS else f"There are: {', '.join(_COMMANDS)}. "
    raise UsageError(
        f"neuraknot-db would refuse this: {wrong}.{_meant(wrong, name)}",
        hint=f"{there_are}See: neuraknot-db {name} --help",
    )


def _meant(wrong: str, name: str) -> str:
    """Return a question that names the nearest command or option that there is; nothing if the word was another."""
    found = re.search(r"^no such (?:command|option) '(.*)'$", wrong, re.DOTALL)
    if found is None:
        return ""
    [commands] = (each for each in _reader()._actions if isinstance(each, argparse._SubParsersAction))
    known = commands.choices[name]._option_string_actions if name in commands.choices else commands.choices
    return did_you_mean(found[1], known)


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
    return len(command) == 3 and command[1] == "upgrade" and is_absolute(command[2])


def is_absolute(revision: str) -> bool:
    """Whether it is the name of one revision, wherever the database is."""
    return _ABSOLUTE.fullmatch(revision) is not None


def is_rollback(command: Sequence[str]) -> bool:
    """Whether it is one of the two commands of `ecs-migrate --rollback`."""
    return "--rollback" in command or ("downgrade" in command and any(each.startswith("from=") for each in command))


def confirmation(command: Sequence[str]) -> tuple[str, str | None] | None:
    """Return how production has a command confirmed by the database's name: the option, and what it is given.

    None if it needs none; and for a stamp, which may go forward, as only the container can know.
    """
    try:
        asked, _ = _reader().parse_known_args(command[1:])
    except (_Printed, ValueError):
        return None
    if asked.name == "downgrade" and not asked.sql:
        return "-x confirm=", next((each.partition("=")[2] for each in asked.x if each.startswith("confirm")), None)
    if asked.name == "mark" and not is_production(asked.environment.strip()):
        return "--confirm ", asked.confirm
    return None


def revisions(command: Sequence[str]) -> tuple[str, ...]:
    """Return the revisions that a command names, a range's two ends apart; none if it can't be parsed.

    Args:
        command: the program, `alembic` or `neuraknot-db`, and its arguments.
    """
    try:
        asked, _ = _reader().parse_known_args(command[1:])
        return tuple(_revisions(asked))
    except (_Printed, ValueError):
        return ()


def is_target(text: str, command: str) -> bool:
    """Whether a command can have this target: `003`, `head`, `LABEL@head`; and of `003+1` or `-1`, what it takes."""
    outside = _OUTSIDE.fullmatch(text) or (command in _TAKES_NO and _TAKES_NO[command].fullmatch(text))
    return _TARGET.fullmatch(text) is not None and not outside


def _wrong(asked: Namespace, rest: Sequence[str]) -> str | None:
    """Return why the container would refuse a command line that could be parsed; None if it would not.

    Raises:
        ValueError: the same, of what `_revisions` finds.
    """
    if asked.name in _POINTLESS:
        return f"{asked.name} {_POINTLESS[asked.name]}"
    if rest:
        word = rest[0].partition("=")[0]
        if not word.startswith("-"):
            return f"unexpected argument '{rest[0]}'"
        early = next((each for each in (word, word[:2]) if each in _reader()._option_string_actions), None)
        return f"option '{early}' stands before the command" if early else f"no such option '{word}'"
    if asked.config or asked.section:
        return "-c and -n choose a file and a section, and the image has one of each"
    names = [each.partition("=")[0] for each in asked.x]
    for name, _, value in (each.partition("=") for each in asked.x):
        if name not in _X_OPTIONS:
            return f"-x {name} is not known"
        if name in _X_FLAGS and value.lower() not in ("true", "false"):
            return f"-x {name}={value} is neither true nor false"
        if name not in _X_LISTS and names.count(name) > 1:
            return f"-x {name} is given {names.count(name)} times"
    if vars(asked).get("json") and vars(asked).get("markdown"):
        return "--json and --markdown exclude each other"
    if vars(asked).get("rollback") and asked.target is not None:
        return f"--rollback finds its revision itself, and {asked.target} is given"
    if asked.x and asked.name in _OURS:
        return f"-x means nothing to {asked.name}"
    if asked.name == "compat" and (asked.action, asked.revision_range, asked.output) != ("record", None, "-"):
        return "compat needs a checkout, and the container has none, but for compat record -o -"
    if asked.name == "mark" and not _ENVIRONMENT.fullmatch(asked.environment.strip()):
        return f"{asked.environment!r} is not a valid environment name"
    # A purge and a script begin anywhere.
    command = "" if vars(asked).get("sql") or vars(asked).get("purge") else asked.name
    wrong = next((name for name in _revisions(asked) if not is_target(name, command)), None)
    return None if wrong is None else f"{asked.name} can't take {wrong!r} for a revision"


def _revisions(asked: Namespace) -> list[str]:
    """Return the names of revisions in a command line, `head` also where it is implied.

    Raises:
        ValueError: it has a range where none can be, or none where one has to be.
    """
    given, names = vars(asked), list[str]()
    if (asked.name == "plan" and asked.target is None and not asked.rollback) or (
        asked.name == "reset" and not asked.no_upgrade
    ):
        names.append("head")
    for text in (given.get("revision"), given.get("target"), given.get("rev"), *given.get("revisions", ())):
        if text is None:
            continue
        if given.get("sql") and (":" in text or asked.name == "downgrade"):
            names += _ends(text)
        elif ":" in text:
            raise ValueError(f"{text!r} is a range of revisions, which is for --sql only")
        else:
            names.append(text)
    if given.get("rev_range") is not None:
        names += filter(None, _ends(given["rev_range"], may_lack=True))
    return [name for name in names if name != "current" or asked.name not in ("history", "show")]


def _ends(text: str, *, may_lack: bool = False) -> tuple[str, str]:
    lower, colon, upper = text.partition(":")
    if not colon or ":" in upper or not (may_lack or (lower and upper)):
        raise ValueError(f"{text!r} is no range of revisions, such as 002:head")
    return lower, upper


@functools.cache
def _reader() -> _Reader:
    reader = _Reader()
    reader.add_argument("-c", "--config")
    reader.add_argument("-n", "--name", dest="section")
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
    for name in _POINTLESS:
        commands.add_parser(name)
    return reader
