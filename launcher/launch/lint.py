"""Lint of the pending revisions, on the caller's machine because the image has no linter."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import ProgramNotFoundError
from launcher.machine.process import Runner
from launcher.models import TaskResult

FOUND = 3
"""The exit code of `neuraknot-db lint` if it found something."""


@dataclass(frozen=True)
class Lint:
    """The linter's result.

    Attributes:
        revisions: the linted range: `002:head`.
        clean: whether nothing was found; None if the linter could not run.
        lines: the output for the user.
    """

    revisions: str
    clean: bool | None
    lines: tuple[str, ...]


def pending(run: Runner, root: Path, result: TaskResult, target: str) -> Lint:
    """Lint the revisions that an upgrade would run.

    Args:
        run: starts `neuraknot-db` as a separate program.
        root: the checkout with the revisions.
        result: the plan task's result, which has the database's revision.
        target: the last revision, or `head`.
    """
    before = result.report.before if result.report else None
    revisions = f"{before or 'base'}:{target}"
    if not (root / "alembic.ini").is_file():
        return Lint(revisions, None, ("Not linted: that needs the revisions of a checkout. Name it with --root.",))
    beside = Path(sys.executable).with_name("neuraknot-db")
    try:
        done = run([str(beside) if beside.exists() else "neuraknot-db", "lint", revisions], cwd=root)
    except ProgramNotFoundError:
        return Lint(revisions, None, ("Not linted: neuraknot-db and squawk are not installed here (make check).",))
    said = tuple(line for text in (done.stdout, done.stderr) for line in text.splitlines() if line.strip())
    return Lint(revisions, {0: True, FOUND: False}.get(done.exit_code), (f"Lint of {revisions}:", *said))
