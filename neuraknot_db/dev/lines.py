"""The lines that the revisions make, also where they can't be loaded: two files may hold one after a merge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory

from neuraknot_db.dev import main_branch
from neuraknot_db.revisions import files


class Lines:
    """The revisions of a project, a `Script` each.

    Attributes:
        scripts: all, in the order of their files' names.
        parents: those right before each; all of one id if git does not tell which it is.
        children: those right after each.
        claims: those that claim one place, as they hold the same id or follow the same revision, main's first. None
            where the lines join again.
    """

    def __init__(self, script: ScriptDirectory) -> None:
        """Read the files.

        Raises:
            MigrationFailedError: one can't be read.
        """
        self.scripts = sorted(files.read(script), key=lambda each: each.path)
        named = _grouped((each.revision, each) for each in self.scripts)
        self.parents = {
            each: [one for name in each._versioned_down_revisions for one in _meant(each, named[name])]
            for each in self.scripts
        }
        self.children = _grouped((parent, each) for each in self.scripts for parent in self.parents[each])
        following = _grouped((frozenset(self.parents[each]), each) for each in self.scripts)
        heads = [each for each in self.scripts if not self.children[each]]
        groups = [*named.values(), *(following.values() if len(heads) > 1 else ())]
        self.claims = [sorted(each, key=_order) for each in groups if len(each) > 1]

    def above(self, revision: Script) -> set[Script]:
        """Return all that go before a revision."""
        found: set[Script] = set()
        ahead = [revision]
        while ahead:
            new = set(self.parents[ahead.pop()]) - found
            found |= new
            ahead += new
        return found

    def later(self) -> dict[Script, Script]:
        """Return those to renumber, each with the one that stays; what follows one of them moves along with it."""
        found = {each: first for first, *rest in self.claims for each in rest}
        return {each: first for each, first in found.items() if found.keys().isdisjoint(self.above(each))}


def _meant(script: Script, named: Iterable[Script]) -> list[Script]:
    """Return which one of an id's files a revision follows: of two, the one on its own side of the main branch."""
    others = [each for each in named if each is not script]
    own = [each for each in others if len(others) > 1 and bool(main(each)) == bool(main(script))]
    return own if len(own) == 1 else others


def main(script: Script) -> str | None:
    """Return the main branch's name if it has a revision's file; None if not, or if git does not know."""
    return main_branch.holds(Path(script.path))


def _order(script: Script) -> tuple[bool, Path]:
    return main_branch.order(Path(script.path))


def _grouped(pairs: Iterable[tuple[Any, Script]]) -> Mapping[Any, list[Script]]:
    found = defaultdict[Any, list[Script]](list)
    for key, script in pairs:
        found[key].append(script)
    return found
