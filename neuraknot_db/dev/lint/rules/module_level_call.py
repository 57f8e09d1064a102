"""A file that runs code when it is loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "module-level-call"
HELP = (
    "Every command loads every revision, again and again, in production too: outside of functions a file may only"
    " assign. Write the value out, or move the call into upgrade()."
)
_BACKFILL = "neuraknot_db.revisions.backfill.Backfill"
"""It runs nothing, and only declares a large data change."""


def check(subject: Subject) -> Iterator[Finding]:
    """Find calls outside of functions, except `Backfill(...)`."""
    for statement in subject.source.tree.body:
        for node in _run_when_loaded(statement):
            if isinstance(node, ast.Call) and subject.source.qualified(node.func, statement) != _BACKFILL:
                told = f"{ast.unparse(node.func)}(...) is called whenever the file is loaded."
                yield subject.finding(node.lineno, CODE, told, HELP)


def _run_when_loaded(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those that run only when functions and lambdas are called."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        inside: list[ast.AST] = [*decorators, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    else:
        yield node
        inside = list(ast.iter_child_nodes(node))
    for each in inside:
        yield from _run_when_loaded(each)
