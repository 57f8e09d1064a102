"""Standard output and standard error: writing never raises, and only harmless text gets out.

That is: no password, no control character that would move a terminal's cursor or reverse a line, and no command to
GitHub Actions, whatever another session's query, a database's name or a revision's `print` may hold.

A migration must not depend on its readers: while `guarded` is open, no closed reader, full disk or closed file makes a
write raise. Whether standard output, which carries data, was lost is checked at the end.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from neuraknot_db import settings
from neuraknot_db.database.redaction import redacted

_PATIENCE = 2.0
"""Seconds that a reader may block during a migration before it counts as stopped."""


_COMMAND = r"(?m)^[^\S\n]*:(?=:.*::)|##(?=\[)"
"""Start of a line that GitHub Actions would obey, harmless with a blank added: `::name::value`, `##[name]value`."""


def shows(character: str) -> bool:
    """Whether a character only prints."""
    return character.isprintable() or character in "\t\n\xa0\u3000"  # \u3000 is the Japanese space, not a control


def _harmless(text: str) -> str:
    text = redacted(text)
    if not text.rstrip("\n").isprintable():  # few lines are not
        shown = "".join(filter(shows, text))
        if shown != text:  # a removed character may have hidden a password
            text = redacted(shown)
    return re.sub(_COMMAND, r"\g<0> ", text) if settings.in_github_actions() else text


class _Unbreakable(io.FileIO):
    """A file whose writes never fail, even if the data can't be written.

    Attributes:
        lost: why data could not be written; None if all was.
        patience: seconds to wait for a blocked reader; None to wait forever.
        missed: whether data was left out because of that.
    """

    lost: OSError | None = None
    patience: float | None = None
    missed = False

    def write(self, data: Any, /) -> int:
        """Write what can be written."""
        try:
            if self.patience is not None:
                if not select.select([], [self], [], self.patience)[1]:
                    self.patience, self.missed = 0.0, True
                    return len(data)
                data = data[: select.PIPE_BUF]  # does not block then; the buffer calls again with the rest
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # the pipe is non-blocking, but we can wait
        except OSError as error:
            self.lost = error
            return len(data)
        return written


class _Stream(io.TextIOWrapper):
    """Output text, filtered by `_harmless`.

    Attributes:
        data: whether it is data, which is written unchanged.
    """

    data = False

    def write(self, text: str, /) -> int:
        """Write it."""
        super().write(text if self.data else _harmless(text))
        return len(text)


def carry_data() -> None:
    """Make standard output UTF-8 and unfiltered from here on, whatever the locale: programs read it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    if isinstance(sys.stdout, _Stream):
        sys.stdout.data = True


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Keep writes to `sys.stdout` and `sys.stderr` from raising; nested, this does nothing."""
    redacted("")  # reads the environment now: Python's output about that (PYTHONVERBOSE) must not recurse into here
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


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Keep a blocked reader of standard error from delaying a migration and its locks.

    Lines in the meantime are left out, and a warning at the end says so.
    """
    raw = _raw(sys.stderr)
    if raw is None:
        yield
        return
    raw.patience = _PATIENCE
    try:
        yield
    finally:
        if raw.missed:
            sys.stderr.write("warning: some lines are missing here: nobody read them in time\n")
        raw.patience, raw.missed = None, False


def _raw(stream: TextIO) -> _Unbreakable | None:
    return stream.buffer.raw if isinstance(stream, _Stream) else None  # type: ignore[attr-defined]


def take_loss() -> OSError | None:
    """Return why standard output could not be written since the last call; None if all of it was."""
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    if raw is None:
        return None
    lost, raw.lost = raw.lost, None
    return lost


def _guard(stream: TextIO | None) -> TextIO:
    if stream is None:
        # It was closed at start. The next file opened would get its number, and our output.
        raw = _Unbreakable(os.open(os.devnull, os.O_RDONLY), "w")
        return _Stream(io.BufferedWriter(raw), encoding="utf-8", line_buffering=True)
    if isinstance(stream, _Stream):
        return stream
    try:
        stream.flush()
        raw = _Unbreakable(stream.fileno(), "w", closefd=False)
    except OSError:  # a test's stream has no file, and can't break
        return stream
    # The text may hold characters that the locale's encoding lacks.
    return _Stream(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering or getattr(stream, "write_through", False) or stream.isatty()),
    )
