"""The log for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from neuraknot_db.database import display
from neuraknot_db.history.log import Record
from neuraknot_db.history.runs import Run


def as_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return what `--json` prints, the oldest entry first; times in ISO 8601."""
    return [{**record._asdict(), "started_at": record.started_at.isoformat()} for record in records]


def as_text(records: Sequence[Record]) -> Iterator[str]:
    """Yield a line per entry, followed by further details."""
    for record in records:
        what = f"{record.direction} {record.revision or ''}".strip()
        # A name may hold a line break.
        who = " ".join(f"{record.started_by or record.database_user} on {record.client_host}".split())
        when = record.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
        waited = f", {display.duration(record.lock_wait_ms)} of it waiting for locks" if record.lock_wait_ms else ""
        took = display.duration(record.duration_ms) if record.outcome != "started" else "not ended"
        yield f"{when}  {what:<14}  {record.outcome:<11}  {took:>9}{attempt}{waited}  {who}"
        if record.outcome == "started":
            yield "    it still runs, or was killed: what it had committed by then stays"
        yield from _details(record)


def runs_as_text(runs: Iterable[Run]) -> Iterator[str]:
    """Yield two lines or more per run: what and when, by whom, and further details."""
    for run in runs:
        when = run.began.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        outcome = "not ended" if run.outcome == "started" else run.outcome
        moved = f"{run.before or 'none'} -> {run.after or 'none'}" if run.run else "?"
        yield f"{when}  {run.kind:<9}  {outcome:<11}  {moved}"
        if run.revisions:
            yield from textwrap.wrap(", ".join(run.revisions), 80, initial_indent="    ", subsequent_indent="    ")
        yield f"    {run.by} on {run.host}"
        yield from _details(run)


def _details(of: Record | Run) -> Iterator[str]:
    """Yield the error, and image, commit and task, shortened; --json has the full values."""
    if of.error:
        # A server's message may hold line breaks.
        yield f"    {of.error}".replace("\n", "\n    ")
    image, commit = _cut(of.image, after="@", length=19), _cut(of.git_commit, length=12)
    if known := [f"{name} {value}" for name, value in (("image", image), ("commit", commit)) if value]:
        yield f"    {'  '.join(known)}"
    if of.task_arn:
        yield f"    task {_cut(of.task_arn, after='/')}"


def _cut(text: str | None, *, after: str = "\0", length: int | None = None) -> str:
    """Return what follows the last separator, up to a length that identifies it."""
    return text.rsplit(after, 1)[-1][:length] if text else ""
