"""A revision whose SQL may come from outside its own file."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "uncounted-source"
HELP = (
    "What a file imports or reads is not counted in its checksum: when that is edited after the revision was applied,"
    " nobody is told. Copy into this file what it needs."
)
_LIBRARIES = frozenset(
    {"alembic", "sqlalchemy", "neuraknot_db", "__future__"}
    | {"collections", "contextlib", "dataclasses", "datetime", "decimal", "enum", "functools", "itertools", "json"}
    | {"logging", "math", "operator", "re", "string", "textwrap", "time", "types", "typing", "uuid"}
)
"""Libraries that hold no SQL of ours."""
_READING = frozenset({"open", "__file__", "__import__"})


def check(subject: Subject) -> Iterator[Finding]:
    """Find any other imports, and opened files."""
    for node in ast.walk(subject.source.tree):
        for name in _sources(node):
            line = getattr(node, "lineno", 1)
            yield subject.finding(line, CODE, f"This uses {name}, which the checksum does not count.", HELP)


def _sources(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [each.name for each in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = ["." * node.level + (node.module or "")]
    else:
        names = [node.id] if isinstance(node, ast.Name) and node.id in _READING else []
    yield from (name for name in names if name.partition(".")[0] not in _LIBRARIES)
