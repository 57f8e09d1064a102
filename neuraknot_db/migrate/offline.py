"""Revisions without a database: printed as a script, or run to collect their SQL."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep

from neuraknot_db.errors import MigrationFailedError, NeuraknotError
from neuraknot_db.revisions import files
from neuraknot_db.revisions.containment import Conduct, contained, demand_run, supervised, words
from neuraknot_db.revisions.options import RevisionOptions, Step, late_block_error, objection_to, read_options
from neuraknot_db.revisions.places import failing_line


def emit(direction: Callable[[], object], buffer: TextIO) -> None:
    """Write what a revision's `upgrade` or `downgrade` emits, one `write` per `op.execute`.

    Don't call it while a migration runs: Alembic's `op` serves one context at a time.

    Raises:
        Exception: whatever the revision raises; EscapedError if that is not an Exception.
    """
    context = _context()
    context.impl.output_buffer = buffer
    with contained(), Operations.context(context):
        demand_run(direction())


def script(steps: Iterable[tuple[Step, RevisionOptions]], migration: MigrationContext) -> Iterator[Step]:
    """Yield the steps of a `--sql` script, with losses as comments and autocommit where it is needed.

    Args:
        steps: the steps with the options of their revisions.
        migration: the context that writes the script.
    """
    for step, options in steps:
        for what, query in (options.losses or {}).items():
            migration.impl.static_output(f"-- Loses {what}: {' '.join(query.split())}")
        if isinstance(step, RevisionStep):
            step.migration_fn = _printing(step, options, migration)
        yield step


def _printing(step: RevisionStep, options: RevisionOptions, migration: MigrationContext) -> Callable[..., None]:
    apply, revision = step.migration_fn, step.revision.revision

    def objection(sql: str, in_transaction: bool) -> NeuraknotError | None:
        return objection_to(sql, revision, may_end=in_transaction)

    def run(**_options: Any) -> None:
        try:
            if options.transactional:
                late_block = functools.partial(late_block_error, revision)
                with supervised(migration, Conduct(), objection=objection, late_block=late_block):
                    demand_run(apply())
            else:
                _print_alone(step, apply, migration)
        except NeuraknotError as error:
            error.hint = f"{error.hint or ''} The script is not whole: don't run it.".lstrip()
            raise
        except Exception as error:
            line = failing_line(error, str(step.revision.path))
            place = f"{files.here(step.revision.path)}{f', line {line},' if line else ''}"
            raise MigrationFailedError(
                f"Revision {revision} failed, and the script is not whole: {words(error)}.",
                hint=f"Don't run it. Correct {place} and print it again.",
            ) from error

    return run


def _print_alone(step: RevisionStep, apply: Callable[..., None], migration: MigrationContext) -> None:
    from neuraknot_db.migrate import autocommit  # few runs need it

    held = autocommit.hold(apply, migration, step.revision.revision)
    read_options(step, [each.sql for each in held])
    with migration.autocommit_block():
        for each in held:
            migration.impl.send(each)  # type: ignore[attr-defined]


@functools.cache
def _context() -> MigrationContext:
    # Making it takes ten times as long as emitting a revision's SQL.
    return MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "literal_binds": True})
