"""Two revisions of one place: both branches had the same newest one when they were made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alembic.script import ScriptDirectory

from neuraknot_db.dev.lines import Lines
from neuraknot_db.dev.lint.finding import Finding
from neuraknot_db.dev.renumber import command
from neuraknot_db.revisions import files

CODE = "same-predecessor"


def find(script: ScriptDirectory) -> Iterator[Finding]:
    """Find the revisions to renumber, also in files that can't be loaded.

    Raises:
        MigrationFailedError: a file can't be read.
    """
    for later, first in Lines(script).later().items():
        what = f"is revision {first.revision}" if later.revision == first.revision else f"follows {first.down_revision}"
        message = f"{files.here(first.path)} {what} as well."
        lines = Path(later.path).read_text(encoding="utf-8").splitlines()
        line = next((number for number, line in enumerate(lines, 1) if line.startswith("down_revision")), 1)
        yield Finding(Path(later.path), line, CODE, message, f"Move it behind: {command(later)}")
