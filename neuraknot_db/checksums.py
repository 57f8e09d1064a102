"""Was an applied revision edited afterwards? Comments and white space may change freely, its SQL may not."""

from __future__ import annotations

import ast
import hashlib
import re
import runpy
from collections.abc import Callable, Collection, Iterator, Set
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.history import Applied, Entry, History

# The signs of a revision that takes its SQL from elsewhere: the same file then says nothing of the same SQL.
_READS_MORE = re.compile(
    rb"\b(?:open|read_text|read_bytes|Path|environ|getenv|importlib|__import__)\b"
    rb"|^\s*import\s+(?!(?:alembic|sqlalchemy|textwrap)\b[^,;\n]*$)"
    rb"|^\s*from\s+(?!(?:alembic|sqlalchemy|textwrap|typing|collections|__future__)\b)\S+\s+import\b",
    re.MULTILINE,
)

_NO_SQL = frozenset({"downgrade", "losses", "lock_timeout", "statement_timeout"})
"""What a revision may define besides what its upgrade sends."""


def checksum(revision: Script, *, upgrade: Callable[[], None] | None = None) -> str:
    """SHA-256 of the statements that `upgrade` emits, as a sequence of tokens.

    Literals, quoted names and dollar-quoted bodies count byte for byte. A revision that needs a live connection is
    hashed by its syntax tree, without docstrings and downgrade, with `ast:` before it; so is one whose SQL is another
    each time.

    Args:
        revision: where it is.
        upgrade: its `upgrade`, where not the one that Alembic has loaded.
    """
    from neuraknot_db import offline, sqltext

    upgrade = upgrade or revision.module.upgrade
    try:
        sql = offline.emitted(upgrade)
        repeatable = sql == offline.emitted(upgrade)
    except Exception:  # noqa: BLE001 - a revision may raise anything at all without its connection
        repeatable = False
    if not repeatable:
        tree = "".join(_dumped(_upgrading(ast.parse(Path(revision.path).read_bytes()))))
        return "ast:" + hashlib.sha256(tree.encode()).hexdigest()
    digest = hashlib.sha256()
    for token in sqltext.tokens(sql):
        # Lengths, so that no two sequences of tokens run into the same bytes.
        text = token.text.encode()
        digest.update(b"%d:%s" % (len(text), text))
    return digest.hexdigest()


def source_sha256(revision: Script) -> str:
    """SHA-256 of the revision's file."""
    return hashlib.sha256(Path(revision.path).read_bytes()).hexdigest()


def _same(revision: Script, known: Applied) -> bool:
    """Whether the file alone tells that nothing was edited."""
    source = Path(revision.path).read_bytes()
    return hashlib.sha256(source).hexdigest() in known.sources and not _READS_MORE.search(source)


def _upgrading(module: ast.Module) -> list[ast.stmt]:
    """What of a revision may change what its upgrade does."""
    return [statement for statement in module.body if not _NO_SQL.intersection(_defined(statement))]


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _dumped(node: object) -> Iterator[str]:
    """A syntax tree as text, the same for each version of Python: `ast.dump` is not."""
    if isinstance(node, list):
        # A statement that is a mere text is a docstring, or as good as one.
        for item in (item for item in node if not _is_text(item)):
            yield from _dumped(item)
    elif isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield f"{name}="
                yield from _dumped(value)
        yield ")"
    else:
        yield f"{node!r},"


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _applied(script: ScriptDirectory, heads: Collection[str]) -> Set[str]:
    """The heads and all that they stand on; a stamp may have left the log saying more."""
    found: set[str] = set()
    ahead = list(heads)
    while ahead:
        revision = script.get_revision(ahead.pop())
        if revision.revision not in found:
            found.add(revision.revision)
            for below in (revision.down_revision, revision.dependencies):
                ahead += [below] if isinstance(below, str) else below or ()
    return found


def demand_unedited(
    script: ScriptDirectory, history: History, heads: Collection[str], *, accepted: Collection[str]
) -> list[Entry]:
    """Compare what the log says was executed with what the files say now.

    Args:
        script: where the revisions are.
        history: the database's log.
        heads: the revisions that the database is at.
        accepted: revisions whose edit is taken.

    Returns:
        The entries to record for edits that are taken.

    Raises:
        RefusedError: an applied revision was edited.
        UsageError: an edit is to be taken of a revision that is not applied.
    """
    standing = _applied(script, heads)
    applied = {each.revision: each for each in history.applied() if each.revision in standing}
    if unknown := sorted(set(accepted) - set(applied)):
        raise UsageError(
            f"-x accept_edit={unknown[0]}: the log knows no such applied revision.",
            hint="neuraknot-db log shows what was applied.",
        )
    edited = {}
    for revision, known in sorted(applied.items()):
        found = script.get_revision(revision)
        if not known.checksums or _same(found, known):
            continue
        now = checksum(found, upgrade=runpy.run_path(found.path)["upgrade"])
        if now not in known.checksums:
            edited[revision] = Entry(revision, "accept", checksum=now, source_sha256=source_sha256(found))
    if refused := [revision for revision in edited if revision not in accepted]:
        files = " and ".join(Path(script.get_revision(revision).path).name for revision in refused)
        raise RefusedError(
            f"Revision {refused[0]} was edited after it had been applied: its SQL is not what was executed here."
            if len(refused) == 1
            else f"Revisions {', '.join(refused)} were edited after they had been applied: their SQL is not what was"
            " executed here.",
            hint=f"Restore {files} and write the change as a new revision,"
            # Whatever was asked for: to take an edit is no reason to go to head.
            f" or take the edit, before the same command: alembic -x accept_edit={','.join(edited)} ...",
        )
    return list(edited.values())
