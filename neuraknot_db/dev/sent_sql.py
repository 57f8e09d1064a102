"""The SQL that a revision sends, found without a database, and the position of each text in the revision's file."""

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


@dataclass(frozen=True)
class SentSql:
    """All that a revision's upgrade() or downgrade() sends, in order.

    Attributes:
        failure: why it could not be read to its end without a database; empty if it could.
    """

    texts: tuple[Text, ...]
    failure: str = ""


def sent_sql(script: Script, *, downgrade: bool = False) -> SentSql:
    """Run a revision's upgrade() or downgrade() as `--sql` does, and return what it sends."""
    name = "downgrade" if downgrade else "upgrade"
    function = getattr(script.module, name, None)
    if function is None:
        return SentSql(())
    keeper = _Keeper(Path(script.path))
    try:
        offline.emit(function, keeper)
    except InterruptedRunError:
        raise
    except EscapedError as error:
        return SentSql(tuple(keeper.texts), f"{name}() can't be read: {error}")
    except Exception as error:  # noqa: BLE001 - whatever a revision does with a connection that is not there
        told = words(error).split("\n", 1)[0]
        return SentSql(tuple(keeper.texts), f"{name}() needs a database: {told}")
    return SentSql(tuple(keeper.texts))


class Places:
    """Finds the texts that a revision sends in its file."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        self._file = str(path)
        self._source = path.read_text(encoding="utf-8")
        self._last = 0, 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", self._source))]

    def text(self, sql: str) -> Text:
        """Return the text with its position; call this while the revision's code is running."""
        call = self._calling_line()
        # Search after the last text of the same call, so that a long text is not searched again and again.
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
    """Collects each text from Alembic."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[Text] = []
        self._places = Places(path)

    def write(self, output: str, /) -> int:
        self.texts.append(self._places.text(output.removesuffix("\n\n").removesuffix(";").removesuffix("\n")))
        return len(output)
