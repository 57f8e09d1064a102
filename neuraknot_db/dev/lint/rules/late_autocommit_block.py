"""A revision that commits its work so far, without a record."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "late-autocommit-block"
HELP = (
    "It commits what the revision has done by then, and is refused when it runs. Give what can't be in a transaction a"
    " revision of its own, with transactional = False."
)
_BLOCK = "autocommit_block"
_OP = "alembic.op."
_SENDING_NOTHING = frozenset({"get_context", "get_bind", "f", "inline_literal"})
_EXECUTING = frozenset({"execute", "exec_driver_sql", "scalar", "scalars"})


def check(subject: Subject) -> Iterator[Finding]:
    """Find an `autocommit_block` after something that sends a statement, in the same function."""
    for function in subject.source.tree.body:
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        blocks = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == _BLOCK]
        first = min((_place(call) for call in calls if _sends(subject, function, call)), default=None)
        for block in blocks:
            if first is not None and first < _place(block):
                yield subject.finding(block.lineno, CODE, "autocommit_block() comes after a statement.", HELP)


def _sends(subject: Subject, function: ast.stmt, call: ast.Call) -> bool:
    name = subject.source.qualified(call.func, function) or ""
    if name.startswith(_OP):
        return name.removeprefix(_OP) not in _SENDING_NOTHING
    return isinstance(call.func, ast.Attribute) and call.func.attr in _EXECUTING


def _place(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset
