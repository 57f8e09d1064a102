"""A plan: what would run on a database in its present state, what that locks, and who blocks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from neuraknot_db.database.other_sessions import Session
from neuraknot_db.database.sql_text import names
from neuraknot_db.history.runs import Run
from neuraknot_db.revisions.options import QUERIES
from neuraknot_db.schema.effects import Effect, LockMode

FORMAT = 2

QUERY_LENGTH = 500
"""Maximum characters shown of another session's query."""


@dataclass(frozen=True)
class Holder:
    """A session that is at a table now, or in the way of an index that is built beside the application.

    Attributes:
        mode: its strongest lock on the table; None for none.
        in_the_way: whether the plan would have to wait for it.
        snapshot: whether it is so for the session's snapshot, whatever that reads; a hidden session's is assumed.
    """

    session: Session
    mode: LockMode | None
    in_the_way: bool
    snapshot: bool = False


@dataclass(frozen=True)
class TableNow:
    """A table that the plan touches, as it is now.

    Attributes:
        exists: False if the plan itself creates it, or if it is missing.
        made_by: the pending revision that creates it.
        rows: the server's estimate; None if the table was never analyzed.
        bytes: including its indexes and its TOAST table; None if a lock prevents reading it.
    """

    name: str
    exists: bool
    made_by: str | None = None
    rows: int | None = None
    bytes: int | None = 0
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class PlannedStatement:
    """A statement of a pending revision that affects relations that existed before it.

    Attributes:
        sql: in one line, cut if it is long.
        line: its line in the revision's file.
        effects: as measured; on partitions and inheritance children that only this database has, as on their parent.
        above: the parent of each of these.
        held: the locks that the transaction already holds from earlier statements.
        note: why it may behave differently here; empty if there is no reason.
    """

    sql: str
    line: int
    effects: tuple[Effect, ...]
    above: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, LockMode] = field(default_factory=dict)
    note: str = ""

    def mode(self, effect: Effect) -> LockMode | None:
        """The strongest lock on the relation while the statement runs."""
        strongest = max(effect.lock or 0, self.held.get(effect.relation, 0))
        return LockMode(strongest) if strongest else None

    def waits_for(self, effect: Effect) -> LockMode:
        """The lock that it effectively waits for: CONCURRENTLY waits for more than it locks."""
        lock = effect.lock or LockMode.ACCESS_SHARE
        # Readers may still use the index or the partition that is about to go.
        return max(lock, {"create": LockMode.SHARE, "": lock}.get(self._concurrently, LockMode.ACCESS_EXCLUSIVE))

    @property
    def waits_for_snapshots(self) -> bool:
        """Whether it waits until nobody in the database has an older snapshot, whatever that is read for."""
        return self._concurrently in ("create", "reindex")

    @property
    def _concurrently(self) -> str:
        """The first word of what is done CONCURRENTLY and waits for more than its lock; empty for anything else."""
        words = names(self.sql)
        return words[0] if "concurrently" in words and words[0] != "refresh" else ""

    def blocks(self, effect: Effect) -> str:
        """What the application can't do with the relation meanwhile, in words; empty for nothing."""
        return LockMode(max(self.mode(effect) or 1, effect.index_lock or 1)).blocks


@dataclass(frozen=True)
class Question:
    """What a revision declares of the data: a phrase of its `losses`, `expects` or `ensures`, and what its query says.

    Attributes:
        about: which of the three.
        count: how many rows are lost, or break it, now; None if that was not asked, or is not known.
        unknown: why it is not known, in the server's words; empty if it is, or was not asked.
    """

    about: str
    phrase: str
    count: int | None = None
    unknown: str = ""

    @property
    def broken(self) -> bool:
        """Whether a run that began with it would be refused now."""
        return self.about == "expects" and bool(self.count)

    def __str__(self) -> str:
        said = "loses" if self.about == "losses" else self.about
        if self.count is None:
            return f"{said} {self.phrase}{f': not known now, {self.unknown}' if self.unknown else ''}"
        if said == "loses":
            return f"loses {self.count:,} {self.phrase}"
        rows = f"{self.count:,} row{' breaks' if self.count == 1 else 's break'} that"
        return f"{said} {self.phrase}: {rows if self.count else 'true'} now"


@dataclass(frozen=True)
class PlannedBackfill:
    """What a pending backfill has before it, as far as that is known; None for what is not.

    Attributes:
        table: as the revision names it.
        refused: why no run would begin it, as what its table is or has.
        rows: how many the table has, by the server's estimate.
        rows_left: how many there are to change, at the most.
        counted: whether these were counted.
        unknown: why they were not, in the server's words.
        rows_changed: by a run that did not end, and behind which the next one goes on.
        rows_per_second: of that run; it is assumed where there was none.
        batch_duration_ms: what a batch is to take.
        batches: how many there are to be, about.
        duration_ms: of all of them, without what they wait for.
    """

    table: str
    refused: str | None
    rows: int | None
    rows_left: int | None
    counted: bool
    unknown: str | None
    rows_changed: int | None
    rows_per_second: int | None
    batch_duration_ms: int
    batches: int | None
    duration_ms: int | None


