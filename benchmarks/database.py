"""The database side as whole processes, next to plain Alembic with the same revisions on the same server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import Cost, Server, compared, measured, our_project, plain_project, server

ROUNDS = 15
MANY = 996
"""Generated revisions, beside the four: a thousand in all."""


def run() -> Iterator[str]:
    """Yield a line for each figure."""
    with server() as running, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, plain = our_project(folder / "ours"), plain_project(folder / "plain")
        yield from _pair("the four revisions onto an empty database", running, ours, plain, empty=True)
        yield from _pair("nothing to do", running, ours, plain, empty=False)
        ours = our_project(folder / "ours-many", generated=MANY)
        plain = plain_project(folder / "plain-many", generated=MANY, transaction_per_migration=True)
        yield from _pair("1,000 revisions, a transaction each", running, ours, plain, empty=True, rounds=9)
        yield from _pair("1,000 revisions, nothing to do", running, ours, plain, empty=False, rounds=ROUNDS)


def _pair(name: str, running: Server, ours: Path, plain: Path, *, empty: bool, rounds: int = ROUNDS) -> Iterator[str]:
    costs: dict[Path, list[Cost]] = {ours: [], plain: []}
    for number in range(rounds + 1):
        # In turns, and each first every other time; the first round only warms up.
        for project in (ours, plain) if number % 2 else (plain, ours):
            database = "ours" if project is ours else "plain"
            if empty:
                running.empty(database)
            cost = measured(project, running.url(database), "upgrade", "head")
            if number:
                costs[project].append(cost)
    yield compared(name, costs[ours], costs[plain])
