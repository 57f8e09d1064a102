"""Move a revision, and those that follow it, behind those of another branch that was merged first."""

from __future__ import annotations

import ast
import logging
import re
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple

from neuraknot_db.database import session
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.dev import generate, main_branch
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.history.log import History
from neuraknot_db.revisions import files
from neuraknot_db.revisions.checksum import source_sha256
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

_CHECK = "neuraknot-db renumber --check"
_BACK = "Go back first, in the files from before the merge (git merge --abort, git switch --detach ORIG_HEAD)"


class Move(NamedTuple):
    """A revision that moves, its new id and that of the one before, and the other files of its old id."""

    script: Script
    new: str
    behind: str
    twins: list[Path]


def later(script: ScriptDirectory) -> list[tuple[Script, Script, bool]]:
    """Return each revision to renumber, the one that it meets, and whether git tells that that one was first.

    Two meet that hold one id or, where there are several heads, follow the same revision. What the main branch has
    stays, else the first by name.

    Raises:
        MigrationFailedError: a file can't be read.
    """
    scripts, ours = _read(script)
    several = len(_heads(scripts)) > 1
    meeting: dict[object, list[Script]] = {}
    for each in sorted(scripts, key=ours.__contains__):
        for place in (each.revision, *(("after", each.down_revision),) * several):
            meeting.setdefault(place, []).append(each)
    found = {each: first for first, *others in meeting.values() for each in others}
    starts = {each.revision for each in found}
    return [(each, first, first not in ours) for each, first in found.items() if each.down_revision not in starts]


def plan(script: ScriptDirectory, named: str) -> list[Move]:
    """Return what moves, in its order, if a file or an id is named.

    Raises:
        UsageError: the name is of no file, or of several.
        RefusedError: main has it, it is in its place, what moves is not one line, or what stays has not one head.
        MigrationFailedError: a file can't be read.
    """
    scripts, ours = _read(script)
    names = {str(Path(named).resolve()), named.removesuffix(".py")}
    found = [each for each in scripts if names & {each.path, Path(each.path).stem, each.revision}]
    if len(found) != 1:
        what = f"{len(found)} files hold revision {named}" if found else f"There is no revision {named}"
        raise UsageError(f"{what}.", hint=f"Which one moves: {_CHECK}")
    [first] = line = found
    if first not in ours:
        hint = f"The other one moves: {_CHECK}. If both are there, revert the later merge."
        raise _refused(first, "it is on the main branch, and may have been applied", hint)
    # One after the other, as long as only one of ours is followed, and by only one.
    pairs = [(each, after) for each in ours for after in ours if each.revision == after.down_revision]
    while len(more := [b for a, b in pairs if a.revision == line[-1].revision and b not in line]) == 1:
        line += more
    ids, rest = {each.revision for each in line}, [each for each in scripts if each not in line]
    for each in ours:
        before = {*to_tuple(each.down_revision, default=()), *to_tuple(each.dependencies, default=())}
        if ids & (before - {each.down_revision} if each in line else before):
            raise _refused(first, f"{files.here(each.path)} names one that moves, and would not move along")
    heads, taken = _heads(rest), {each.revision for each in rest}
    if len(heads) != 1 or not all(map(str.isdecimal, ids)):
        raise _refused(first, "the others do not end in one head, or an id is no number")
    if first.down_revision == heads[0].revision and ids.isdisjoint(taken):
        raise _refused(first, "it stands behind the others already")
    start = max((int(each) for each in taken if each.isdecimal()), default=0) + 1
    new = [heads[0].revision, *(f"{number:03d}" for number in range(start, start + len(line)))]
    twins = [[Path(one.path) for one in rest if one.revision == each.revision] for each in line]
    return list(map(Move, line, new[1:], new, twins))


