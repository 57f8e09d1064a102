"""A table rewrite that locks out readers."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "table-rewrite"
HELP = (
    "Reads and writes wait until all of it is written. Add a column, fill it in steps, and change over, in revisions of"
    " their own. VACUUM without FULL and REFRESH MATERIALIZED VIEW CONCURRENTLY keep nobody out; to give space back to"
    " the system, pg_repack does it beside the application."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find statements that rewrite a table in use."""
    for function in subject.functions:
        for statement in function.measured.statements:
            if rewritten := [effect.relation for effect in statement.effects if effect.rewritten]:
                message = f"{function.name}() writes {', '.join(rewritten)} anew, and keeps reads and writes out."
                yield subject.finding(statement.line, CODE, message, HELP)
