"""The rows of the log by run: what each run began with, who began it, and what it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from neuraknot_db.history.log import Record

MOVES = frozenset({"upgrade", "downgrade", "stamp", "adopt", "reset"})
"""The directions of rows that say where a database came to."""


class Run(NamedTuple):
    """A run, or a row of a log that did not keep runs yet.

    Attributes:
        run: its id; None for such a row.
        kind: `upgrade`, `downgrade`, `stamp`, `adopt`, `reset` or `mark`.
        outcome: as its last row says; `started` if it never ended, and still runs or was killed.
        began: when.
        by: who began it.
        host: the machine or container that it ran on.
        before, after: the revision that it found and left, None for none or not known.
        revisions: those that it applied or took back, in order.
        error: the message of its last row, if that was a failure.
    """

    run: str | None
    kind: str
    outcome: str
    began: datetime
    by: str
    host: str | None
    task_arn: str | None
    image: str | None
    git_commit: str | None
    before: str | None
    after: str | None
    revisions: tuple[str, ...]
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self._asdict(), "began": self.began.isoformat(timespec="seconds"), "revisions": list(self.revisions)}

    def __str__(self) -> str:
        where = f"task {self.task_arn.rsplit('/', 1)[-1]}" if self.task_arn else self.host or "?"
        return f"{self.kind} of {self.began.astimezone():%Y-%m-%d %H:%M:%S %Z} by {self.by} on {where}"


def runs(records: Iterable[Record]) -> Iterator[Run]:
    """Yield the runs of all rows, oldest first."""
    rows: dict[object, list[Record]] = {}
    for each in records:
        rows.setdefault(each.run or each.id, []).append(each)
    yield from map(_run, rows.values())


def _run(rows: Sequence[Record]) -> Run:
    started = next((each for each in rows if each.outcome == "started"), None)
    done = [each for each in rows if each.outcome == "succeeded" and each.direction in MOVES]
    first, last = started or (done or rows)[0], rows[-1]
    later = rows[rows.index(started) + 1 :] if started else rows
    # The same rule as `log.vanished`: it is ended by a row that says how, or by one that reaches its target.
    ended = any(each.outcome != "succeeded" or started is None or each.after == started.after for each in later)
    outcome, by = last.outcome if ended else "started", " ".join((first.started_by or first.database_user).split())
    origin = (first.client_host, first.task_arn, first.image, first.git_commit)
    moved = (done[0].before, done[-1].after) if done else (first.before, first.before)
    moves = tuple(each.revision for each in done if each.revision and each.direction in ("upgrade", "downgrade"))
    return Run(last.run, first.direction, outcome, rows[0].started_at, by, *origin, *moved, moves, last.error)
