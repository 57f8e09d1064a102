"""A setting that outlives its revision."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "session-setting"
_TRUE = [[word] for word in ("true", "'t'", "'true'", "'y'", "'yes'", "'on'", "'1'")]
HELP = (
    "All revisions of a run share one session, and this project sets its timeouts and search_path: write SET LOCAL,"
    " which ends with the revision, and timeouts as the module variables lock_timeout and statement_timeout."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Find SET without LOCAL, set_config(..., false), RESET and DISCARD."""
    for function in subject.functions:
        for statement in function.statements:
            if what := _leaks(statement.words):
                yield subject.finding(
                    statement.line, CODE, f"{function.name}() {what} for all revisions after it.", HELP
                )


def _leaks(words: list[str]) -> str:
    """Return what a statement does to the session; empty for nothing."""
    if words[0] in ("reset", "discard"):
        return f"says {words[0].upper()}"
    if words[0] == "set":
        return "" if words[1:2] in (["local"], ["transaction"], ["constraints"]) else "sets what holds"
    calls = [at for at, word in enumerate(words) if word == "set_config"]
    return "" if all(_is_local(words[at + 1 :]) for at in calls) else "sets what holds"


def _is_local(words: list[str]) -> bool:
    """Return whether the third argument of a call, which begins with its parenthesis, is a literal true."""
    arguments: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += (word in "([") - (word in ")]")
        if depth == 0:
            break
        if word == "," and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(word)
    return (
        len(arguments) == 3
        and arguments[2][:1] in _TRUE
        and arguments[2][1:] in ([], ["::", "boolean"], ["::", "bool"])
    )
