"""What a rule checks, and what it finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from alembic.script import Script, ScriptDirectory

from neuraknot_db.database.sql_text import Statement, statements
from neuraknot_db.dev.sent_sql import SentSql, sent_sql
from neuraknot_db.errors import RefusedError
from neuraknot_db.revisions.options import is_transactional, queries
from neuraknot_db.revisions.syntax import Source
from neuraknot_db.schema import effects, snapshots


@dataclass(frozen=True, order=True)
class Finding:
    """One objection of a rule.

    Attributes:
        path: the revision's file.
        line: in that file, from 1.
        code: the rule's name.
        message: what is wrong, in one sentence.
        help: how to correct it; empty if the message says so.
    """

    path: Path
    line: int
    code: str
    message: str
    help: str = ""


@dataclass(frozen=True)
class RevisionStatement:
    """A statement of a revision.

    Attributes:
        line: its line in the revision's file.
    """

    statement: Statement
    line: int

    @cached_property
    def words(self) -> list[str]:
        """Its tokens in lower case."""
        return [token.text.lower() for token in self.statement.tokens]


@dataclass(frozen=True)
class RevisionFunction:
    """One direction of a revision.

    Attributes:
        name: `upgrade` or `downgrade`.
        line: the function's line in the file; 1 if there is none.
        sent: what it sends.
        statements: its statements.
        measured: their effects on relations that existed before the revision.
    """

    name: str
    line: int
    sent: SentSql
    statements: tuple[RevisionStatement, ...]
    measured: effects.Measurement


class Subject:
    """A revision as the rules see it."""

    def __init__(self, script: ScriptDirectory, revision: Script) -> None:
        """Take a revision of a project."""
        self.revision = revision
        self._script = script

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.revision.path)

    @property
    def module(self) -> ModuleType:
        """The loaded file."""
        return self.revision.module

    def queries(self, name: str) -> Mapping[str, str]:
        """Return its `losses`, `expects` or `ensures`: what is lost or must hold, each with a query."""
        return queries(self.module, self.revision.revision, name)

    @property
    def transactional(self) -> bool:
        """Whether it runs in a transaction."""
        return is_transactional(self.module)

    @cached_property
    def source(self) -> Source:
        """Its syntax tree."""
        return Source(self.path.read_bytes())

    @cached_property
    def upgrade(self) -> RevisionFunction:
        """The upgrade."""
        return self._function("upgrade")

    @cached_property
    def downgrade(self) -> RevisionFunction:
        """The downgrade."""
        return self._function("downgrade")

    @property
    def functions(self) -> tuple[RevisionFunction, RevisionFunction]:
        """Both directions."""
        return self.upgrade, self.downgrade

    @property
    def in_one_transaction(self) -> list[Subject]:
        """The revisions that a reset runs in one transaction up to this one, oldest first, and this one itself."""
        until = [Subject(self._script, each) for each in self._script.iterate_revisions(self.revision.revision, "base")]
        return until[::-1] if all(each.transactional for each in until) else [self]

    def finding(self, line: int, code: str, message: str, help_: str = "") -> Finding:
        """Return a finding in this revision's file."""
        return Finding(self.path, line, code, message, help_)

    def line_of(self, *starts: str) -> int:
        """Return the first line that starts with one of these; 1 if none does."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return next((number for number, line in enumerate(lines, start=1) if line.startswith(starts)), 1)

    def statement_at(self, line: int) -> int:
        """Return the line where the statement begins that a line is part of; the line itself if there is none."""
        starts = (statement.line for function in self.functions for statement in function.statements)
        return max((start for start in starts if start <= line), default=line)

    def known_before(self, function: RevisionFunction) -> frozenset[str] | None:
        """Return the names that the schema held before one direction; None if there is no snapshot that tells."""
        before = self.revision.revision if function.name == "downgrade" else self.revision.down_revision
        if before is None:
            return frozenset()
        try:
            return snapshots.load(self._script, str(before)).names
        except RefusedError:
            return None

    @cached_property
    def effects(self) -> effects.Effects | str:
        """Its measured effects, or why they are not known."""
        return effects.load(self._script, self.revision)

    def _function(self, name: str) -> RevisionFunction:
        downgrade = name == "downgrade"
        sent = sent_sql(self.revision, downgrade=downgrade)
        statements = tuple(_statements(sent))
        measured = (
            effects.Measurement() if isinstance(self.effects, str) else self.effects.measurement(downgrade=downgrade)
        )
        line = self.line_of(f"def {name}", *(("backfill",) if name == "upgrade" else ()))
        return RevisionFunction(name, line, sent, statements, measured)


def _statements(sent: SentSql) -> Iterator[RevisionStatement]:
    for text in sent.texts:
        found = statements(text.sql)
        lines = text.lines_at(statement.start for statement in found)
        yield from (RevisionStatement(*each) for each in zip(found, lines, strict=True))
