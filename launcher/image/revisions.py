"""The revisions that an image built from this checkout would hold, read without running their files."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from launcher.errors import UsageError

_VERSIONS = "alembic/versions"
_ELSEWHERE = re.compile(r"^(?:recursive_)?version_locations\s*[=:]", re.MULTILINE)
_PASSED_OVER = ("__init__", ".#")  # by Alembic
_PARTS = re.compile(r"(.*?)@?([+-]\d+)?$")


@dataclass(frozen=True)
class _Declared:
    """What a revision's file declares of itself, as Alembic's `Revision` takes it."""

    revision: str
    down_revision: str | tuple[str, ...] | None = None
    depends_on: str | tuple[str, ...] | None = None
    branch_labels: str | tuple[str, ...] | None = None

    @property
    def before(self) -> tuple[str, ...]:
        """The revisions right before it."""
        return _several(self.down_revision)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the branch that begins with it."""
        return _several(self.branch_labels)


def demand(root: Path, targets: Collection[str]) -> None:
    """Raise if a target names no revision of the checkout, before a container has to find out.

    Whether a distance such as `-1` leads to a revision depends on where the database is, and is left to the container,
    unless it is longer than there are revisions. So are files that can't be read without running them.

    Args:
        root: the checkout.
        targets: as Alembic takes them: `003`, `head`, `-1`, `003+1`, `LABEL@head`. Without any, nothing is demanded.

    Raises:
        UsageError: a target names none, or several where one is needed; or the files fit no line of revisions.
    """
    found = _declared(root) if targets else []
    if not found:
        return
    _demand_whole(found)
    places = _places(found)
    others = {}
    for target in targets:
        name, steps = _PARTS.findall(target)[0]
        at = places[name] + int(steps or 0) if name in places else abs(int(steps or 0))
        if not 0 <= at <= len(found):
            raise _no_revision(target)
        if name and name not in places:
            others[target] = name
    if others:
        _resolve(found, others)


def _declared(root: Path) -> list[_Declared]:
    """Return what the files declare; nothing if there are none, or they can't be read without running them."""
    settings = root / "alembic.ini"
    try:
        if settings.exists() and _ELSEWHERE.search(settings.read_text(encoding="utf-8")):
            return []
        paths = sorted((root / _VERSIONS).glob("*.py"))
        return [_read(path) for path in paths if not path.name.startswith(_PASSED_OVER)]
    except (OSError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []


def _read(path: Path) -> _Declared:
    assigned = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of an escape in a string, which the run will tell
        statements = ast.parse(path.read_bytes()).body
    for statement in statements:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(name)], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value)
            ):
                assigned[name] = value
    given: dict[str, Any] = {
        each.name: ast.literal_eval(assigned[each.name]) for each in fields(_Declared) if each.name in assigned
    }
    for name, value in given.items():
        several = value if isinstance(value, tuple | list) and name != "revision" else (value,)
        if not all(isinstance(each, str) or (each is None and name != "revision") for each in several):
            raise TypeError(path)
        given[name] = tuple(value) if isinstance(value, list) else value
    return _Declared(**given)


def _demand_whole(found: Sequence[_Declared]) -> None:
    """Raise if two files hold one revision, or a file names one that no file has."""
    names = Counter(each.revision for each in found)
    known = {*names, *(label for each in found for label in each.labels)}
    for each in found:
        if names[each.revision] > 1:
            raise UsageError(
                f"{_VERSIONS} holds two files of revision {each.revision}.",
                hint="Which one to move behind the other: neuraknot-db renumber --check",
            )
        missing = {*each.before, *_several(each.depends_on)} - known
        if missing:
            raise UsageError(
                f"Revision {each.revision} in {_VERSIONS} names {min(missing)}, which no file has.",
                hint="Bring the missing file, or correct its down_revision. See: alembic history",
            )


def _places(found: Sequence[_Declared]) -> dict[str, int]:
    """Return the usual names of revisions, each with its place in their line; none if they branch."""
    after = {each.before: each.revision for each in found}
    line: list[str] = []
    while tuple(line[-1:]) in after:
        line.append(after.pop(tuple(line[-1:])))
    if len(line) < len(found):
        return {}
    return {"base": 0, "head": len(line), "heads": len(line)} | {name: at for at, name in enumerate(line, 1)}


def _resolve(found: Sequence[_Declared], named: Mapping[str, str]) -> None:
    """Raise if Alembic knows no revision of a name; given are the names by target."""
    from alembic.script.revision import MultipleHeads, Revision, RevisionError, RevisionMap

    try:
        known = RevisionMap(
            lambda: [Revision(each.revision, each.down_revision, each.depends_on, each.branch_labels) for each in found]
        )
        known.heads  # noqa: B018 - reads the map
    except RevisionError as error:
        raise UsageError(
            f"The revisions in {_VERSIONS} make no line: {error}",
            hint="Correct their down_revision and depends_on. See: alembic history",
        ) from error
    for target, name in named.items():
        try:
            known.get_revisions(name)
        except MultipleHeads as error:
            raise UsageError(
                f"{_VERSIONS} holds several heads, and {target} needs one: {', '.join(error.heads)}.",
                hint="Which one to move behind the other: neuraknot-db renumber --check",
            ) from error
        except (RevisionError, AssertionError) as error:
            raise _no_revision(target) from error


def _no_revision(target: str) -> UsageError:
    return UsageError(
        f"There is no revision {target} in {_VERSIONS}, from which the image is built.",
        hint="`alembic history` shows the revisions that exist.",
    )


def _several(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()
