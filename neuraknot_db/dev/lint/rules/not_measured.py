"""A revision whose locks are not known."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.schema.effects import WITHOUT_ROWS

CODE = "not-measured"
HELP = "What it locks and does is measured on a scratch database, and kept for plan: neuraknot-db snapshot"
FAILED_HELP = (
    "It is run as far as that on a scratch database. Correct what fails there, and measure it anew on that version of"
    " the server: neuraknot-db snapshot"
)
ROWS_HELP = (
    "It may fail in production as well. Let it carry such rows along; or correct alembic/snapshots/rows.sql, if no"
    " row is like that."
)
LEFT_OUT_HELP = (
    "No sample row leads there. Give alembic/snapshots/rows.sql one that does, and run neuraknot-db snapshot; or say in"
    " alembic/lint.toml what makes it safe."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find missing or outdated effects, a direction that was not measured to its end, and code that did not run."""
    if isinstance(subject.effects, str):
        yield subject.finding(1, CODE, f"What this revision locks is not known: {subject.effects}.", HELP)
        return
    for function in subject.functions:
        if function.measured.failure:
            message = f"What {function.name}() locks is not known: {function.measured.failure.rstrip('.')}."
            yield subject.finding(function.line, CODE, message, FAILED_HELP)
        elif failed := [each for each in function.measured.statements if each.note.startswith(WITHOUT_ROWS)]:
            words = failed[0].note.removeprefix(WITHOUT_ROWS)
            yield subject.finding(
                function.line, CODE, f"{function.name}() fails on the sample rows: {words}.", ROWS_HELP
            )
        for statement in function.measured.statements:
            if statement.left_out:
                message = f"{function.name}() may run what was not measured: {'; '.join(statement.left_out)}."
                yield subject.finding(statement.line, CODE, message, LEFT_OUT_HELP)
