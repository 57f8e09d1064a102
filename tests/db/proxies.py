"""A network between a migration and its server that loses answers, loses requests, or stops."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.db.conftest import Database

READY = b"Z\x00\x00\x00\x05"
"""How each of the server's answers ends."""


@dataclass
class Proxy:
    """Listens on loopback, and relays to a server's Unix socket.

    Attributes:
        port: where it listens.
        meets: told the text of each request; what it returns is done to that request: nothing for `pass`, `lose the
            answer`, `lose the request`, or `freeze`, after which nothing is relayed on any connection.
        seen: the requests' texts, in order.
        refusing: whether whoever connects is turned away.
    """

    path: str
    meets: Callable[[str], str]
    port: int = 0
    seen: list[str] = field(default_factory=list)
    refusing: bool = False
    frozen: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: list[socket.socket] = field(default_factory=list)

    def serve(self, listening: socket.socket) -> None:
        """Until the listening socket is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                if self.refusing:
                    client.close()
                    continue
                if self.frozen.is_set():
                    self._open.append(client)  # taken, and never answered
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.path)
                self._open += [client, server]
                way = _Way(self, client, server)
                threading.Thread(target=way.up, daemon=True).start()
                threading.Thread(target=way.down, daemon=True).start()

    def judge(self, text: str) -> str:
        with self._lock:
            self.seen.append(text)
            return self.meets(text)

    def close(self) -> None:
        """End every connection."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@dataclass
class _Way:
    proxy: Proxy
    client: socket.socket
    server: socket.socket
    losing: bool = False

    def up(self) -> None:
        """From the client to the server, one message at a time."""
        buffered, started = b"", False
        with contextlib.suppress(OSError):
            while data := self.client.recv(65536):
                buffered += data
                while message := _first(buffered, started):
                    buffered = buffered[len(message) :]
                    # The requests for TLS and GSSAPI, and the login, have no letter in front.
                    started = started or int.from_bytes(message[4:8]) == 196608
                    if not self._passed(message):
                        return
        self._end()

    def _passed(self, message: bytes) -> bool:
        fate = self.proxy.judge(message[5:-1].decode(errors="replace")) if message[:1] == b"Q" else "pass"
        if fate == "freeze":
            self.proxy.frozen.set()
        if self.proxy.frozen.is_set():
            return False
        if fate == "lose the request":
            self._end()
            return False
        self.losing = fate == "lose the answer"
        self.server.sendall(message)
        return True

    def down(self) -> None:
        """From the server to the client."""
        with contextlib.suppress(OSError):
            while data := self.server.recv(65536):
                if self.proxy.frozen.is_set():
                    return
                if not self.losing:
                    self.client.sendall(data)
                elif READY in data:  # the server is done with it
                    break
        self._end()

    def _end(self) -> None:
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _first(data: bytes, started: bool) -> bytes:
    """The first whole message, empty where there is none yet."""
    head = 1 if started else 0
    if len(data) < head + 4:
        return b""
    length = head + int.from_bytes(data[head : head + 4])
    return data[:length] if len(data) >= length else b""


@contextlib.contextmanager
def proxied(database: Database, meets: Callable[[str], str]) -> Iterator[tuple[Proxy, Database]]:
    """A way to the database through a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        proxy = Proxy(f"{database.host}/.s.PGSQL.{database.port}", meets, port)
        threading.Thread(target=proxy.serve, args=(listening,), daemon=True).start()
        try:
            yield proxy, replace(database, host="127.0.0.1", port=port)
        finally:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            proxy.close()


class Nth:
    """Does something to the nth request that is meant, counted from 1; 0 is none."""

    def __init__(self, number: int, fate: str, *, meant: Callable[[str], bool]) -> None:
        self.count = 0
        self._number, self._fate, self._meant = number, fate, meant

    def __call__(self, text: str) -> str:
        self.count += self._meant(text)
        return self._fate if self._meant(text) and self.count == self._number else "pass"


def is_commit(text: str) -> bool:
    """Whether a request is a COMMIT."""
    return text.strip().upper().startswith("COMMIT")
