"""Standard output and standard error that survive a lost reader and any character."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TextIO


class Outlet:
    """A stream that accepts everything; once writing fails, it discards output silently.

    Watching a task and stopping it in time must not depend on a reader.

    Attributes:
        lost: the error that ended writing; None while writing works.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost: OSError | None = None
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write as much as possible."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Flush the buffer."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    @property
    def columns(self) -> int:
        """The width of the terminal in cells."""
        with contextlib.suppress(OSError, ValueError):
            return int(os.environ.get("COLUMNS") or os.get_terminal_size(self._stream.fileno()).columns)
        return 80

    @property
    def encoding(self) -> str:
        """The stream's encoding; `utf-8` for a stream of characters, which accepts all."""
        return self._stream.encoding or "utf-8"

    def holds(self, text: str) -> bool:
        """Whether the stream's encoding has these characters."""
        try:
            text.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        # The buffer goes to the null device too, or Python would report an error at exit.
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
