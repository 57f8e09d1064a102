"""The revision files: read before anything runs, and refused if they are invalid."""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import CycleDetected
from alembic.util import CommandError, to_tuple

from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import MigrationFailedError, RefusedError, UsageError
from neuraknot_db.revisions import backfill
from neuraknot_db.revisions.containment import EscapedError, contained, words

MEANING_OTHERS = frozenset({"", "base", "head", "heads", "current"})
"""Words with a special meaning to Alembic, which can't name a revision."""

_PASSED_OVER = ("__init__", ".#")
"""How names begin of files that are no revisions, for Alembic."""


def load(script: ScriptDirectory) -> None:
    """Read every revision file now, so that a broken one is found before anything runs.

    Raises:
        UsageError: two files hold the same revision, or one a backfill that is none.
        MigrationFailedError: a file can't be read, or names a revision that no file has.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with _reading(script):
            script.get_heads()
    if told:
        _refuse_twice(script)
    scripts = [each for each in script.revision_map._revision_map.values() if isinstance(each, Script)]
    _demand_all(script, scripts)
    _demand_names(scripts)
    for each in scripts:
        backfill.complete(each.module, each.revision)


def read(script: ScriptDirectory) -> list[Script]:
    """Return every file's revision, also if two hold the same.

    Raises:
        MigrationFailedError: a file can't be read.
    """
    with _reading(script):
        return list(script._load_revisions())


@contextlib.contextmanager
def _reading(script: ScriptDirectory) -> Iterator[None]:
    """Around what runs the files' module level: raise MigrationFailedError if one can't be read."""
    try:
        with contained():
            yield
    except Exception as error:
        raise _unreadable(script, error) or error from error


def _demand_all(script: ScriptDirectory, scripts: Iterable[Script]) -> None:
    """Raise if the folder holds a revision's file that Alembic passed over without a word.

    Raises:
        MigrationFailedError: a link that leads nowhere, a folder of such a name, or a name that ends with .PY or holds
            a line break.
    """
    loaded = {Path(each.path).name for each in scripts}
    for path in Path(script.versions).iterdir():
        name = path.resolve().name if path.is_symlink() else path.name
        if not path.name.casefold().endswith(".py") or path.name.startswith(_PASSED_OVER) or name in loaded:
            continue
        if path.is_dir():
            what = "it is a folder"
        elif not path.exists():
            what = "it is a link that leads nowhere"
        else:
            what = "its name does not end with .py" if path.name.isprintable() else "its name holds a line break"
        raise MigrationFailedError(
            f"{here(str(path))} can't be read as a revision: {what}.",
            hint="Put the file there under a plain name, or remove it.",
        )


def demand_known(script: ScriptDirectory, state: DatabaseState) -> None:
    """Refuse a database whose recorded revision has no file here.

    Raises:
        RefusedError: it is at such a revision, or its record is not a revision.
    """
    versions = state.versions
    rows = [version for version in versions if version.startswith("{")]
    if rows or len(set(versions)) < len(versions) or not MEANING_OTHERS.isdisjoint(versions):
        foreign = any('"version_num"' not in row for row in rows)
        emptied = "drop that table, which is not Alembic's, and alembic stamp" if foreign else "alembic stamp --purge"
        raise RefusedError(
            f"The table public.alembic_version holds {', '.join(map(repr, versions))}, which tells no revision.",
            hint=f"Once you know which revision the schema holds: {emptied} REVISION",
        )
    for version in versions:
        # Alembic accepts the beginning of a revision's name for the whole.
        if not _is_here(script, version):
            raise RefusedError(
                f"The database is at revision {version}, which is not in alembic/versions.",
                hint="Use the checkout or the image that has it: the database is ahead of this one.",
            )


def _is_here(script: ScriptDirectory, version: str) -> bool:
    try:
        found = script.get_revision(version)
    except CommandError:
        return False
    return found is not None and found.revision == version


def _unreadable(script: ScriptDirectory, error: Exception) -> MigrationFailedError | None:
    """Return why the revision files can't be read; None if Alembic's own error says it."""
    told, hint = words(error), "Correct it and run the command again"
    if isinstance(error, CommandError):
        if "Could not determine revision id" not in str(error):
            return None
        name = str(error).partition("filename ")[2].partition(". Be sure")[0]
        told, place = "it holds no `revision = ...`", str(here(f"{script.versions}/{name}"))
    elif isinstance(error, SyntaxError) and error.filename:
        place = f"{here(error.filename)}, line {error.lineno}"
    else:
        # An escaped error was raised by the file; we only wrapped it.
        raised = error.__cause__ or error if isinstance(error, EscapedError) else error
        trace = traceback.extract_tb(raised.__traceback__)
        ours = [frame for frame in trace if _is_within(frame.filename, script)]
        place = f"{here(ours[-1].filename)}, line {ours[-1].lineno}" if ours else ""
    if not place:
        try:
            told, place = _among(script, told, error)
        except MigrationFailedError as found:
            return found
    if "null bytes" in told:
        hint = "Take the NUL bytes out of it (UTF-16 has them: save it as UTF-8) and run the command again"
    return MigrationFailedError(f"A revision file can't be read: {told}.", hint=f"{hint}: {place}")


def _among(script: ScriptDirectory, told: str, error: Exception) -> tuple[str, str]:
    """Return what is wrong and in which files, where the error does not say it.

    Raises:
        MigrationFailedError: see `_demand_names`.
    """
    scripts = []
    for path in sorted(Path(script.versions).glob("*.py")):
        try:
            found = Script._from_path(script, path)
        except Exception:  # noqa: BLE001 - it was explained already
            return told, str(here(str(path)))
        scripts += [found] if found else []
    _demand_names(scripts)
    known = {each.revision for each in scripts} | {label for each in scripts for label in each._orig_branch_labels}
    for each in scripts:
        if unknown := sorted(_named(each) - known):
            return f"it names {unknown[0]}, which no file has", str(here(each.path))
    if isinstance(error, CycleDetected) and (circle := _circle(scripts)):
        names = " and ".join(each.revision for each in circle)
        return f"{names} name each other, in a circle", " or ".join(str(here(each.path)) for each in circle)
    named = [each for each in scripts if f"in revision {each.revision} " in f"{told} "]
    return told, str(here(named[0].path if named else str(script.versions)))


def _named(script: Script) -> set[str]:
    """Return the revisions and labels that a revision names as going before it."""
    return {*script._versioned_down_revisions, *to_tuple(script.dependencies, default=())}


def _circle(scripts: list[Script]) -> list[Script]:
    """Return the revisions that go before themselves, without those that only go before or after these."""
    before = {each.revision: _named(each) for each in scripts}
    while True:
        after = set().union(*before.values())
        left = {revision: named & before.keys() for revision, named in before.items() if revision in after}
        left = {revision: named for revision, named in left.items() if named}
        if left == before:
            return [each for each in scripts if each.revision in before]
        before = left


def _demand_names(scripts: Iterable[Script]) -> None:
    """Raise if a file names a revision or a label by something else than a string.

    Raises:
        MigrationFailedError: it does.
    """
    for each in scripts:
        for what in ("down_revision", "branch_labels", "depends_on"):
            value = getattr(each.module, what, None)
            if not all(isinstance(name, str) for name in to_tuple(value, default=())):
                raise MigrationFailedError(
                    f"A revision file can't be read: its {what} is {value!r}, which is no string.",
                    hint=f"Correct it and run the command again: {here(each.path)}",
                )


def _refuse_twice(script: ScriptDirectory) -> None:
    """Refuse two files of one revision: Alembic would run the one that it read last.

    Raises:
        UsageError: there are such files.
    """
    files: dict[str, list[str]] = {}
    for each in script._load_revisions():
        files.setdefault(each.revision, []).append(str(here(each.path)))
    for revision, paths in files.items():
        if len(paths) > 1:
            raise UsageError(
                f"Revision {revision} is in two files: {' and '.join(sorted(paths))}.",
                hint="Which one to move behind the other: neuraknot-db renumber --check",
            )


def _is_within(path: str, script: ScriptDirectory) -> bool:
    return Path(path).is_relative_to(script.versions)


def here(path: str | Path) -> Path:
    """Return a file's path as a person would type it here."""
    found = Path(path)
    return found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found
