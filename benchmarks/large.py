"""`plan` and `lint` of a revision with very much SQL, next to the upgrade that runs it."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import Server, measured, our_project, server

ROUNDS = 5
SIZES = {"one INSERT of 10,000 rows": (10_000, 20), "one INSERT of 20 MB": (200_000, 70)}
"""Rows, and the length of a word in each."""

HEAD = """\"\"\"Models.\"\"\"

from alembic import op

revision = "005"
down_revision = "004"
losses = {"models": "SELECT count(*) FROM public.models"}


def upgrade() -> None:
    op.execute("CREATE TABLE public.models (id bigint PRIMARY KEY, name text, words text, price numeric)")
    op.execute(\"\"\"INSERT INTO public.models VALUES
"""
TAIL = """\"\"\")


def downgrade() -> None:
    op.execute("DROP TABLE public.models")
"""


def run() -> Iterator[str]:
    """Yield a line for each figure."""
    with server() as running, tempfile.TemporaryDirectory() as folder:
        for name, (rows, length) in SIZES.items():
            project = our_project(Path(folder) / str(rows))
            values = ",\n".join(f"({row}, 'model {row}', '{'x' * length}', {row}.5)" for row in range(rows))
            (project / "alembic" / "versions" / "005_models.py").write_text(f"{HEAD}{values}{TAIL}")
            yield from _large(name, running, project)


def _large(name: str, running: Server, project: Path) -> Iterator[str]:
    running.empty("large")
    url = running.url("large")
    measured(project, url, "snapshot", program="neuraknot-db")
    measured(project, url, "upgrade", "004")
    upgrades: list[float] = []
    others: dict[tuple[str, ...], list[float]] = {("plan",): [], ("lint", "005"): []}
    for _ in range(ROUNDS):
        for command, seconds in others.items():
            seconds.append(measured(project, url, *command, program="neuraknot-db").seconds)
        upgrades.append(measured(project, url, "upgrade", "head").seconds)
        measured(project, url, "downgrade", "004")
    for command, seconds in others.items():
        ratio = statistics.median(one / other for one, other in zip(seconds, upgrades, strict=True))
        told = f"{statistics.median(seconds):.2f} s against {statistics.median(upgrades):.2f} s, median of {ROUNDS}"
        yield f"{command[0]}, {name:<38} {ratio:5.2f} x alembic upgrade of it   ({told})"
