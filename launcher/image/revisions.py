"""The revisions that an image built from this checkout would hold, read without running their files."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.errors import UsageError

_VERSIONS = "alembic/versions"
_PARTS = re.compile(r"(.*?)@?([+-]\d+)?$")


def demand(root: Path, targets: Collection[str]) -> None:
    """Raise if a target names no revision of the checkout, before a container has to find out.

    Whether a distance such as `-1` leads to a revision depends on where the database is, and is left to the container,
    unless it is longer than there are revisions. So are files that can't be read without running them.

    Args:
        root: the checkout.
        targets: as Alembic takes them: `003`, `head`, `-1`, `003+1`, `LABEL@head`.

    Raises:
        UsageError: a target names none, or several where one is needed.
    """
    try:
        found = list(_declared(root / _VERSIONS))
    except (OSError, ValueError, SyntaxError):
        return
    if not found:
        return
    names = {each["revision"] for each in found}
    heads = names.difference(*(_several(each.get("down_revision")) for each in found))
    # Most need no Alembic, which takes a while to import.
    plain = {"", "base", "heads", *names, *(["head"] if len(heads) == 1 else ())}
    others = {}
    for target in targets:
        name, steps = _PARTS.findall(target)[0]
        if abs(int(steps or 0)) > len(found):
            raise _no_revision(target)
        if name not in plain:
            others[target] = name
    if others:
        _resolve(found, others)


def _declared(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the names that each file declares: `revision`, `down_revision` and so on."""
    for path in sorted(folder.glob("*.py")):
        assigned = {}
        for statement in ast.parse(path.read_bytes()).body:
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(name)], value=ast.expr() as value)
                    | ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value)
                ):
                    assigned[name] = value
        names = ("revision", "down_revision", "branch_labels", "depends_on")
        declared = {name: ast.literal_eval(assigned[name]) for name in names if name in assigned}
        if "revision" not in declared:
            raise ValueError(path)
        yield declared


def _resolve(found: list[dict[str, Any]], named: Mapping[str, str]) -> None:
    """Raise if Alembic knows no revision of a name; given are the names by target."""
    from alembic.script.revision import MultipleHeads, Revision, RevisionError, RevisionMap

    revisions = [
        Revision(each["revision"], each.get("down_revision"), each.get("depends_on"), each.get("branch_labels"))
        for each in found
    ]
    known = RevisionMap(lambda: revisions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            known.heads  # noqa: B018 - reads the map
        except (RevisionError, KeyError):  # no line of revisions, as the container will say
            return
    for target, name in named.items():
        try:
            known.get_revisions(name)
        except MultipleHeads as error:
            raise UsageError(
                f"{_VERSIONS} holds several heads, and {target} needs one: {', '.join(error.heads)}.",
                hint="Set the newer one's down_revision to the other, or name a revision.",
            ) from error
        except (RevisionError, AssertionError) as error:
            raise _no_revision(target) from error


def _no_revision(target: str) -> UsageError:
    return UsageError(
        f"There is no revision {target} in {_VERSIONS}, from which the image is built.",
        hint="`alembic history` shows the revisions that exist.",
    )


def _several(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())
