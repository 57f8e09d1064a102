"""A plan: what would run on a database as it is now, what that locks, and who is in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neuraknot_db.database.other_sessions import Session
from neuraknot_db.schema.effects import Effect, LockMode

FORMAT = 2

QUERY_LENGTH = 500
"""Characters of another session's query that are shown at most."""


@dataclass(frozen=True)
class Holder:
    """A session that holds a lock on a table now.

    Attributes:
        mode: its strongest lock on the table.
        in_the_way: whether the plan's strongest lock on the table would have to wait for it.
    """

    session: Session
    mode: LockMode
    in_the_way: bool


@dataclass(frozen=True)
class TableNow:
    """A table that the plan touches, as it is now.

    Attributes:
        exists: False for one that the plan itself makes, or that is missing.
        made_by: the pending revision that makes it.
        rows: as the server estimates them; None if the table was never analysed.
        bytes: with its indexes and its TOAST table; None if a session locks it against being looked at.
    """

    name: str
    exists: bool
    made_by: str | None = None
    rows: int | None = None
    bytes: int | None = 0
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class PlannedStatement:
    """A statement of a pending revision that does something to relations that were there before it.

    Attributes:
        sql: in one line, cut where it is long.
        line: in the revision's file.
        effects: as measured; and on partitions and heirs that only this database has, as on the table above them.
        above: of each of these, the table above it.
        held: the locks that the transaction holds already, from statements before it.
        note: why it may do otherwise here; empty where there is no reason.
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
        """The lock that it waits for on the relation, in effect: CONCURRENTLY waits for more than it locks."""
        words = self.sql.upper().split()
        lock = effect.lock or LockMode.ACCESS_SHARE
        if "CONCURRENTLY" not in words or words[0] == "REFRESH":
            return lock
        return max(lock, LockMode.ACCESS_EXCLUSIVE if words[0] in ("DROP", "ALTER") else LockMode.SHARE)

    def blocks(self, effect: Effect) -> str:
        """What the application can't do to the relation meanwhile, in words; empty for nothing."""
        return LockMode(max(self.mode(effect) or 1, effect.index_lock or 1)).blocks


@dataclass(frozen=True)
class PlannedRevision:
    """A pending revision.

    Attributes:
        path: its file, as a person would type it there.
        transactional: whether its statements run in one transaction.
        lock_timeout: milliseconds, 0 for no limit.
        statement_timeout: likewise.
        waits: how many locks on tables in use may each be waited for so long while the first, or the wait for it,
            keeps the application out.
        losses: what it destroys, in words, in a downgrade.
        failure: why not all of its statements are known; empty where they are.
    """

    revision: str
    title: str
    path: str
    statements: tuple[PlannedStatement, ...]
    transactional: bool = True
    lock_timeout: int = 0
    statement_timeout: int = 0
    waits: int = 0
    losses: tuple[str, ...] = ()
    failure: str = ""

    @property
    def unknown(self) -> bool:
        """Whether it may lock more than is said."""
        return bool(self.failure) or any(each.note for each in self.statements)

    @property
    def longest_wait(self) -> int | None:
        """Milliseconds that a query of the application may wait for all the known locks together; None for no limit."""
        return self.waits * self.lock_timeout if self.lock_timeout or not self.waits else None


@dataclass(frozen=True)
class Refusal:
    """Why a run would change nothing.

    Attributes:
        code: the exit code that it would end with.
        message: its sentence, and what to do.
    """

    code: int
    message: str


@dataclass(frozen=True)
class Plan:
    """What would run.

    Attributes:
        place: the database, in words.
        current: the revision that it is at, None for none.
        target: the revision that it would be at.
        downgrade: whether it is a way back.
        tables: those that the revisions touch, by name.
        refused: why the database would not be migrated as it is now; None if it would.
        doubt: why what was measured may not hold for this database; empty where it does.
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

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {
            "neuraknot_plan": FORMAT,
            "database": self.place,
            "server_version": self.server_version,
            "current": self.current,
            "target": self.target,
            "direction": "downgrade" if self.downgrade else "upgrade",
            "refused": self.refused and {"code": self.refused.code, "message": self.refused.message},
            "doubt": self.doubt or None,
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
        "losses": list(planned.losses),
        "failure": planned.failure or None,
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
                "mode": str(holder.mode),
                "in_the_way": holder.in_the_way,
                "query": holder.session.query[:QUERY_LENGTH],
            }
            for holder in table.holders
        ],
    }
