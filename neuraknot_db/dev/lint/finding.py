"""What a rule finds, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from alembic.script import Script, ScriptDirectory

from neuraknot_db.database.sql_text import Statement, statements
from neuraknot_db.dev.sent_sql import Emission, emission
from neuraknot_db.revisions.syntax import Source
from neuraknot_db.schema import effects


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
    """A statement of a revision.

    Attributes:
        line: in the revision's file.
    """

    statement: Statement
    line: int

    @cached_property
    def words(self) -> list[str]:
        """Its tokens in lower case."""
        return [token.text.lower() for token in self.statement.tokens]


@dataclass(frozen=True)
class Way:
    """One direction of a revision.

    Attributes:
        name: `upgrade` or `downgrade`.
        line: of the function in the file; 1 where there is none.
        emission: what it sends.
        steps: its statements.
        measured: what they do to relations that were there before the revision.
    """

    name: str
    line: int
    emission: Emission
    steps: tuple[Step, ...]
    measured: effects.Way


class Subject:
    """A revision as the rules look at it."""

    def __init__(self, script: ScriptDirectory, revision: Script) -> None:
        """A revision of a project."""
        self.revision = revision
        self._script = script

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
        return self._way("upgrade")

    @cached_property
    def downgrade(self) -> Way:
        """The way back."""
        return self._way("downgrade")

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

    @cached_property
    def effects(self) -> effects.Effects | str:
        """What it was measured to do, or why that is not known."""
        return effects.load(self._script, self.revision)

    def _way(self, name: str) -> Way:
        downgrade = name == "downgrade"
        sent = emission(self.revision, downgrade=downgrade)
        steps = tuple(_steps(sent))
        measured = effects.Way() if isinstance(self.effects, str) else self.effects.way(downgrade=downgrade)
        return Way(name, self.line_of(f"def {name}"), sent, steps, measured)


def _steps(sent: Emission) -> Iterator[Step]:
    for text in sent.texts:
        found = statements(text.sql)
        lines = text.lines_at(statement.start for statement in found)
        yield from (Step(*each) for each in zip(found, lines, strict=True))
