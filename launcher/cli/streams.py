"""Standard output and standard error, which no reader that goes away and no character can break."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TextIO


class Outlet:
    """A stream that takes everything: once it can't be written to, silently.

    Whether a task is watched, and stopped in time, must not hang on who reads along.

    Attributes:
        lost: why it can't be written to any more; None while it can.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost: OSError | None = None
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Have it read."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    @property
    def encoding(self) -> str:
        """How it writes characters; a stream of characters takes all of them."""
        return self._stream.encoding or "utf-8"

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        # What is in its buffer goes there too, or Python would complain of it at its end.
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
