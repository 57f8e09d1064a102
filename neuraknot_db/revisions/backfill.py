"""A large data change, declared in a revision instead of its `upgrade()`.

from neuraknot_db.revisions.backfill import Backfill

backfill = Backfill(table="users", set="name = email", where="name IS NULL")

An upgrade runs it in batches (`migrate.backfill`); everything else, a reset too, as the one UPDATE that it amounts to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise
from pathlib import Path
from types import ModuleType

from alembic import op

from neuraknot_db.errors import UsageError

DECLARE = 'Write it as: backfill = Backfill(table="users", set="name = email", where="name IS NULL")'
_DECLARED = re.compile(r"^backfill\b", re.MULTILINE)
_BRACKETS = {"(": 1, ")": -1, "[": 1, "]": -1}
_PART = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_NAME = re.compile(rf"\s*(?:{_PART}\s*\.\s*)?{_PART}\s*")
"""A table's name, with its schema's."""


@dataclass(frozen=True, kw_only=True)
class Backfill:
    """A change of the rows of one table that the application goes on using meanwhile.

    Attributes:
        table: the table's name, as in SQL.
        set: what follows SET in an UPDATE.
        where: the rows that are not changed yet; after the change it must be false, or the row would be changed again.
    """

    table: str
    set: str
    where: str

    def __post_init__(self) -> None:
        """Refuse what is not a part of one UPDATE.

        Raises:
            ValueError: a part is blank, ends the statement or a parenthesis that it did not begin, or adds a clause.
        """
        from neuraknot_db.database import sql_text  # few revisions have any

        for part in fields(self):
            text = getattr(self, part.name)
            found = list(sql_text.tokens(text)) if isinstance(text, str) else []
            if not found:
                raise ValueError(f"{part.name} of the Backfill is {text!r}, and no SQL. {DECLARE}")
            depths = list(accumulate(_BRACKETS.get(token.text, 0) for token in found))
            outside = [token.text.lower() for token, depth in zip(found, depths, strict=True) if not depth]
            clause = part.name == "set" and any(
                word in ("where", "returning") or (word == "from" and before != "distinct")
                for before, word in pairwise(outside)
            )
            ends = any(token.kind == "error" or token.text == ";" for token in found)
            if clause or ends or depths[-1] or min(depths) < 0:
                raise ValueError(f"{part.name} of the Backfill is no part of one UPDATE: {text!r}. {DECLARE}")
            if part.name == "table" and not _NAME.fullmatch(text):
                raise ValueError(f"table of the Backfill is {text!r}, and no table's name. {DECLARE}")

    @property
    def digest(self) -> str:
        """The SHA-256 of what it does: comments and blanks don't count."""
        from neuraknot_db.database import sql_text  # few revisions have any

        text = " ".join(token.text for token in sql_text.tokens(self.statement))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def statement(self) -> str:
        """The one UPDATE that it amounts to."""
        # A comment at the end of a part must not hide what follows.
        return f"UPDATE {self.table}\nSET {self.set}\nWHERE (\n{self.where}\n)"

    @property
    def counting(self) -> str:
        """The query that counts the rows that are not changed yet."""
        return f"SELECT count(*) FROM {self.table} WHERE (\n{self.where}\n)"


def complete(module: ModuleType, revision: str) -> None:
    """Give a module that declares a backfill and no `upgrade` one that sends the one UPDATE.

    Raises:
        UsageError: what it declares is none.
    """
    found = getattr(module, "backfill", None)
    if found is None or hasattr(module, "upgrade"):
        return
    if not isinstance(found, Backfill):
        raise UsageError(f"backfill of revision {revision} is {found!r}.", hint=DECLARE)
    module.upgrade = _sending(found, str(module.__file__))  # type: ignore[attr-defined]


def is_completed(module: ModuleType) -> bool:
    """Whether its `upgrade` is that of `complete`, and not its author's."""
    return getattr(getattr(module, "upgrade", None), "of_backfill", False)


def line_of(module: ModuleType) -> int:
    """Return the line that declares the backfill of a module that `complete` gave its `upgrade`."""
    return module.upgrade.__code__.co_firstlineno + 1  # type: ignore[no-any-return]


def _sending(backfill: Backfill, path: str) -> Callable[[], None]:
    def upgrade() -> None:
        op.execute(backfill.statement)

    upgrade.of_backfill = True  # type: ignore[attr-defined]
    # As if it stood in the revision's file, in the line that declares it: that is where to look after a failure.
    before = _DECLARED.split(Path(path).read_text(encoding="utf-8", errors="replace"))[0].count("\n")
    upgrade.__code__ = upgrade.__code__.replace(co_filename=path, co_firstlineno=before)
    return upgrade
