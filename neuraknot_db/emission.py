"""The SQL that a revision sends, found out without a database, and where each text stands in the revision's file."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

from alembic.script import Script

from neuraknot_db import offline
from neuraknot_db.containment import EscapedError, words
from neuraknot_db.errors import InterruptedRunError


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

    def line_at(self, position: int) -> int:
        """The line in the file of a place in the text, from 0."""
        return self.line + self.sql.count("\n", 0, position) if self.as_written else self.line


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


class _Keeper(io.StringIO):
    """Takes each text from Alembic, and looks up the call in the revision that it comes from."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[Text] = []
        self._path = path
        self._source = path.read_text(encoding="utf-8")

    def write(self, output: str, /) -> int:
        sql = output.removesuffix("\n\n").removesuffix(";").removesuffix("\n")
        call = self._calling_line()
        offset = sum(map(len, self._source.splitlines(keepends=True)[: call - 1]))
        position = self._source.find(sql, offset)
        if position < 0:
            self.texts.append(Text(sql, call, as_written=False))
        else:
            self.texts.append(Text(sql, self._source.count("\n", 0, position) + 1, as_written=True))
        return len(output)

    def _calling_line(self) -> int:
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if Path(frame.f_code.co_filename) == self._path:
                return frame.f_lineno
        return 1
