"""Move a revision, and those that follow it, behind the line of another branch that was merged first."""

from __future__ import annotations

import ast
import logging
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple

from neuraknot_db.database import session
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.dev import generate, main_branch
from neuraknot_db.dev.lines import Lines
from neuraknot_db.errors import RefusedError, RevisionTwiceError, UsageError
from neuraknot_db.history.log import Applied, History
from neuraknot_db.revisions import files
from neuraknot_db.revisions.checksum import checksum, source_sha256
from neuraknot_db.schema import snapshots
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

_CONFLICT = re.compile(rb"^<{7} ", re.MULTILINE)
_ALL = "Which meet: neuraknot-db renumber --check"


@dataclass(frozen=True)
class Move:
    """What is moved.

    Attributes:
        lines: all revisions.
        behind: the one that will stand before them.
        ids: the revisions in their order, each with its new id.
    """

    lines: Lines
    behind: Script
    ids: Mapping[Script, str]


def plan(script: ScriptDirectory, named: str) -> Move | None:
    """Return what has to move, and where to; None if there is no other line.

    Args:
        script: where the revisions are.
        named: a file's name or path, or an id that only one has.

    Raises:
        UsageError: it names none, or one that moves along with another.
        RefusedError: the main branch has it, or it is no line by itself.
        MigrationFailedError: a file can't be read.
    """
    lines = Lines(script)
    first, later = _found(lines, named), lines.later()
    if start := next((each for each in later if each in lines.above(first)), None):
        raise UsageError(f"{_path(first)} follows {_path(start)}, and moves with it.", hint=command(start))
    claim = next((each for each in lines.claims if first in each), None)
    if claim is None:
        return None
    if main := main_branch.holds(Path(first.path)):
        both = main_branch.holds(Path(claim[-1].path))
        raise RefusedError(
            f"{_path(first)} is on {main}, so it may have been applied elsewhere: nothing was changed.",
            hint="Undo the later merge, and renumber on its branch: git revert -m 1 MERGE"
            if both
            else command(claim[-1]),
        )
    moved = list(_line(lines, first))
    rest = [each for each in lines.scripts if each not in moved]
    ends = [each for each in rest if set(lines.children[each]) <= set(moved)]
    behind = min(ends, key=lambda each: (not main_branch.holds(Path(each.path)), -_number(each), each.path))
    start_at = (_number(behind) or max(map(_number, rest))) + 1
    ids = {each: f"{number:03d}" if _number(each) else each.revision for number, each in enumerate(moved, start_at)}
    for each, new in ids.items():
        if new == each.revision and any(other.revision == new for other in rest):
            raise RefusedError(f"{new} is no number, so no next one is known.", hint=f"Give it an id: {_path(each)}")
        for other in lines.scripts:
            if each.revision in to_tuple(other.dependencies, default=()):
                raise RefusedError(
                    f"{_path(other)} depends on {each.revision}, and would have to be edited as well.",
                    hint=f"Take its depends_on out, and put it back afterwards. Then {command(first)}",
                )
    return Move(lines, behind, ids)


def demand_unapplied(move: Move, where: Settings) -> None:
    """Raise if one of the revisions may have been applied to a database.

    Raises:
        RefusedError: it may.
        UnreachableError: the database can't be asked.
    """
    with session.open_session(where) as connection:
        applied = {each.revision: each for each in History(connection).applied()}
        versions = DatabaseState.of(connection).versions
        connection.rollback()
    for each in move.ids:
        others = [one for one in move.lines.scripts if one.revision == each.revision and one is not each]
        known = applied.get(each.revision)
        was = _is_applied(known, each, others) if known else None if each.revision in versions else False
        if was is False:
            continue
        log_says = "was applied" if was else f"may be the {each.revision} that was applied"
        before = "in the files as before the merge (git merge --abort, or git switch --detach ORIG_HEAD): " * bool(
            others
        )
        raise RefusedError(
            f"{_path(each)} {log_says} on {where.place}: nothing was changed.",
            hint=f"Take it back first, {before}alembic downgrade -1",
        )


