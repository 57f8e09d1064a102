"""Find unsafe statements in revisions: squawk's rules, per revision, and our own.

finding      what a rule checks (a `Subject`: the file, its functions, their statements and effects), and what it finds
rules/       our own rules, a module each with `CODE`, `HELP` and `check`; `CHECKS` lists them
squawk       squawk as a program
made         what a revision has made itself, to which squawk's rules about others' use do not apply
exceptions   `alembic/lint.toml`: where rules do not apply, and why
markdown     findings and measured effects for a page of GitHub
"""

from __future__ import annotations

import os
import shlex
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from neuraknot_db.database.redaction import redacted
from neuraknot_db.dev import renumber
from neuraknot_db.dev.lint import exceptions, squawk
from neuraknot_db.dev.lint.exceptions import Exceptions
from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.dev.lint.rules import CHECKS, SQUAWK_TELLS, psql_only
from neuraknot_db.errors import UsageError
from neuraknot_db.revisions import files
from neuraknot_db.schema import snapshots

UNUSED, SAME_PREDECESSOR = "unused-exception", "same-predecessor"


def lint(script: ScriptDirectory, revisions: Sequence[Script]) -> list[Finding]:
    """Check revisions, each on its own: nobody uses yet the tables that it creates.

    Args:
        script: where the revisions are; `lint.toml` next to them lists the exceptions.
        revisions: the revisions to check.

    Raises:
        UsageError: squawk is not installed, or the exceptions are not valid.
    """
    program = squawk.program()
    excepted = exceptions.load(snapshots.path_of(script, "").parents[1] / "lint.toml")
    if ours := sorted(CHECKS.keys() & excepted.downgrade):
        hint = "Only squawk's rules can be there: write it under [always], or under [revisions.ID]."
        raise UsageError(f"{excepted.path.name} has {ours[0]} under [downgrade].", hint=hint)
    selected = {Path(revision.path) for revision in revisions}
    found = [each for each in same_place(script) if each.path in selected]
    for revision in revisions:
        found += _lint_one(program, Subject(script, revision), excepted)
    return sorted(found)


def same_place(script: ScriptDirectory) -> Iterator[Finding]:
    """Find the revisions that another branch's came before, also in files that can't be loaded.

    Raises:
        MigrationFailedError: a file can't be read.
    """
    for later, first, known in renumber.later(script):
        does = f"is revision {first.revision}" if later.revision == first.revision else f"follows {first.down_revision}"
        path, told = Path(later.path), f"{files.here(first.path)} {does} as well."
        line = path.read_bytes().partition(b"\ndown_revision")[0].count(b"\n") + 2
        help_ = "Move it behind" if known else "If this one came later, which git does not tell, move it behind"
        command = f"neuraknot-db renumber {shlex.quote(str(files.here(path)))}"
        yield Finding(path, line, SAME_PREDECESSOR, told, f"{help_}: {command}")


def rendered(finding: Finding, width: int | None = None) -> str:
    """Format a finding for people: the location as editors read it, and the help below.

    Args:
        finding: the finding.
        width: the terminal's width in characters; by default this one's.
    """
    path = Path(os.path.relpath(finding.path))
    lines = [f"{path}:{finding.line}: {finding.code}: {finding.message}"]
    width = width or min(shutil.get_terminal_size().columns, 120)
    told = redacted(finding.help)  # before wrapping: part of a secret would go unnoticed
    # Not at hyphens: an option that is broken there can't be pasted.
    lines += textwrap.wrap(told, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines)


def _lint_one(program: str, subject: Subject, excepted: Exceptions) -> Iterator[Finding]:
    reasons = excepted.revisions.get(subject.revision.revision, {})
    ours = [each for code, check in CHECKS.items() if code not in excepted.always for each in check(subject)]
    theirs: list[Finding] = []
    for function in subject.functions:
        theirs += squawk.check(program, subject, function, excluded=excepted.general(function.name) - CHECKS.keys())
    # One cause, one finding.
    told = {(subject.statement_at(each.line), each.code) for each in theirs}
    found = [
        each
        for each in ours
        if told.isdisjoint((subject.statement_at(each.line), code) for code in SQUAWK_TELLS.get(each.code, ()))
    ]
    named = any(each.code == psql_only.CODE for each in ours)
    found += [each for each in theirs if not (named and each.code == squawk.SYNTAX_ERROR)]
    yield from (finding for finding in found if finding.code not in reasons)
    for code in sorted(reasons.keys() - {finding.code for finding in found}):
        yield Finding(
            excepted.path,
            excepted.line_of(subject.revision.revision, code),
            UNUSED,
            f"Revision {subject.revision.revision} gives no cause for {code}.",
            "Remove the exception.",
        )
