"""A setting that outlives its revision."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.impact.reader import Reader
from neuraknot_db.lint.finding import Finding, Subject

CODE = "session-setting"
HELP = (
    "All revisions of a run share one session, and this project sets its timeouts and search_path: write SET LOCAL,"
    " which ends with the revision, and timeouts as the module variables lock_timeout and statement_timeout."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find SET without LOCAL, set_config(..., false), RESET and DISCARD."""
    for way in subject.ways:
        for step in way.steps:
            if what := _leaks(Reader(step.statement.tokens)):
                yield subject.finding(step.line, CODE, f"{way.name}() {what} for all revisions after it.", HELP)


def _leaks(reader: Reader) -> str:
    """What a statement does to the session; empty for nothing."""
    if reader.at("reset") or reader.at("discard"):
        return f"says {reader.rest[0].text.upper()}"
    if reader.accept("set"):
        of_transaction = any(reader.at(word) for word in ("local", "transaction", "constraints"))
        return "" if of_transaction else "sets what holds"
    for index, token in enumerate(reader.rest):
        call = Reader(reader.rest[index + 1 :])
        if token.kind == "name" and token.text.lower() == "set_config" and call.at("("):
            last = Reader(call.parenthesized()).items()[2:]
            return "sets what holds" if last and last[0].at("false") else ""
    return ""