def apply(config: Config, script: ScriptDirectory, move: Move, server: Settings) -> Iterator[str]:
    """Move the files, and write anew what is generated; after a failure they are as before.

    Args:
        config: Alembic's.
        script: where the revisions are.
        move: see `plan`.
        server: see `generate.generate`.

    Yields:
        A line for each file.

    Raises:
        NeuraknotError: a revision failed, or the server refused.
        OSError: a file can't be written.
    """
    changes, paths = _changes(script, move)
    before = {path: path.read_bytes() if path.exists() else None for path in changes}
    try:
        _put(changes)
        if again := Lines(script).later():
            log.warning("two lines meet still, so no snapshots are written. Next: %s", command(next(iter(again))))
            stale: Sequence[Path] = ()
        else:
            files.load(script)
            wanted = generate.generate(config, script, server)
            stale = generate.stale(script, wanted)
            before = {path: path.read_bytes() if path.exists() else None for path in stale} | before
            generate.write(stale, wanted)
    except BaseException:
        _put(before)
        log.warning("the files are as they were")
        raise
    yield from (f"moved {files.here(old)} to {files.here(new)}" for old, new in paths.items())
    yield from (f"{'wrote' if path.exists() else 'removed'} {files.here(path)}" for path in stale)


def command(script: Script) -> str:
    """Return the command that renumbers a revision."""
    return f"neuraknot-db renumber {shlex.quote(str(_path(script)))}"


def _found(lines: Lines, named: str) -> Script:
    typed = Path(named).resolve()
    found = [each for each in lines.scripts if typed == Path(each.path)]
    found = found or [each for each in lines.scripts if named in (Path(each.path).name, each.revision)]
    if not found:
        raise UsageError(f"There is no revision {named}.", hint=f"Name its file. {_ALL}")
    if len(found) > 1:
        raise RevisionTwiceError(named, [_path(each) for each in found])
    return found[0]


def _line(lines: Lines, first: Script) -> Iterator[Script]:
    """Yield a revision and those that follow it.

    Raises:
        RefusedError: they are not one line, or git does not tell which they are.
    """
    seen, ahead = list[Script](), [first]
    while ahead:
        [each, *others] = ahead
        reason = ""
        if len(each._versioned_down_revisions) > 1 or each in seen:
            reason = "joins two lines"
        elif seen and len(lines.parents[each]) > 1:
            reason = f"follows {each.down_revision}, which two files hold, and git does not tell which"
        elif others:
            reason = f"and {_path(others[0])} follow the same revision"
        if reason:
            raise RefusedError(
                f"{_path(first)} is not moved: {_path(each)} {reason}.",
                hint=command(others[0]) if others else f"Correct down_revision by hand: {_path(each)}",
            )
        yield each
        seen.append(each)
        ahead = lines.children[each]


def _is_applied(known: Applied, script: Script, others: Sequence[Script]) -> bool | None:
    """Return whether the log's revision is of this file; None if it may be of another that is not here."""
    for recorded, of in ((known.sources, source_sha256), (known.checksums, checksum)):
        own, *theirs = (of(Path(each.path).read_bytes()) in recorded for each in (script, *others))
        if own or any(theirs):
            return own
    return None


