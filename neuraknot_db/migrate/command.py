"""The command that was given, Alembic's or one of this project's own, as a value."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, NamedTuple

from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from neuraknot_db.database import diagnosis
from neuraknot_db.errors import MigrationFailedError, NeuraknotError, UsageError
from neuraknot_db.revisions import targets
from neuraknot_db.revisions.options import Step

Kind = Literal["upgrade", "downgrade", "stamp", "ensure_version", "look", "reset", "adopt", "mark"]

Steps = Callable[[Any, Any], Iterable[Step]]
"""How an Alembic command gives its work: from the present heads to the steps ahead."""

_KINDS: dict[str, Kind] = {
    "upgrade": "upgrade",
    "downgrade": "downgrade",
    "do_stamp": "stamp",
    "do_ensure_version": "ensure_version",
}
"""By the names of the functions that Alembic's commands pass; any other only reads."""

_RELATIVE = re.compile(r"[+-]\d+")


class Command(NamedTuple):
    """A command.

    Attributes:
        kind: which command.
        target: the revisions as they were typed.
        purge: whether `alembic_version` is emptied first, whatever it holds.
        steps: returns the steps from where a database is; None for a command without steps.
    """

    kind: Kind
    target: tuple[str, ...] = ()
    purge: bool = False
    steps: Steps | None = None

    @classmethod
    def of(cls, environment: EnvironmentContext) -> Command:
        """Return the Alembic command that loaded `env.py`.

        Raises:
            UsageError: a script would begin at no revision, or what is to be stamped does not exist.
        """
        options = environment.context_opts
        kind = _KINDS.get(options["fn"].__name__, "look")
        if "destination_rev" not in options:
            return cls(kind)
        target = options["destination_rev"]
        target = (target,) if isinstance(target, str) else tuple(target)
        start = options.get("starting_rev")
        if start is not None:
            for each in target:
                targets.demand_range(f"{start}:{each}", kind)
        for each in (*target * (kind == "stamp"), *[start] * (start is not None)):
            targets.demand_found(environment.script, each)
        return cls(kind, target, bool(options.get("purge")), options["fn"])

    @classmethod
    def upgrade(cls, script: ScriptDirectory, target: str) -> Command:
        """`alembic upgrade TARGET`."""
        return cls("upgrade", (target,), steps=lambda heads, _: script._upgrade_revs(target, heads))

    @classmethod
    def downgrade(cls, script: ScriptDirectory, target: str) -> Command:
        """`alembic downgrade TARGET`."""
        return cls("downgrade", (target,), steps=lambda heads, _: script._downgrade_revs(target, heads))

    @property
    def changes(self) -> bool:
        """Whether it changes a database."""
        return self.kind != "look"

    @property
    def may_go_back(self) -> bool:
        """Whether it may move a database back, or lose its recorded revision."""
        return self.kind in ("downgrade", "stamp")

    @property
    def is_relative(self) -> bool:
        """Whether its target depends on where the database is."""
        return len(self.target) == 1 and _RELATIVE.fullmatch(self.target[0]) is not None

    @property
    def words(self) -> str:
        """The command as a person would type it."""
        return shlex.join([self.kind, *["--purge"] * self.purge, *self.target])

    def resolve(self, heads: Collection[str]) -> list[Step]:
        """Return the steps from where a database is, in order.

        Raises:
            UsageError: the target does not exist, or can't be reached from there.
        """
        if self.steps is None:
            return []
        for each in self.target:
            targets.demand_target(each)
        try:
            return list(self.steps(() if self.purge else tuple(heads), None))
        except AssertionError as error:  # Alembic walked past the end of the line
            raise diagnosis.no_revision(" ".join(self.target)) from error
        except AttributeError as error:  # Alembic takes a revision's functions without looking
            raise MigrationFailedError(
                f"A revision can't be run: {error}.", hint=f"Write it as `def {error.name}() -> None:` in its file."
            ) from error
        except CommandError as error:
            raise self._explained(error, heads) from error

    def _explained(self, error: CommandError, heads: Collection[str]) -> NeuraknotError:
        words, at = str(error), ", ".join(sorted(heads)) or "no revision"
        if words.startswith("Walked too far"):
            return diagnosis.no_revision(" ".join(self.target))
        if words.startswith("Relative revision"):
            return UsageError(f"There is no way to {' '.join(self.target)} from {at}.", hint=diagnosis.REVISIONS)
        if "is not a valid downgrade target" in words:
            target = " ".join(self.target)
            return UsageError(
                f"{target} is not below {at}, where the database is: there is no way back to it.",
                hint=f"Forward it is: alembic upgrade {shlex.quote(target)}",
            )
        return diagnosis.command_error(error)


def to_target(script: ScriptDirectory, heads: Collection[str], target: str) -> tuple[Command, list[Step]]:
    """Return the upgrade or downgrade to a target, and its steps; an upgrade if there is nothing to do.

    Raises:
        UsageError: the target does not exist, or can't be reached from there.
    """
    up, down = Command.upgrade(script, target), Command.downgrade(script, target)
    if target.startswith("-") or target == "base":
        if not heads:
            raise UsageError("The database is at no revision: there is no way back.", hint=diagnosis.REVISIONS)
        return down, down.resolve(heads)
    steps = up.resolve(heads)
    if steps or target.startswith("+") or not heads:
        return up, steps
    back = down.resolve(heads)
    return (down, back) if back else (up, [])
