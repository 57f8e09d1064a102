"""Where in its file a revision holds what it sends."""

from __future__ import annotations

import contextlib
import re
import sys
import sysconfig
import traceback
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

from neuraknot_db.revisions import files

_LIBRARIES = (*sysconfig.get_paths().values(), str(Path(__file__).parents[1]))


@dataclass(frozen=True)
class Text:
    """What one `op.execute` sends: one or more statements.

    Attributes:
        line: where it begins in the revision's file, from 1; the line of the call if the file does not hold it
            literally.
        as_written: whether the file holds it literally, so that its lines can be counted from there.
    """

    sql: str
    line: int
    as_written: bool

    def lines_at(self, positions: Iterable[int]) -> Iterator[int]:
        """Yield the file's lines for positions in the text, which are counted from 0 and in order."""
        line = self.line
        for before, position in pairwise(chain([0], positions)):
            line += self.sql.count("\n", before, position) if self.as_written else 0
            yield line


class Places:
    """Finds the texts that a revision sends in its file."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        self._file = str(path)
        self._source = path.read_text(encoding="utf-8", errors="replace")
        self._last = 0, 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", self._source))]

    def text(self, sql: str, call: int | None = None) -> Text:
        """Return the text with its position; `call` is the line that sends it, by default the one running now."""
        call = _running_line(self._file) if call is None else call
        # Search after the last text of the same call, so that a long text is not searched again and again.
        begin = max(self._lines[call - 1], self._last[1] if self._last[0] == call else 0)
        position = self._source.find(sql, begin)
        if position < 0:
            position = self._source.find(sql, self._lines[call - 1])
        if position < 0 and self._source.count(sql) == 1:
            position = self._source.find(sql)  # a constant above
        if position < 0:
            return Text(sql, call, as_written=False)
        self._last = call, position + len(sql)
        return Text(sql, bisect(self._lines, position), as_written=True)


def _running_line(path: str) -> int:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename == path:
            return frame.f_lineno
    return 1


def failing_calls(error: BaseException, path: str) -> list[tuple[str, int]]:
    """Return the calls that led from a revision's file to an error, as files and lines, outermost first.

    Only a person's own files are among them: the last is the line to correct. Empty if the error did not come from
    that file.
    """
    calls: list[tuple[str, int]] = []
    raised: BaseException | None = error
    while raised is not None and not calls:
        for frame, line in traceback.walk_tb(raised.__traceback__):
            file = frame.f_code.co_filename
            if file == path or (calls and _is_own(file)):
                calls.append((file, line))
        raised = raised.__cause__
    return calls


@dataclass(frozen=True)
class Location:
    """Where a revision failed.

    Attributes:
        shown: the file and the line, if that is known, as a person would type them here.
        line: the line; None if it is not known.
        text: the statement that failed there; None if none did, or its file is gone.
    """

    shown: str
    line: int | None
    text: Text | None


def locate(calls: list[tuple[str, int]], path: str, sql: str | None = None, position: str | None = None) -> Location:
    """Return where a revision failed.

    Args:
        calls: see `failing_calls`.
        path: the revision's file.
        sql: the statement that failed, if one did.
        position: of what the server objects to in it, from 1.
    """
    if not calls:
        return Location(str(files.here(path)), None, None)
    (file, line), text = calls[-1], None
    if sql:
        with contextlib.suppress(OSError):
            text = Places(Path(file)).text(sql, line)
    if text:
        line = next(text.lines_at([int(position) - 1])) if position else text.line
    shown = f"{files.here(file)}, line {line}"
    if file != path:
        calling = next(number for name, number in reversed(calls) if name == path)
        shown += f" (from {files.here(path)}, line {calling})"
    return Location(shown, line, text)


def _is_own(file: str) -> bool:
    """Whether a person wrote it here: it is no library's, ours or Python's, and no text such as `<string>`."""
    return "-packages/" not in file and not file.startswith(("<", *_LIBRARIES))
