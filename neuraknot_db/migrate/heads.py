"""What `alembic_version` holds after some steps, without asking it."""

from __future__ import annotations

from collections.abc import Iterable

from alembic.runtime.migration import HeadMaintainer

from neuraknot_db.errors import UsageError
from neuraknot_db.revisions.options import Step


def heads_after(steps: Iterable[Step], heads: Iterable[str]) -> frozenset[str]:
    """Return what `alembic_version` holds once the steps are done.

    Args:
        steps: the steps in order.
        heads: what it holds before them.

    Raises:
        UsageError: Alembic gives steps that don't follow each other, as for the parts of a merge.
    """
    maintained = _Heads(None, set(heads))  # type: ignore[arg-type]
    try:
        for step in steps:
            maintained.update_to_step(step)
    except (KeyError, AssertionError) as error:
        raise UsageError(
            "Alembic has no way from where the database is to these revisions.",
            hint="To write them down whatever it is at: alembic stamp --purge REVISION ...",
        ) from error
    return frozenset(maintained.heads)


class _Heads(HeadMaintainer):
    """Alembic's bookkeeping of heads, without its table."""

    def _insert_version(self, version: str) -> None:
        self.heads.add(version)

    def _delete_version(self, version: str) -> None:
        self.heads.remove(version)

    def _update_version(self, from_: str, to_: str) -> None:
        self.heads.remove(from_)
        self.heads.add(to_)
