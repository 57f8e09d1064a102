"""A setting that outlives its revision."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "session-setting"
HELP = (
    "All revisions of a run share one session, and this project sets its timeouts and search_path: write SET LOCAL,"
    " which ends with the revision, and timeouts as the module variables lock_timeout and statement_timeout."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find SET without LOCAL, set_config(..., false), RESET and DISCARD."""
    for way in subject.ways:
        for step in way.steps:
            if what := _leaks(step.words):
                yield subject.finding(step.line, CODE, f"{way.name}() {what} for all revisions after it.", HELP)


def _leaks(words: list[str]) -> str:
    """Return what a statement does to the session; empty for nothing."""
    if words[0] in ("reset", "discard"):
        return f"says {words[0].upper()}"
    if words[0] == "set":
        return "" if words[1:2] in (["local"], ["transaction"], ["constraints"]) else "sets what holds"
    # The third argument says whether it applies to the transaction only.
    is_for_good = any(words[at] == "set_config" and "false" in words[at:] for at in range(len(words)))
    return "sets what holds" if is_for_good else ""
