"""Move a revision, and those that follow it, behind the line of another branch that was merged first."""

from __future__ import annotations

import ast
import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import to_tuple

from neuraknot_db.database import session
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.dev import generate, main_branch
from neuraknot_db.dev.lines import Lines, main
from neuraknot_db.errors import RefusedError, RevisionTwiceError, UsageError
from neuraknot_db.history.log import History
from neuraknot_db.revisions import files
from neuraknot_db.revisions.checksum import checksum, source_sha256
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)

_CONFLICT = re.compile("^<{7} ", re.MULTILINE)


class Move(NamedTuple):
    """What moves: the revisions in their order, each with its new id, and the one that they come to stand behind."""

    ids: Mapping[Script, str]
    behind: Script
    rest: list[Script]

    def twins(self, script: Script) -> list[Script]:
        """Return the other files of a revision's id."""
        return [each for each in self.rest if each.revision == script.revision]


def plan(script: ScriptDirectory, named: str) -> Move | None:
    """Return what has to move; None if nothing else claims the place of what is named, a file or a revision.

    Raises:
        UsageError: it names none, or one that moves along with another.
        RefusedError: the main branch has it, or it is not a line of its own.
        MigrationFailedError: a file can't be read.
    """
    lines = Lines(script)
    first = _found(lines, named)
    if start := next((each for each in lines.later() if each in lines.above(first)), None):
        raise UsageError(f"{_path(first)} follows {_path(start)}, and moves with it.", hint=command(start))
    claim = next((each for each in lines.claims if first in each), None)
    if claim is None:
        return None
    if branch := main(first):
        undo = "Undo the later merge, and renumber it on its branch: git revert -m 1 MERGE"
        raise RefusedError(
            f"{_path(first)} is on {branch}, and may have been applied where that was: nothing was changed.",
            hint=undo if main(claim[-1]) else command(claim[-1]),
        )
    moved = _line(lines, first)
    rest = [each for each in lines.scripts if each not in moved]
    ends = [each for each in rest if set(lines.children[each]) <= set(moved)]
    behind = min(ends, key=lambda each: (not main(each), -_number(each), each.path))
    start_at = (_number(behind) or max(map(_number, rest))) + 1
    ids = {each: f"{number:03d}" if _number(each) else each.revision for number, each in enumerate(moved, start_at)}
    move = Move(ids, behind, rest)
    for each, new in ids.items():
        if new == each.revision and move.twins(each):
            raise RefusedError(f"{new} is no number, so there is no next one.", hint=f"Give it an id: {_path(each)}")
        for other in lines.scripts:
            if each.revision in to_tuple(other.dependencies, default=()):
                raise RefusedError(
                    f"{_path(other)} names {each.revision} in depends_on, which would not move along.",
                    hint=f"Take it out there, and put it back after: {command(first)}",
                )
    return move


def demand_unapplied(move: Move, where: Settings) -> None:
    """Raise if a database has one of the revisions, or if its log does not tell whether it has another of that id.

    Raises:
        RefusedError: it may.
        UnreachableError: it can't be asked.
    """
    with session.open_session(where) as connection:
        applied = {each.revision: each for each in History(connection).applied()}
        versions = DatabaseState.of(connection).versions
        connection.rollback()
    ids = {each.revision for each in move.ids}
    for each in move.ids:
        known, twins = applied.get(each.revision), move.twins(each)
        sums = ((known.sources, source_sha256), (known.checksums, checksum)) if known else ()
        matches = [[of(Path(one.path).read_bytes()) in those for one in (each, *twins)] for those, of in sums]
        own, *theirs = next(filter(any, matches), [False])
        if own or (not theirs and (known or each.revision in versions)):
            what = "was applied" if own else f"may be the {each.revision} that was applied"
            at = "" if own else ", in the files that it was applied from"
            if twins:  # which Alembic does not load
                at = ", in the files from before the merge (git merge --abort, or git switch --detach ORIG_HEAD)"
            raise RefusedError(
                f"{_path(each)} {what} on {where.place}: nothing was changed.",
                hint=f"Go back first{at}: alembic downgrade -{len(applied.keys() & ids) or 1}",
            )


def apply(config: Config, script: ScriptDirectory, move: Move, server: Settings) -> Iterator[str]:
    """Move the files, and write anew what is generated from them; after a failure all are as before.

    Yields:
        A line for each file.

    Raises:
        NeuraknotError: an id can't be edited, a revision failed, or the server refused.
        OSError: a file can't be written.
    """
    contents, paths = _contents(script, move)
    before = _held(contents)
    try:
        _put(contents)
        stale: list[Path] = []
        if again := next(iter(Lines(script).later()), None):
            log.warning("two more revisions meet, so no snapshot is written yet. Next: %s", command(again))
        else:
            files.load(script)
            wanted = generate.generate(config, script, server)
            stale += generate.stale(script, wanted)
            before = _held(stale) | before
            generate.write(stale, wanted)
    except BaseException:
        _put(before)
        log.warning("every file is as it was, and has its old name")
        raise
    yield from (f"moved {files.here(old)} to {files.here(new)}" for old, new in paths.items())
    yield from (f"{'wrote' if path.exists() else 'removed'} {files.here(path)}" for path in stale)


