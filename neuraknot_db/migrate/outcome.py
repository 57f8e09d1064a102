"""What a run did, and where it was to lead."""

from __future__ import annotations

from dataclasses import dataclass, field

OUTCOME = "neuraknot_db.migrate.outcome"
"""The key in `Config.attributes` of the outcome that the caller wants filled in."""


@dataclass
class Outcome:
    """What a run did, filled in as it goes.

    Attributes:
        command: the command's name.
        before: the revision that the database was at, None for none or not known.
        after: the revision that it is at now, likewise.
        ran: the revisions applied or taken back, in order.
        target: the revision that it should be at in the end, None for none.
        targeted: whether there is such a target.
        unknown: whether the database could not be asked what was committed; `after` is None then.
    """

    command: str
    before: str | None = None
    after: str | None = None
    ran: list[str] = field(default_factory=list)
    target: str | None = None
    targeted: bool = False
    unknown: bool = False

    def aim(self, target: str | None) -> None:
        """Say where the database should be in the end, None for no revision."""
        self.target, self.targeted = target, True

    def found(self, landed: bool | None, revision: str | None) -> None:
        """Take over what the database said after a failure.

        Args:
            landed: whether what was under way is committed; None where it could not be asked.
            revision: where it is then.
        """
        self.unknown, self.after = landed is None, revision
