"""What a rule finds, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from alembic.script import Script

from neuraknot_db.catalog import Schema
from neuraknot_db.emission import Emission, emission
from neuraknot_db.impact import Impact, impact
from neuraknot_db.sqltext import Statement, statements
from neuraknot_db.syntax import Source


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that a rule objects to.

    Attributes:
        path: the revision's file.
        line: in that file, from 1.
        code: the rule's name.
        message: what is the matter, in one sentence.
        help: what to do about it; empty where the message says it.
    """

    path: Path
    line: int
    code: str
    message: str
    help: str = ""


@dataclass(frozen=True)
class Step:
    """A statement of a revision, with what it does.

    Attributes:
        line: in the revision's file.
    """

    statement: Statement
    impact: Impact
    line: int


@dataclass(frozen=True)
class Way:
    """One direction of a revision.

    Attributes:
        name: `upgrade` or `downgrade`.
        line: of the function in the file; 1 where there is none.
        emission: what it sends.
        steps: its statements.
    """

    name: str
    line: int
    emission: Emission
    steps: tuple[Step, ...]


class Subject:
    """A revision as the rules look at it."""

    def __init__(self, revision: Script, before: Schema, after: Schema) -> None:
        """A revision between two schemas: empty ones, where they are not known."""
        self.revision = revision
        self._before = before
        self._after = after

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.revision.path)

    @property
    def module(self) -> ModuleType:
        """What the file defines."""
        return self.revision.module

    @property
    def losses(self) -> Mapping[str, str]:
        """What the downgrade loses, with the query that counts it, as the revision declares."""
        found: Mapping[str, str] = getattr(self.module, "losses", {})
        return found

    @property
    def transactional(self) -> bool:
        """Whether it runs in a transaction."""
        return bool(getattr(self.module, "transactional", True))

    @cached_property
    def source(self) -> Source:
        """Its syntax tree."""
        return Source(self.path.read_bytes())

    @cached_property
    def upgrade(self) -> Way:
        """The way forward."""
        return self._way("upgrade", self._before)

    @cached_property
    def downgrade(self) -> Way:
        """The way back."""
        return self._way("downgrade", self._after)

    @property
    def ways(self) -> tuple[Way, Way]:
        """Both."""
        return self.upgrade, self.downgrade

    def finding(self, line: int, code: str, message: str, help_: str = "") -> Finding:
        """A finding in this revision's file."""
        return Finding(self.path, line, code, message, help_)

    def line_of(self, start: str) -> int:
        """The first line that starts so; 1 if none does."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return next((number for number, line in enumerate(lines, start=1) if line.startswith(start)), 1)

    def _way(self, name: str, schema: Schema) -> Way:
        sent = emission(self.revision, downgrade=name == "downgrade")
        return Way(name, self.line_of(f"def {name}"), sent, tuple(_steps(sent, schema)))


def _steps(sent: Emission, schema: Schema) -> Iterator[Step]:
    for text in sent.texts:
        for statement in statements(text.sql):
            yield Step(statement, impact(statement, schema), text.line_at(statement.start))
