"""What the main branch has of the revisions, as git tells."""

from __future__ import annotations

import subprocess
from pathlib import Path

from alembic.script import Script, ScriptDirectory

_MAIN = ("origin/main", "main")


def new_revisions(script: ScriptDirectory, behind: str | None = None) -> tuple[list[Script], str]:
    """Return the revisions whose files are new or edited since the main branch, oldest first.

    Where none is, or git can't tell, these are the revisions behind another one, or all if there is no such revision.

    Returns:
        The revisions, and why it is these, as a clause.
    """
    every = list(script.walk_revisions())[::-1]
    others, which = every, "all revisions"
    if behind in {each.revision for each in every}:
        others, which = list(script.iterate_revisions("heads", behind))[::-1], f"those after {behind}"
    folder = Path(script.versions)
    main = _main(folder)
    base = main and _git(folder, "merge-base", "HEAD", main)
    if not base:
        return others, f"{which}: git knows of no {f'commit that {main} has too' if main else 'main branch'} here"
    listed = (
        _git(folder, "diff", "-z", "--name-only", "--relative", "--diff-filter=d", base.strip(), "--", "."),
        _git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", "."),
    )
    changed = {(folder / name).resolve() for names in listed for name in (names or "").split("\0") if name}
    new = [each for each in every if Path(each.path).resolve() in changed]
    return (new, f"new since {main}") if new else (others, f"{which}: none is new since {main}")


def names(folder: Path) -> set[str]:
    """Return the names of the files that the main branch has in a folder; none if git knows of no main branch."""
    main = _main(folder)
    return set(((main and _git(folder, "ls-tree", "-z", "--name-only", main)) or "").split("\0"))


def _main(folder: Path) -> str | None:
    return next((each for each in _MAIN if _git(folder, "rev-parse", "--verify", "--quiet", each)), None)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints; None if it fails, or is not there."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            ["git", *arguments],  # noqa: S607 - the developer's own git
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