def apply(config: Config, script: ScriptDirectory, moves: list[Move], server: Settings) -> list[str]:
    """Move files, and write anew what is generated; return a line for each. After a failure all is as before.

    Raises:
        NeuraknotError: the database may have one of them, an id can't be edited, or a revision failed.
        OSError: a file can't be written.
    """
    _demand_unapplied(moves, server)
    contents: dict[Path, bytes | None] = {Path(each.script.path): None for each in moves}
    done = []
    for each in moves:
        old = Path(each.script.path)
        new = old.with_name(re.sub(f"^{each.script.revision}", each.new, old.name))
        if new.exists() and new not in contents:
            raise _refused(each.script, f"there is a {files.here(new)} already")
        contents[new] = _edited(each)
        done.append(f"moved {files.here(old)} to {files.here(new)}")
    if (exceptions := Path(script.dir) / "lint.toml").exists():
        ids = {each.script.revision: each.new for each in moves if not each.twins}
        header, text = r'(?m)^(\[revisions\."?)(\w+)', exceptions.read_bytes().decode()
        text = re.sub(header, lambda of: of[1] + ids.get(of[2], of[2]), text)
        contents[exceptions] = text.encode()
        if any(each.twins and f"[revisions.{each.script.revision}]" in text for each in moves):
            log.warning("see to lint.toml: what it says of the one that moves needs the new id, and a conflict its end")
    before: dict[Path, bytes | None] = {}
    try:
        _put(contents, before)
        files.load(script)
        wanted = generate.generate(config, script, server)
        stale = {path: wanted[path].encode() if path in wanted else None for path in generate.stale(script, wanted)}
        _put(stale, before)
    except BaseException:
        _put(before, {})
        log.warning("every file is as it was, and has its old name")
        raise
    return done + [f"{'removed' if text is None else 'wrote'} {files.here(path)}" for path, text in stale.items()]


def _read(script: ScriptDirectory) -> tuple[list[Script], list[Script]]:
    """Return all revisions by name, also where two hold one id, and those that the main branch does not have."""
    scripts = sorted(files.read(script), key=lambda each: each.path)
    theirs = main_branch.names(Path(script.versions))
    return scripts, [each for each in scripts if Path(each.path).name not in theirs]


def _heads(scripts: list[Script]) -> list[Script]:
    followed = {name for each in scripts for name in to_tuple(each.down_revision, default=())}
    return [each for each in scripts if each.revision not in followed]


def _refused(script: Script, reason: str, hint: str = f"Which one can: {_CHECK}") -> RefusedError:
    return RefusedError(f"{files.here(script.path)} can't be moved: {reason}.", hint=hint)


def _demand_unapplied(moves: list[Move], where: Settings) -> None:
    """Refuse if the database has one of the ids, unless its log tells by the checksum that it is another file's."""
    with session.open_session(where) as connection:
        known: dict[str, list[str]] = {each: [] for each in DatabaseState.of(connection).versions}
        known |= {each.revision: each.sources for each in History(connection).applied()}
    back = f"alembic downgrade {moves[0].script.down_revision or 'base'}"
    for each in moves:
        old, theirs = each.script.revision, {source_sha256(path.read_bytes()) for path in each.twins}
        if old in known and theirs.isdisjoint(known[old]):
            raise _refused(each.script, f"it may be the {old} that was applied on {where.place}", f"{_BACK}: {back}")


def _edited(move: Move) -> bytes:
    """Return a file with its new ids, where it assigns them and in its docstring; every other byte stays."""
    source = Path(move.script.path).read_bytes()
    lines, body = source.splitlines(keepends=True), ast.parse(source).body
    ids = {"revision": (move.script.revision, move.new), "down_revision": (move.script.down_revision, move.behind)}
    for title, (old, new) in zip(("Revision ID", "Revises"), ids.values(), strict=True):
        pattern, end = rf"^(\s*{title}:[ \t]*){re.escape(str(old or ''))}(?=\s)".encode(), body[0].end_lineno
        lines[:end] = [re.sub(pattern, rb"\g<1>" + new.encode(), line) for line in lines[:end]]
    for each in body:
        match each:
            case ast.Assign([ast.Name(name)], at) | ast.AnnAssign(ast.Name(name), _, at) if name in ids:
                if isinstance(at, ast.Constant) and (at.value, at.end_lineno) == (ids[name][0], at.lineno):
                    line, to = lines[at.lineno - 1], f'"{ids.pop(name)[1]}"'.encode()
                    lines[at.lineno - 1] = line[: at.col_offset] + to + line[at.end_col_offset :]
    if ids:
        raise _refused(move.script, f"it does not give its {min(ids)} as a plain string")
    return b"".join(lines)


def _put(contents: dict[Path, bytes | None], before: dict[Path, bytes | None]) -> None:
    """Write files, or remove those of None; what each held comes into `before`."""
    for path, content in contents.items():
        before[path] = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        Path(cache_from_source(path)).unlink(missing_ok=True)  # is taken for ours if size and second are the same
        if content is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