@dataclass(frozen=True)
class PlannedRevision:
    """A pending revision.

    Attributes:
        path: its file, as a person would type it.
        transactional: whether its statements run in one transaction.
        lock_timeout: milliseconds, 0 for no limit.
        statement_timeout: milliseconds, 0 for no limit.
        waits: how many locks on tables in use may each be waited for that long while the first, or the wait for it,
            blocks the application.
        questions: what it destroys in a downgrade, or what must hold before and after an upgrade.
        failure: why some of its statements are not known; empty if all are.
        backfill: what it has before it, if it runs in batches; None for another revision, and on the way back.
    """

    revision: str
    title: str
    path: str
    statements: tuple[PlannedStatement, ...]
    transactional: bool = True
    lock_timeout: int = 0
    statement_timeout: int = 0
    waits: int = 0
    questions: tuple[Question, ...] = ()
    failure: str = ""
    backfill: PlannedBackfill | None = None

    @property
    def unknown(self) -> bool:
        """Whether it may lock more than the plan shows."""
        return bool(self.failure) or any(each.note for each in self.statements)

    @property
    def longest_wait(self) -> int | None:
        """Milliseconds that an application query may wait for all known locks together; None for no limit."""
        return self.waits * self.lock_timeout if self.lock_timeout or not self.waits else None


@dataclass(frozen=True)
class Refusal:
    """Why a run would change nothing.

    Attributes:
        code: the exit code of that run.
        message: the reason, and what to do.
    """

    code: int
    message: str


@dataclass(frozen=True)
class Plan:
    """What would run.

    Attributes:
        place: the database, in words.
        current: the database's revision, None for none.
        target: its revision after the run.
        downgrade: whether it is a downgrade.
        tables: the tables that the revisions touch, by name.
        refused: why a run would be refused now; None if it would not.
        doubt: why the measured effects may not hold for this database; empty if they do.
        running: another migration that runs now, and that a run would wait for; None for none.
        rollback: the run that it takes back; None for another plan.
        as_reader: whether it was made by a user who only reads, whose rights say nothing of a run.
    """

    place: str
    server_version: str
    current: str | None
    target: str | None
    downgrade: bool
    revisions: tuple[PlannedRevision, ...]
    tables: Mapping[str, TableNow] = field(default_factory=dict)
    refused: Refusal | None = None
    doubt: str = ""
    running: str | None = None
    as_reader: bool = False
    rollback: Run | None = None

    @property
    def present(self) -> list[TableNow]:
        """The tables that exist, or that a session holds, by name."""
        return [table for _, table in sorted(self.tables.items()) if table.exists or table.holders]

    @property
    def rollback_json(self) -> dict[str, Any] | None:
        """The run that it takes back, and what that loses, as JSON values."""
        return self.rollback and {
            "run": self.rollback.to_json(),
            "told": str(self.rollback),
            "from": self.current,
            "to": self.target,
            "revisions": [each.revision for each in self.revisions],
            "losses": [
                {"revision": each.revision, "phrase": one.phrase, "rows": one.count, "unknown": one.unknown or None}
                for each in self.revisions
                for one in each.questions
                if one.about == "losses" and one.count != 0
            ],
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "neuraknot_plan": FORMAT,
            "database": self.place,
            "server_version": self.server_version,
            "current": self.current,
            "target": self.target,
            "direction": "downgrade" if self.downgrade else "upgrade",
            "refused": self.refused and {"code": self.refused.code, "message": self.refused.message},
            "doubt": self.doubt or None,
            "running": self.running,
            "as_reader": self.as_reader,
            "rollback": self.rollback_json,
            "revisions": [_revision(each) for each in self.revisions],
            "tables": [_table(each) for _, each in sorted(self.tables.items())],
        }


def _revision(planned: PlannedRevision) -> dict[str, Any]:
    return {
        "revision": planned.revision,
        "title": planned.title,
        "path": planned.path,
        "transactional": planned.transactional,
        "lock_timeout_ms": planned.lock_timeout,
        "statement_timeout_ms": planned.statement_timeout,
        "lock_waits": planned.waits,
        "longest_wait_ms": planned.longest_wait,
        "may_lock_more": planned.unknown,
        **{name: [each.phrase for each in planned.questions if each.about == name] for name in QUERIES},
        "counts": [
            {"of": each.about, "phrase": each.phrase, "rows": each.count, "unknown": each.unknown or None}
            for each in planned.questions
            if each.count is not None or each.unknown
        ],
        "failure": planned.failure or None,
        "backfill": planned.backfill and asdict(planned.backfill),
        "statements": [
            {
                "line": each.line,
                "sql": each.sql,
                "locks": [_effect(each, effect) for effect in each.effects],
                "note": each.note or None,
            }
            for each in planned.statements
        ],
    }


def _effect(statement: PlannedStatement, effect: Effect) -> dict[str, Any]:
    held = statement.held.get(effect.relation)
    return {
        "table": effect.relation,
        "mode": str(effect.lock) if effect.lock else None,
        "held": str(held) if held else None,
        "index_mode": str(effect.index_lock) if effect.index_lock else None,
        "blocks": statement.blocks(effect) or None,
        "rewritten": effect.rewritten,
        "index_built": effect.index_built,
        "scanned": effect.scanned,
        "rows_changed": list(effect.rows_changed),
        "dropped": effect.dropped,
        "emptied": effect.emptied,
        "columns_dropped": list(effect.columns_dropped),
        "columns_retyped": list(effect.columns_retyped),
        "assumed_as_on": statement.above.get(effect.relation),
    }


def _table(table: TableNow) -> dict[str, Any]:
    return {
        "name": table.name,
        "exists": table.exists,
        "made_by": table.made_by,
        "rows": table.rows,
        "bytes": table.bytes,
        "holders": [
            {
                "pid": holder.session.pid,
                "application": holder.session.application,
                "user": holder.session.user,
                "state": holder.session.state,
                "transaction_seconds": holder.session.age,
                "mode": str(holder.mode) if holder.mode else None,
                "snapshot": holder.snapshot,
                "in_the_way": holder.in_the_way,
                "query": holder.session.query[:QUERY_LENGTH],
            }
            for holder in table.holders
        ],
    }
