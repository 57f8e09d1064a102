"""Standard output and standard error, the one exit: nothing breaks them, and only what is harmless leaves.

No password, no control character that would move a terminal's cursor or turn a line around, and no command to GitHub
Actions, whatever another session's query, a database's name or a revision's own `print` may hold.

A migration must not hang on who reads along: while `guarded` is open, no reader that goes away, no full disk and no
closed file makes a write raise. Whether standard output, which carries data, was lost is asked for in the end.
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
"""Seconds that a reader has, while a migration works, before it is taken to have stopped."""


_COMMAND = r"(?m)^[^\S\n]*:(?=:.*::)|##(?=\[)"
"""What a line that GitHub Actions would obey has where a blank makes it harmless: `::name::value`, `##[name]value`."""


def shows(character: str) -> bool:
    """Whether a character does nothing but stand there."""
    return character.isprintable() or character in "\t\n\xa0\u3000"  # a Japanese blank is no control


def _harmless(text: str) -> str:
    text = redacted(text)
    shown = "".join(filter(shows, text))
    if shown != text:  # what was left out may have hidden a password
        text = redacted(shown)
    return re.sub(_COMMAND, r"\g<0> ", text) if settings.in_github_actions() else text


class _Unbreakable(io.FileIO):
    """A file that takes everything, what can't be written too.

    Attributes:
        lost: why something could not be written; None while everything could.
        patience: seconds to wait for a reader who takes nothing; None to wait for ever.
        missed: whether something was left out for want of it.
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
                data = data[: select.PIPE_BUF]  # which does not block then; the buffer comes again with the rest
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # whoever made the pipe does not want to wait, but we can
        except OSError as error:
            self.lost = error
            return len(data)
        return written


class _Stream(io.TextIOWrapper):
    """Text on its way out, as `_harmless` has it.

    Attributes:
        data: whether it is data instead, which goes as it stands.
    """

    data = False

    def write(self, text: str, /) -> int:
        """Write it."""
        super().write(text if self.data else _harmless(text))
        return len(text)


def carry_data() -> None:
    """Let standard output be UTF-8 and go as it stands from here on, whatever the shell says: programs read it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    if isinstance(sys.stdout, _Stream):
        sys.stdout.data = True


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Let no write to `sys.stdout` and `sys.stderr` raise; within another `guarded` this does nothing."""
    redacted("")  # reads the environment now: what Python writes of that (PYTHONVERBOSE) must not come back in here
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
    """Let nobody who has stopped reading standard error keep a migration, and its locks, waiting.

    What is said meanwhile is left out then, and that it was is said in the end.
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
    """Why standard output could not be written since this was asked last; None if all of it was."""
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    if raw is None:
        return None
    lost, raw.lost = raw.lost, None
    return lost


def _guard(stream: TextIO | None) -> TextIO:
    if stream is None:
        # Closed before the program began. What opens next would take its number, and get what is written there.
        raw = _Unbreakable(os.open(os.devnull, os.O_RDONLY), "w")
        return _Stream(io.BufferedWriter(raw), encoding="utf-8", line_buffering=True)
    if isinstance(stream, _Stream):
        return stream
    try:
        stream.flush()
        raw = _Unbreakable(stream.fileno(), "w", closefd=False)
    except OSError:  # a test's own stream has no file, and can't break
        return stream
    # What a person reads may hold what the shell's encoding lacks.
    return _Stream(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering or getattr(stream, "write_through", False) or stream.isatty()),
    )
