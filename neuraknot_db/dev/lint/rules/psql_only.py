"""What only psql understands: its commands, and rows in the text, as pg_dump writes them."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.database.sql_text import psqls
from neuraknot_db.dev.lint.finding import Finding, RevisionStatement, Subject

CODE = "psql-only"
HELP = (
    "The server knows neither psql's commands, which begin with a backslash, nor rows that follow COPY. Leave out the"
    " first, and write INSERT for the second: pg_dump --inserts does."
)
_PASTED = "estrict"
"""What Python makes of a pg_dump's first command, \\restrict, in a string that is not raw: its \\r is a line's end."""


def check(subject: Subject) -> Iterator[Finding]:
    """Find the first such place of each direction: what follows it is mostly no SQL either."""
    for function in subject.functions:
        for statement in function.statements:
            if what := _foreign(statement):
                yield subject.finding(statement.line, CODE, f"{function.name}() says {what}, which is psql's.", HELP)
                break


def _foreign(statement: RevisionStatement) -> str:
    """Return what the server does not understand; empty for nothing."""
    return "\\restrict" if statement.words[0] == _PASTED else psqls(statement.statement)
