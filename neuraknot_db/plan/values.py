"""A plan: what would run on a database as it is now, what that locks, and who is in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neuraknot_db.impact import Effect, Impact, LockMode, Name

FORMAT = 1


@dataclass(frozen=True)
class Holder:
    """A session that holds a lock on a table now.

    Attributes:
        application: its `application_name`, or what kind of process it is.
        seconds: since its transaction began; None where that is not shown to this role.
        mode: its strongest lock on the table.
        in_the_way: whether the plan's strongest lock on the table would have to wait for it.
        query: what it runs, or ran last, on one line and cut.
    """

    pid: int
    application: str
    user: str
    state: str
    seconds: int | None
    mode: LockMode
    in_the_way: bool
    query: str


@dataclass(frozen=True)
class TableNow:
    """A table that the plan touches, as it is now.

    Attributes:
        exists: False for one that the plan itself makes, or that is missing.
        made_by: the pending revision that makes it.
        rows: as the server estimates them; None if the table was never analysed.
        bytes: with its indexes and its TOAST table; None if a session locks it against being looked at.
    """

    name: Name
    exists: bool
    made_by: str | None = None
    rows: int | None = None
    bytes: int | None = 0
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class PlannedStatement:
    """A statement of a pending revision.

    Attributes:
        sql: as written.
        line: in the revision's file.
        impact: what it locks and does.
        held: the locks on its tables that the transaction holds already, from statements before it.
    """

    sql: str
    line: int
    impact: Impact
    held: Mapping[Name, LockMode] = field(default_factory=dict)


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
        failure: why its statements could not all be read; empty where they could.
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
        return bool(self.failure) or any(each.impact.opaque for each in self.statements)

    @property
    def longest_wait(self) -> int | None:
        """Milliseconds that a query of the application may wait for all the known locks together; None for no limit."""
        return self.waits * self.lock_timeout if self.lock_timeout or not self.waits else None


@dataclass(frozen=True)
class Plan:
    """What would run.

    Attributes:
        place: the database, in words.
        current: the revision that it is at, None for none.
        target: the revision that it would be at.
        downgrade: whether it is a way back.
        tables: those that the revisions touch, by name.
        refusal: why the database would not be migrated as it is now; empty if it would.
        unread: why the plan goes by something else than the tables as they are; empty where it does not.
    """

    place: str
    server_version: str
    current: str | None
    target: str | None
    downgrade: bool
    revisions: tuple[PlannedRevision, ...]
    tables: Mapping[Name, TableNow] = field(default_factory=dict)
    refusal: str = ""
    unread: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {
            "neuraknot_plan": FORMAT,
            "database": self.place,
            "server_version": self.server_version,
            "current": self.current,
            "target": self.target,
            "direction": "downgrade" if self.downgrade else "upgrade",
            "refusal": self.refusal or None,
            "unread": self.unread or None,
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
                "form": each.impact.form,
                "locks": [_effect(effect, each.held.get(effect.table)) for effect in each.impact.effects],
                "creates": [str(name) for name in each.impact.creates],
                "unknown": each.impact.opaque or None,
            }
            for each in planned.statements
        ],
    }


def _effect(effect: Effect, held: LockMode | None) -> dict[str, Any]:
    return {
        "table": str(effect.table),
        "mode": str(effect.mode),
        "held": str(held) if held else None,
        "blocks": max(effect.mode, held or effect.mode).blocks or None,
        "work": effect.work.name.lower(),
        "why": effect.why or None,
    }


def _table(table: TableNow) -> dict[str, Any]:
    return {
        "name": str(table.name),
        "exists": table.exists,
        "made_by": table.made_by,
        "rows": table.rows,
        "bytes": table.bytes,
        "holders": [
            {
                "pid": holder.pid,
                "application": holder.application,
                "user": holder.user,
                "state": holder.state,
                "transaction_seconds": holder.seconds,
                "mode": str(holder.mode),
                "in_the_way": holder.in_the_way,
                "query": holder.query,
            }
            for holder in table.holders
        ],
    }
