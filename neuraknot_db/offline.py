"""The SQL that a revision's function sends, found out without a database."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from neuraknot_db import rawsql  # noqa: F401 - importing it is what makes Alembic use it
from neuraknot_db.declared import Declared, Step


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


def script(steps: Iterable[tuple[Step, Declared]], migration: MigrationContext) -> Iterator[Step]:
    """The steps of a `--sql` script: what each would lose as a comment, what can't be in a transaction outside of one.

    Args:
        steps: with their declarations, which can't be read once Alembic runs the first.
        migration: the context that writes the script.
    """
    for step, declaration in steps:
        for what, query in (declaration.losses or {}).items():
            migration.impl.static_output(f"-- Loses {what}: {' '.join(query.split())}")
        if declaration.alone is not None:
            step.migration_fn = _between_transactions(step.migration_fn, migration)
        yield step


def _between_transactions(apply: Callable[..., None], migration: MigrationContext) -> Callable[..., None]:
    def run(**options: Any) -> None:
        with migration.autocommit_block():
            apply(**options)

    return run


@functools.cache
def _context() -> MigrationContext:
    # It takes ten times as long to make as a revision takes to emit its SQL.
    return MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "literal_binds": True})
