"""Run squawk, a linter of PostgreSQL migrations, as a program: https://squawkhq.com/docs/rules."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from neuraknot_db.database.sql_text import statements
from neuraknot_db.dev.lint.finding import Finding, RevisionFunction, Subject
from neuraknot_db.dev.lint.made import Made
from neuraknot_db.dev.sent_sql import SentSql
from neuraknot_db.errors import UsageError

PG_VERSION = "15.0"
"""The oldest server that the revisions support."""

SLOW = frozenset(
    {"require-concurrent-index-creation", "require-concurrent-reindex", "disallowed-unique-constraint"}
    | {"constraint-missing-not-valid", "adding-foreign-key-constraint", "adding-not-nullable-field"}
    | {"adding-required-field", "adding-field-with-default", "adding-serial-primary-key-field", "changing-column-type"}
    | {"ban-alter-domain-with-add-constraint"}
)
"""Its rules about statements that read or write a whole table under their lock."""

DROPPING = frozenset(f"ban-drop-{what}" for what in ("column", "table", "type", "domain", "extension", "schema"))
"""Its rules about statements that drop a table or a column, or take one along by CASCADE."""

Found = Mapping[str, Any]
"""What squawk finds, as its JSON has it."""

_FOUND_SOMETHING = 1
SYNTAX_ERROR = "syntax-error"
_TIMEOUT = 60.0


def program() -> str:
    """Return squawk's path: next to this Python, or on the PATH.

    Raises:
        UsageError: it is not installed.
    """
    beside = Path(sys.executable).parent / "squawk"
    found = str(beside) if beside.exists() else shutil.which("squawk")
    if found is None:
        raise UsageError(
            "squawk is not installed: it reads the SQL of the revisions.",
            hint="It is a development dependency, and not in the image: pip install squawk-cli",
        )
    return found


def check(squawk: str, subject: Subject, function: RevisionFunction, *, excluded: Collection[str]) -> Iterator[Finding]:
    """Yield what squawk finds in one direction of a revision.

    Args:
        squawk: the program.
        subject: the revision.
        function: its upgrade or downgrade.
        excluded: rules to skip.

    Raises:
        UsageError: squawk itself failed.
    """
    document, lines = _document(function.sent)
    if not document:
        return
    in_transaction = "--assume-in-transaction" if subject.transactional else "--no-assume-in-transaction"
    arguments = [squawk, "--reporter=json", f"--pg-version={PG_VERSION}", in_transaction]
    arguments += [f"--exclude={','.join(sorted(excluded))}"] if excluded else []
    # Run in a folder without a .squawk.toml: exceptions are in lint.toml, with their reasons.
    done = subprocess.run(  # noqa: S603 - a program by its path, no shell
        [*arguments, "--stdin-filepath", f"{function.name}.sql"],
        input=document,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_TIMEOUT,
        cwd=Path(squawk).parent,
    )
    try:
        found = json.loads(done.stdout) if done.returncode in (0, _FOUND_SOMETHING) else None
    except ValueError:
        found = None
    if found is None:
        words = tuple((done.stderr.strip() or done.stdout.strip()).splitlines()[:5])
        raise UsageError(f"squawk failed with exit code {done.returncode}.", details=words)
    found = list(_of_others(document, found, Made(subject.known_before(function))))
    errors = [each for each in found if each["rule_name"] == SYNTAX_ERROR]
    for each in errors[:1] or found:  # later findings mostly follow from the first syntax error
        line = lines[min(each["line"], len(lines) - 1)]
        yield subject.finding(line, each["rule_name"], each["message"], each["help"] or "")


def _concerns_users(code: str) -> bool:
    """Whether a rule is about what others use, and not about the style of what is new."""
    return code in SLOW or code.startswith(("ban-drop-", "ban-truncate", "renaming-"))


def _of_others(document: str, found: Sequence[Found], made: Made) -> Iterator[Found]:
    """Yield what is found, but for changes to what the script itself has made by then."""
    if not any(_concerns_users(each["rule_name"]) for each in found):
        yield from found
        return
    # squawk counts the bytes of a line.
    begins = list(accumulate((len(line.encode()) + 1 for line in document.split("\n")), initial=0))
    waiting = deque(sorted(found, key=lambda each: (each["line"], each["column"])))
    end = read = 0
    for statement in statements(document):
        start = end + len(document[read : statement.start].encode())
        end = start + len(statement.text.encode())
        read = statement.start + len(statement.text)
        while waiting and (position := begins[waiting[0]["line"]] + waiting[0]["column"]) < end:
            each = waiting.popleft()
            before = len(statement.text.encode()[: max(position - start, 0)].decode(errors="ignore"))
            if not (_concerns_users(each["rule_name"]) and made.covers(statement, before)):
                yield each
        made.add(statement)
    yield from waiting


def _document(sent: SentSql) -> tuple[str, list[int]]:
    """Return all texts as one script, and for each of its lines the line in the revision's file."""
    parts: list[str] = []
    lines: list[int] = []
    for text in sent.texts:
        part = text.sql + "\n;\n"
        lines += [text.line + number if text.as_written else text.line for number in range(part.count("\n"))]
        parts.append(part)
    return "".join(parts), lines
