"""What a run did, and what it should have reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OUTCOME = "neuraknot_db.migrate.outcome"
"""The key in `Config.attributes` of the outcome to fill in."""


@dataclass
class Outcome:
    """What a run did, filled in as it goes.

    Attributes:
        command: the command's name.
        before: the revision that the database was at; None for none or not known.
        after: the revision that it is at now; None for none or not known.
        ran: the revisions applied or rolled back, in order.
        target: the revision that it should be at in the end; None for none.
        targeted: whether there is such a target.
        rollback: the run that `plan --rollback` would take back, as JSON values; None for another command.
        unknown: whether the database could not be asked what was committed; then `after` is None.
    """

    command: str
    before: str | None = None
    after: str | None = None
    ran: list[str] = field(default_factory=list)
    target: str | None = None
    targeted: bool = False
    rollback: dict[str, Any] | None = None
    unknown: bool = False

    def aim(self, target: str | None) -> None:
        """Set where the database should be in the end, None for no revision."""
        self.target, self.targeted = target, True

    def found(self, landed: bool | None, revision: str | None) -> None:
        """Store what the database said after a failure.

        Args:
            landed: whether the current step is committed; None if the database could not be asked.
            revision: where the database is.
        """
        self.unknown, self.after = landed is None, revision
