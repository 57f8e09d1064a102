"""Standard output and standard error, which no reader that goes away, no full disk and no closed file can break.

A migration must not hang on who reads along: while `guarded` is open, writing never raises. Whether standard output,
which carries data, was lost is asked for in the end.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Unbreakable(io.FileIO):
    """A file that takes everything, what can't be written too.

    Attributes:
        lost: why something could not be written; None while everything could.
    """

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write what can be written."""
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # whoever made the pipe does not want to wait, but we can
        except OSError as error:
            self.lost = error
            return len(data)
        return written


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let no write to `sys.stdout` and `sys.stderr` raise; within another `guarded` this does nothing."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _guard(sys.stdout), _guard(sys.stderr)
    try:
        yield
    finally:
        for guard, stream in zip((sys.stdout, sys.stderr), before, strict=True):
            guard.flush()
            if guard is not stream:
                guard.detach()  # type: ignore[attr-defined]
        sys.stdout, sys.stderr = before


def take_loss() -> OSError | None:
    """Why standard output could not be written since this was asked last; None if all of it was."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Unbreakable):
        return None
    lost, raw.lost = raw.lost, None
    return lost


def _guard(stream: TextIO | None) -> TextIO:
    if stream is None:
        # Closed before the program began. What opens next would take its number, and get what is written there.
        raw = _Unbreakable(os.open(os.devnull, os.O_RDONLY), "w")
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", line_buffering=True)
    if isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Unbreakable):
        return stream
    try:
        stream.flush()
        raw = _Unbreakable(stream.fileno(), "w", closefd=False)
    except OSError:  # a test's own stream has no file, and can't break
        return stream
    # What a person reads may hold what the shell's encoding lacks.
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering or getattr(stream, "write_through", False) or stream.isatty()),
    )
