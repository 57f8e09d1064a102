"""The SQL that a revision sends, found without a database, and the position of each text in the revision's file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from alembic.script import Script

from neuraknot_db.errors import InterruptedRunError
from neuraknot_db.migrate import offline
from neuraknot_db.revisions.containment import EscapedError, words
from neuraknot_db.revisions.places import Places, Text


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


class _Keeper(io.StringIO):
    """Collects each text from Alembic."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[Text] = []
        self._places = Places(path)

    def write(self, output: str, /) -> int:
        self.texts.append(self._places.text(output.removesuffix("\n\n").removesuffix(";").removesuffix("\n")))
        return len(output)
