"""Was a revision edited after it was applied? What it does must not change any more."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Set
from pathlib import Path

from alembic.script import ScriptDirectory

from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.history.log import Applied, Entry, History
from neuraknot_db.revisions import files
from neuraknot_db.revisions.checksum import KIND, checksum, source_sha256
from neuraknot_db.revisions.options import RevisionOptions


def _applied(script: ScriptDirectory, heads: Collection[str]) -> Set[str]:
    """Return the heads and all revisions below them; after a stamp the log may list more."""
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
    script: ScriptDirectory,
    history: History,
    heads: Collection[str],
    *,
    command: str,
    accepted: Collection[str],
    pending: Mapping[str, RevisionOptions],
) -> list[Entry]:
    """Compare what the log says was run with what the files say now.

    Args:
        script: where the revisions are.
        history: the database's log.
        heads: the revisions that the database is at.
        command: the command line, such as `upgrade head`, for the hint.
        accepted: revisions whose edit is accepted.
        pending: the options of the revisions to apply that are backfills.

    Returns:
        The entries to record for accepted edits.

    Raises:
        RefusedError: an applied revision was edited, or a backfill after its first batch.
        UsageError: an accepted revision is not applied.
    """
    standing = _applied(script, heads)
    applied = {each.revision: each for each in history.applied() if each.revision in standing}
    begun = history.progress() if pending else {}
    if unknown := sorted(set(accepted) - set(applied) - set(begun)):
        raise UsageError(
            f"-x accept_edit={unknown[0]}: the log knows no such applied revision.",
            hint="`neuraknot-db log` shows what was applied.",
        )
    edited = {}
    for revision, known in sorted(applied.items()):
        found = script.get_revision(revision)
        source = Path(found.path).read_bytes()
        sha256 = source_sha256(source)
        if known.checksums and sha256 not in known.sources and (now := checksum(source)) not in known.checksums:
            edited[revision] = Entry(revision, "accept", checksum=now, source_sha256=sha256)
    if refused := [revision for revision in edited if revision not in accepted]:
        paths = " ".join(shlex.quote(str(files.here(script.get_revision(revision).path))) for revision in refused)
        raise RefusedError(
            _edited([applied[revision] for revision in refused]),
            hint=f"The database is at {', '.join(sorted(heads))}. See what was edited: git log -p -- {paths}. Undo the"
            " edit, and write the change as a new revision. If the database already holds the change, accept the edit"
            f" instead: alembic -x accept_edit={','.join(edited)} {command}",
        )
    anew = {}
    for revision in sorted(begun.keys() & pending.keys()):
        (position, changed), declared, source = begun[revision], pending[revision].backfill, pending[revision].source
        if declared is None or declared.digest == position.backfill:
            continue
        if revision not in accepted:
            path = shlex.quote(str(files.here(script.get_revision(revision).path)))
            raise RefusedError(
                f"The backfill of revision {revision} was edited after its batches had changed"
                f" {changed:,} rows, which stay, so nothing was changed now.",
                hint=f"See what was edited: git log -p -- {path}. Undo the edit; or let it begin anew with what where"
                f" finds now: alembic -x accept_edit={revision} {command}",
            )
        anew[revision] = Entry(revision, "accept", checksum=checksum(source), source_sha256=source_sha256(source))
    return [*edited.values(), *anew.values()]


def _edited(revisions: list[Applied]) -> str:
    """Describe the edits in a sentence."""
    old = [each.revision for each in revisions if not any(known.startswith(KIND) for known in each.checksums)]
    if len(revisions) == 1:
        start = f"Revision {revisions[0].revision} was edited after it had been applied"
        otherwise = "its upgrade() is not what ran on this database"
    else:
        start = f"Revisions {', '.join(each.revision for each in revisions)} were edited after they had been applied"
        otherwise = "their upgrade() is not what ran on this database"
    if not old:
        return f"{start}, so nothing was changed now: {otherwise}."
    which = "" if len(old) == len(revisions) else f" of {', '.join(old)}"
    return (
        f"{start}, so nothing was changed now. An older version took the checksum{which}:"
        " whether only comments changed can't be told."
    )
