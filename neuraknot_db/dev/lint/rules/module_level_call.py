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
_BACKFILL = "Backfill"
"""Reserved: a large data change will be declared by it, which runs nothing."""


def check(subject: Subject) -> Iterator[Finding]:
    """Find calls outside of functions, except `Backfill(...)`."""
    for node in _run_when_loaded(subject.source.tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.rpartition(".")[2] != _BACKFILL:
                yield subject.finding(node.lineno, CODE, f"{name}(...) is called whenever the file is loaded.", HELP)


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
