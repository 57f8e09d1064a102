"""Where in its file a revision holds what it sends."""

from __future__ import annotations

import re
import sys
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import TracebackType


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


def failing_line(error: BaseException, path: str) -> int | None:
    """Return the line of a file at which an error was raised, or that called what raised it; None if it did not."""
    line: int | None = None
    raised: BaseException | None = error
    while raised is not None and line is None:
        trace: TracebackType | None = raised.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == path:
                line = trace.tb_lineno
            trace = trace.tb_next
        raised = raised.__cause__
    return line
