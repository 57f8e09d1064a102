"""The database of a rehearsal: an embedded PostgreSQL, run by `neuraknot-db serve` as a separate program."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from launcher.errors import ConfigurationError
from launcher.machine.process import start

_GRACE = 10.0  # seconds that PostgreSQL may take to stop


class EmbeddedDatabase:
    """Starts on creation; use it as a context manager, so that it ends.

    Attributes:
        socket: the folder with its socket, which libpq accepts as a host.
    """

    def __init__(self, programs: Path, data: Path) -> None:
        """Start it.

        Args:
            programs: the folder that contains `neuraknot-db`.
            data: the data directory.
        """
        self._process = start([str(programs / "neuraknot-db"), "serve", "--data", str(data)])
        self._printed: list[str] = []
        self._first = threading.Event()
        self._reader = threading.Thread(target=self._read, name="neuraknot-db serve", daemon=True)
        self._reader.start()

    def __enter__(self) -> EmbeddedDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join()

    @property
    def socket(self) -> str:
        """The folder with its socket; waits until it accepts connections.

        Raises:
            ConfigurationError: it did not start.
        """
        self._first.wait()
        for line in self._printed:
            if line.startswith("postgresql://"):
                return parse_qs(urlsplit(line).query)["host"][0]
        self._process.wait()
        raise ConfigurationError(
            "The embedded PostgreSQL does not start.",
            hint="Try it on its own: neuraknot-db serve",
            details=tuple(self._printed[-10:]),
        )

    def wait(self) -> None:
        """Wait until it accepts connections.

        Raises:
            ConfigurationError: it did not start.
        """
        _ = self.socket

    def _read(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                for line in stream:
                    self._printed.append(line.strip())
                    if line.startswith("postgresql://"):
                        self._first.set()
        self._first.set()
