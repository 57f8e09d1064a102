"""A table that is written anew while nobody may read it."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.impact import Name, Work
from neuraknot_db.lint.finding import Finding, Subject

CODE = "table-rewrite"
HELP = (
    "Reads and writes wait until all of it is written. VACUUM without FULL and REFRESH MATERIALIZED VIEW CONCURRENTLY"
    " keep nobody out; to give space back to the system, pg_repack does it beside the application."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find VACUUM FULL, CLUSTER and REFRESH MATERIALIZED VIEW; of ALTER TABLE squawk knows more."""
    for way in subject.ways:
        made: set[Name] = set()
        for step in way.steps:
            form = step.impact.form
            rewritten = [str(each.table) for each in step.impact.effects if each.work == Work.REWRITE]
            if form in ("VACUUM", "CLUSTER") and not step.impact.effects and step.impact.opaque:
                rewritten = ["every table"]
            if form in ("VACUUM", "CLUSTER", "REFRESH MATERIALIZED VIEW") and set(rewritten) - set(map(str, made)):
                message = f"{way.name}() writes {', '.join(rewritten)} anew, and keeps reads and writes out."
                yield subject.finding(step.line, CODE, message, HELP)
            made.update(step.impact.creates)
