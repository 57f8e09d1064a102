"""The SQL that a revision sends, found out without a database, and where each text stands in the revision's file."""

from __future__ import annotations

import io
import re
import sys
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

from alembic.script import Script

from neuraknot_db.errors import InterruptedRunError
from neuraknot_db.migrate import offline
from neuraknot_db.revisions.containment import EscapedError, words


@dataclass(frozen=True)
class Text:
    """What one `op.execute` sends: a statement or several.

    Attributes:
        line: where it begins in the revision's file, from 1; where the file does not hold it as it is sent, the line
            of the call.
        as_written: whether the file holds it as it is sent, so that lines can be counted on from there.
    """

    sql: str
    line: int
    as_written: bool

    def lines_at(self, positions: Iterable[int]) -> Iterator[int]:
        """The lines in the file of places in the text, which are counted from 0 and come in order."""
        line = self.line
        for before, position in pairwise(chain([0], positions)):
            line += self.sql.count("\n", before, position) if self.as_written else 0
            yield line


@dataclass(frozen=True)
class Emission:
    """All that a revision's upgrade() or downgrade() sends, in order.

    Attributes:
        failure: why it could not be read to its end without a database; empty where it could.
    """

    texts: tuple[Text, ...]
    failure: str = ""


def emission(script: Script, *, downgrade: bool = False) -> Emission:
    """Run a revision's upgrade(), or its downgrade(), as `--sql` does, and keep what it sends."""
    name = "downgrade" if downgrade else "upgrade"
    function = getattr(script.module, name, None)
    if function is None:
        return Emission(())
    keeper = _Keeper(Path(script.path))
    try:
        offline.emit(function, keeper)
    except InterruptedRunError:
        raise
    except EscapedError as error:
        return Emission(tuple(keeper.texts), f"{name}() can't be read: {error}")
    except Exception as error:  # noqa: BLE001 - whatever a revision does with a connection that is not there
        told = words(error).split("\n", 1)[0]
        return Emission(tuple(keeper.texts), f"{name}() needs a database: {told}")
    return Emission(tuple(keeper.texts))


class Places:
    """Where the texts that a revision sends stand in its file."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        self._file = str(path)
        self._source = path.read_text(encoding="utf-8")
        self._last = 0, 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", self._source))]

    def text(self, sql: str) -> Text:
        """The text with its place; to be called while the revision's code is running."""
        call = self._calling_line()
        # Behind the last one of the same call, so that a long text is not searched through again and again.
        begin = max(self._lines[call - 1], self._last[1] if self._last[0] == call else 0)
        position = self._source.find(sql, begin)
        if position < 0:
            position = self._source.find(sql, self._lines[call - 1])
        if position < 0:
            return Text(sql, call, as_written=False)
        self._last = call, position + len(sql)
        return Text(sql, bisect(self._lines, position), as_written=True)

    def _calling_line(self) -> int:
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code.co_filename == self._file:
                return frame.f_lineno
        return 1


class _Keeper(io.StringIO):
    """Takes each text from Alembic."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[Text] = []
        self._places = Places(path)

    def write(self, output: str, /) -> int:
        self.texts.append(self._places.text(output.removesuffix("\n\n").removesuffix(";").removesuffix("\n")))
        return len(output)
