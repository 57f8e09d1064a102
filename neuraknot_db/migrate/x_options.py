"""The `-x` options, given before a command's name."""

from __future__ import annotations

from typing import NamedTuple

from alembic.config import Config

from neuraknot_db.errors import UsageError


class XOptions(NamedTuple):
    """The values of the `-x` options.

    Attributes:
        create_db: create a missing database first.
        force: go on although unversioned tables exist.
        confirm: the database's name, for a downgrade or a stamp in production.
        accept_edit: applied revisions whose edit is accepted.
        begin: the revision that the database has to be at, `base` for none; None for any.
    """

    create_db: bool = False
    force: bool = False
    confirm: str | None = None
    accept_edit: tuple[str, ...] = ()
    begin: str | None = None


NOTHING = XOptions()

_KNOWN = ("accept_edit", "confirm", "create_db", "force", "from")


def read(config: Config) -> XOptions:
    """Read the `-x` options of the command line.

    Raises:
        UsageError: one is not known, given twice, empty, or neither true nor false.
    """
    # In a dictionary, the last of two would silently win.
    given = [each.partition("=")[::2] for each in getattr(config.cmd_opts, "x", None) or ()]
    names = [name for name, _ in given]
    if unknown := sorted(set(names) - set(_KNOWN)):
        raise UsageError(f"-x {unknown[0]} is not known.", hint=f"These are: {', '.join(_KNOWN)}.")
    for name in names:
        if name != "accept_edit" and names.count(name) > 1:
            raise UsageError(f"-x {name} is given {names.count(name)} times.", hint="Give it once.")
    wanted = dict(given)
    if wanted.get("from") == "":
        raise UsageError("-x from= names no revision.", hint="Name one, or base for none.")
    edits = ",".join(value for name, value in given if name == "accept_edit")
    return XOptions(
        _flag(wanted, "create_db"),
        _flag(wanted, "force"),
        wanted.get("confirm"),
        tuple(filter(None, edits.split(","))),
        wanted.get("from"),
    )


def _flag(wanted: dict[str, str], name: str) -> bool:
    value = wanted.get(name, "false").lower()
    if value not in {"true", "false"}:
        raise UsageError(f"-x {name}={value} is neither true nor false.", hint=f"Write -x {name}=true.")
    return value == "true"
