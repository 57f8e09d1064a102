"""A revision whose SQL is known only when it runs."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "needs-database"
HELP = (
    "Neither this linter nor --sql can see what it sends: write the SQL into op.execute(...), with a DO block for what"
    " depends on the database."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find a direction that can't be read without a connection."""
    for function in subject.functions:
        if function.sent.failure:
            yield subject.finding(function.line, CODE, f"{function.sent.failure}.", HELP)
