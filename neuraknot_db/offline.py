"""The SQL that a revision's function sends, found out without a database."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import TextIO

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from neuraknot_db import rawsql  # noqa: F401 - importing it is what makes Alembic use it


def emit(direction: Callable[[], None], buffer: TextIO) -> None:
    """Write what a revision's `upgrade` or `downgrade` emits, a `write` each `op.execute`.

    Not to be called while a migration runs: Alembic's `op` serves one context at a time.

    Raises:
        Exception: whatever the revision raises that needs a live connection.
    """
    context = _context()
    context.impl.output_buffer = buffer
    with Operations.context(context):
        direction()


def emitted(direction: Callable[[], None]) -> str:
    """The same as one text."""
    buffer = io.StringIO()
    emit(direction, buffer)
    return buffer.getvalue()


@functools.cache
def _context() -> MigrationContext:
    # It takes ten times as long to make as a revision takes to emit its SQL.
    return MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "literal_binds": True})
