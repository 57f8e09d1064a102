"""Commands as processes of their own, forked from one that has imported what they need: the imports are paid once.

A command sees what it would see if it had been started: arguments, environment, folder and pipes, its own exit and its
exit code. Where how a process begins is the point, such as a variable that Python itself reads, a real one is started.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

BIN = Path(sys.executable).parent
SCRIPTS = ("alembic", "neuraknot-db")
TIMEOUT = 120.0

_READ_LATE = ("DATABASE_URL", "DB_", "PG", "NEURAKNOT_", "GITHUB_", "ECS_", "AWS_", "HOME")
"""What is read when a command needs it, and not when Python starts."""

_LONGEST = 1 << 18
_starting = threading.Lock()


def run(script: str, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, standard output and standard error."""
    others = [
        {name: text for name, text in each.items() if not name.startswith(_READ_LATE)} for each in (env, os.environ)
    ]
    if script not in SCRIPTS or any(others[1].get(name) != text for name, text in others[0].items()):
        done = subprocess.run(
            [str(BIN / script), *arguments],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        return done.returncode, done.stdout, done.stderr
    request = json.dumps({"argv": [str(BIN / script), *arguments], "cwd": str(cwd), "env": dict(env)}).encode()
    pipes = [os.pipe(), os.pipe()]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(_parent())
        socket.send_fds(connection, [request], [write for _, write in pipes])
        for _, write in pipes:
            os.close(write)
        texts = ["", ""]

        def read(number: int) -> None:
            with open(pipes[number][0], encoding="utf-8") as pipe:  # noqa: PTH123 - a file descriptor
                texts[number] = pipe.read()

        reader = threading.Thread(target=read, args=(1,))
        reader.start()
        read(0)
        reader.join()
        return int(connection.recv(16)), texts[0], texts[1]


def _parent() -> str:
    with _starting:
        return _started()


@functools.cache
def _started() -> str:
    """Start the process that commands are forked from, and give the path of its socket."""
    folder = tempfile.mkdtemp(prefix="forking-")
    path = f"{folder}/socket"
    process = subprocess.Popen([sys.executable, __file__, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return path


def _serve(path: str) -> None:
    """Fork for each connection; returns in the process that is to be the command."""
    sys.path[0] = str(BIN)
    import sqlalchemy.dialects.postgresql.psycopg2  # noqa: F401

    import neuraknot_db

    for found in pkgutil.walk_packages(neuraknot_db.__path__, "neuraknot_db."):
        importlib.import_module(found.name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    gc.collect()
    gc.freeze()  # a collection would write to what is shared with this process
    os.write(1, b"ready\n")
    asked: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not listener:
                    selector.unregister(key.fd)
                    pid, connection = asked.pop(key.fd)
                    connection.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
                    connection.close()
                    os.close(key.fd)
                    continue
                connection, _ = listener.accept()
                message, pipes, _, _ = socket.recv_fds(connection, _LONGEST, 2)
                pid = os.fork()
                if not pid:
                    for mine in (listener, connection, *(each for _, each in asked.values())):
                        mine.close()
                    _become(json.loads(message), pipes)
                    return
                for pipe in pipes:
                    os.close(pipe)
                ended = os.pidfd_open(pid)
                asked[ended] = pid, connection
                selector.register(ended, selectors.EVENT_READ)


def _become(request: Mapping[str, object], pipes: Sequence[int]) -> None:
    for number, pipe in enumerate(pipes, start=1):
        os.dup2(pipe, number)
        os.close(pipe)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    sys.argv = list(request["argv"])  # type: ignore[call-overload]


def _leave(code: object) -> NoReturn:
    """End as Python does, without taking apart what this process shares with the one that it was forked from."""
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 0)


if __name__ == "__main__":
    _serve(sys.argv[1])
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        _leave(stop.code)
    _leave(0)