def command(script: Script) -> str:
    """Return the command that renumbers a revision."""
    return f"neuraknot-db renumber {shlex.quote(str(_path(script)))}"


def _found(lines: Lines, named: str) -> Script:
    found = [each for each in lines.scripts if Path(named).resolve() == Path(each.path)]
    stem = named.removesuffix(".py")
    found = found or [each for each in lines.scripts if stem in (Path(each.path).stem, each.revision)]
    if len(found) > 1:
        raise RevisionTwiceError(named, [_path(each) for each in found])
    if not found:
        raise UsageError(f"There is no revision {named}.", hint="Which ones meet: neuraknot-db renumber --check")
    return found[0]


def _line(lines: Lines, first: Script) -> list[Script]:
    """Return a revision and those that follow it.

    Raises:
        RefusedError: they are not one line, or git does not tell which they are.
    """
    line: list[Script] = []
    ahead = [first]
    while ahead:
        [each, *others] = ahead
        reason = ""
        if others:
            reason = f"it is followed by {_path(each)} and {_path(others[0])}, which are to be renumbered before"
        elif each in line or len(each._versioned_down_revisions) > 1:
            reason = f"{_path(each)} joins two lines"
        elif line and len(lines.parents[each]) > 1:
            reason = f"{_path(each)} follows {each.down_revision}, and git does not tell in which file"
        if reason:
            hint = command(others[0]) if others else f"Give the ids by hand: {_path(first)}"
            raise RefusedError(f"{_path(first)} can't be moved: {reason}.", hint=hint)
        line.append(each)
        ahead = lines.children[each]
    return line


def _contents(script: ScriptDirectory, move: Move) -> tuple[dict[Path, bytes | None], dict[Path, Path]]:
    """Return what each file is to hold, None for nothing; and the new paths by the old.

    Raises:
        RefusedError: an id can't be edited, or there is a file of a new name.
    """
    olds, parent = [Path(each.path) for each in move.ids], move.behind.revision
    contents: dict[Path, bytes | None] = dict.fromkeys(olds)
    paths = {}
    for old, (each, new) in zip(olds, move.ids.items(), strict=True):
        path = paths[old] = old.with_name(re.sub(f"^{each.revision}", new, old.name))
        if path.exists() and path not in olds:
            raise RefusedError(f"There is a {files.here(path)} already.", hint="Give one of them another name.")
        contents[path] = _edited(each, new, parent)
        parent = new
    exceptions = Path(script.dir) / "lint.toml"
    if exceptions.exists():
        contents[exceptions] = _excepted(exceptions, move).encode()
    return contents, paths


def _edited(script: Script, revision: str, down_revision: str) -> bytes:
    """Return a file with other ids, where it assigns them and in its docstring; every other byte stays.

    Raises:
        RefusedError: it does not assign them as plain strings.
    """
    source = Path(script.path).read_bytes()
    lines, body = source.splitlines(keepends=True), ast.parse(source).body
    old = {"revision": script.revision, "down_revision": script.down_revision}
    new = {"revision": revision, "down_revision": down_revision}
    for statement in body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(name)], value=ast.Constant(value=value) as at)
                | ast.AnnAssign(target=ast.Name(name), value=ast.Constant(value=value) as at)
            ) if name in new and value == old[name] and at.lineno == at.end_lineno:
                line, now = lines[at.lineno - 1], f'"{new.pop(name)}"'.encode()
                lines[at.lineno - 1] = line[: at.col_offset] + now + line[at.end_col_offset :]
    if new:
        raise RefusedError(
            f"{_path(script)} does not give its {min(new)} as a plain string.", hint=f'Write it so: {min(new)} = "..."'
        )
    if ast.get_docstring(ast.Module(body, [])) is not None:
        ids = (("Revision ID", script.revision, revision), ("Revises", script.down_revision or "", down_revision))
        for number in range(body[0].lineno - 1, body[0].end_lineno or 0):
            for title, was, to in ids:
                pattern = rf"^(\s*{title}:[ \t]*){was}(?=\s)"
                lines[number] = re.sub(pattern.encode(), rf"\g<1>{to}".encode(), lines[number])
    return b"".join(lines)


def _excepted(path: Path, move: Move) -> str:
    """Return `lint.toml` with the exceptions of what moves under the new ids, if it is clear whose they are."""
    text, theirs = path.read_bytes().decode(), main_branch.text(path)
    moved = {each.revision: each for each in move.ids}

    def renamed(found: re.Match[str]) -> str:
        whole, name, reasons = found.group(0, 1, 2)
        if name not in moved or (theirs and whole.strip() in theirs):
            return whole
        known = theirs is not None and all(map(main, move.twins(moved[name])))
        if _CONFLICT.search(text) or (move.twins(moved[name]) and not known):
            told = (
                "whose is [revisions.%s] in %s? What is said there of the one that moves belongs under [revisions.%s]"
            )
            log.warning(told, name, files.here(path), move.ids[moved[name]])
            return whole
        return f"[revisions.{move.ids[moved[name]]}]{reasons}"

    section = r'^\[revisions\."?(\w+)"?\](.*?)(?=^\[|\Z)'
    return re.sub(section, renamed, text, flags=re.MULTILINE | re.DOTALL)


def _held(paths: Iterable[Path]) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.exists() else None for path in paths}


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
