"""The revision files: read before anything runs, and refused if they are invalid."""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path

from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import MigrationFailedError, RefusedError, UsageError
from neuraknot_db.revisions.containment import EscapedError, contained, words

MEANING_OTHERS = frozenset({"", "base", "head", "heads", "current"})
"""Words with a special meaning to Alembic, which can't name a revision."""

_PASSED_OVER = ("__init__", ".#")
"""How names begin of files that are no revisions, for Alembic."""


def load(script: ScriptDirectory) -> None:
    """Read every revision file now, so that a broken one is found before anything runs.

    Raises:
        UsageError: two files hold the same revision.
        MigrationFailedError: a file can't be read, or names a revision that no file has.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with contained():
                script.get_heads()
        except Exception as error:
            raise _unreadable(script, error) or error from error
    if told:
        _refuse_twice(script)
    _demand_all(script)


def _demand_all(script: ScriptDirectory) -> None:
    """Raise if the folder holds a revision's file that Alembic passed over without a word.

    Raises:
        MigrationFailedError: a link that leads nowhere, a folder of such a name, or a name that ends with .PY.
    """
    loaded = {Path(each.path).name for each in script.revision_map._revision_map.values() if isinstance(each, Script)}
    for path in Path(script.versions).iterdir():
        name = path.resolve().name if path.is_symlink() else path.name
        if not path.name.casefold().endswith(".py") or path.name.startswith(_PASSED_OVER) or name in loaded:
            continue
        if path.is_dir():
            what = "it is a folder"
        else:
            what = "its name does not end with .py" if path.exists() else "it is a link that leads nowhere"
        raise MigrationFailedError(
            f"{here(str(path))} can't be read as a revision: {what}.", hint="Put the file there, or remove it."
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
    elif isinstance(error, SyntaxError):
        place = f"{here(error.filename)}, line {error.lineno}" if error.filename else _culprit(script)
        hint = hint if error.filename else "Save it as UTF-8 and run the command again"
    elif isinstance(error, KeyError) and (naming := _naming(script, error.args[0])):
        told, place = f"it names {error.args[0]}, which no file has", naming
    else:
        # An escaped error was raised by the file; we only wrapped it.
        raised = error.__cause__ or error if isinstance(error, EscapedError) else error
        trace = traceback.extract_tb(raised.__traceback__)
        ours = [frame for frame in trace if _is_within(frame.filename, script)]
        place = f"{here(ours[-1].filename)}, line {ours[-1].lineno}" if ours else _culprit(script)
    return MigrationFailedError(f"A revision file can't be read: {told}.", hint=f"{hint}: {place}")


def _culprit(script: ScriptDirectory) -> str:
    """Return the file that can't be read, where the error does not say it."""
    for path in sorted(Path(script.versions).glob("*.py")):
        try:
            Script._from_path(script, path)
        except Exception:  # noqa: BLE001 - it was explained already
            return str(here(str(path)))
    return str(here(script.versions))


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
                hint="Give one of them the next number, in its name too, and the other as its down_revision.",
            )


def _naming(script: ScriptDirectory, unknown: object) -> str | None:
    try:
        found = [each for each in script._load_revisions() if unknown in each._versioned_down_revisions]
    except Exception:  # noqa: BLE001 - a file raised it itself
        return None
    return str(here(found[0].path)) if found else None


def _is_within(path: str, script: ScriptDirectory) -> bool:
    return Path(path).is_relative_to(script.versions)


def here(path: str) -> Path:
    """Return a file's path as a person would type it here."""
    found = Path(path)
    return found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found