def _changes(script: ScriptDirectory, move: Move) -> tuple[dict[Path, bytes | None], dict[Path, Path]]:
    """Return what every file will hold, None for nothing, and the new paths by the old.

    Raises:
        RefusedError: an id can't be edited, or there is a file of the new name.
    """
    changes: dict[Path, bytes | None] = {}
    paths: dict[Path, Path] = {}
    parent = move.behind.revision
    for each, new in move.ids.items():
        old = Path(each.path)
        paths[old] = old.with_name(re.sub(f"^{re.escape(each.revision)}", new, old.name))
        changes[paths[old]] = _edited(each, new, parent)
        parent = new
    for path in paths.values():
        if path.exists() and path not in paths:
            raise RefusedError(f"{files.here(path)} is there already.", hint="Give one of the two another name.")
    changes |= {old: None for old in paths if old not in changes}
    # A snapshot with a merge's conflict would stop the run that writes it anew.
    for path in snapshots.folder(script).glob("*.json"):
        if _CONFLICT.search(path.read_bytes()):
            changes[path] = None
    exceptions = Path(script.dir) / "lint.toml"
    if exceptions.exists():
        changes[exceptions] = _excepted(exceptions, move).encode()
    return changes, paths


def _edited(script: Script, new: str, parent: str) -> bytes:
    """Return a file with another id and predecessor; every other byte stays.

    Raises:
        RefusedError: they are no plain strings there.
    """
    source = Path(script.path).read_bytes()
    lines = source.splitlines(keepends=True)
    wanted = {"revision": (script.revision, new), "down_revision": (script.down_revision, parent)}
    [*old] = wanted.values()
    body = ast.parse(source).body
    for statement in body[::-1]:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(name)], value=ast.Constant(value=value) as node)
                | ast.AnnAssign(target=ast.Name(name), value=ast.Constant(value=value) as node)
            ) if (value, node.end_lineno) == (wanted.get(name, ("",))[0], node.lineno):
                line = lines[node.lineno - 1]
                lines[node.lineno - 1] = (
                    line[: node.col_offset] + f'"{wanted.pop(name)[1]}"'.encode() + line[node.end_col_offset :]
                )
    if wanted:
        raise RefusedError(
            f"{_path(script)} can't be edited: its {min(wanted)} is not written as a plain string.",
            hint=f'Write it as one, such as revision = "{script.revision}", and run the command again.',
        )
    if ast.get_docstring(ast.Module(body, [])) is not None:
        for at in range(body[0].lineno - 1, body[0].end_lineno or 0):
            for title, (was, now) in zip((rb"Revision ID", rb"Revises"), old, strict=True):
                lines[at] = re.sub(
                    rb"^(\s*%s:[ \t]*)%s(?=\s|$)" % (title, re.escape(str(was or "").encode())),
                    rb"\g<1>" + now.encode(),
                    lines[at],
                )
    return b"".join(lines)


def _excepted(path: Path, move: Move) -> str:
    """Return `lint.toml` with the exceptions of what moves under the new ids, if it is known whose they are."""
    text, main = path.read_text(encoding="utf-8"), main_branch.text(path) or ""
    by_id = {each.revision: (each, new) for each, new in move.ids.items() if each.revision != new}
    parts = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    for at, part in enumerate(parts):
        found = re.match(r'\[revisions\."?(\w+)"?\]', part)
        if found is None or found[1] not in by_id or part.strip() in main:
            continue
        each, new = by_id[found[1]]
        twins = [one for one in move.lines.scripts if one.revision == each.revision and one is not each]
        if _CONFLICT.search(text.encode()) or not all(main_branch.holds(Path(one.path)) for one in twins):
            log.warning(
                "whose are the exceptions in %s? Of %s they belong under [revisions.%s]",
                files.here(path),
                _path(each),
                new,
            )
            continue
        parts[at] = f"[revisions.{new}]{part[found.end() :]}"
    return "".join(parts)


def _put(contents: Mapping[Path, bytes | None]) -> None:
    for path, content in contents.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content)
        # Python would take it for this file's if size and second are the same.
        Path(cache_from_source(path)).unlink(missing_ok=True)


def _path(script: Script) -> Path:
    return files.here(script.path)


def _number(script: Script) -> int:
    """Return an id's number; 0 if it is none."""
    return int(script.revision) if script.revision.isdecimal() else 0
