"""Does the live database hold what its revision should?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database.display import counted
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import SchemaDiffersError, UsageError
from neuraknot_db.schema import compare, equivalence, snapshots
from neuraknot_db.schema.catalog import Schema, read_schema
from neuraknot_db.schema.compare import Difference


@dataclass(frozen=True)
class Report:
    """The result of a comparison with the snapshot.

    Attributes:
        revision: the database's recorded revision; None for none.
        differences: from what it should hold there.
        notes: remarks that are not differences.
        missing_tables: the revision's tables that do not exist; the newest revision's if there is none.
    """

    revision: str | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    missing_tables: tuple[str, ...]

    @property
    def matches(self) -> bool:
        """Whether the schema is as it should be."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "revision": self.revision,
            "matches": self.matches,
            "missing_tables": list(self.missing_tables),
            "differences": [difference.to_json() for difference in self.differences],
            "notes": list(self.notes),
        }

    def demand(self, *, listed: bool = False) -> None:
        """Raise if the schema is not as it should be.

        Args:
            listed: whether the reader already has the differences, so that the error need not list them; otherwise a
                run has just ended, and the error says that it is committed.

        Raises:
            SchemaDiffersError: there are differences.
        """
        if self.matches:
            return
        count = len(self.differences)
        if self.revision:
            what = "schema" if listed else f"run is committed, at {self.revision}, but the schema"
            message = f"The {what} is not what revision {self.revision} should hold: {counted(count, 'difference')}."
            hint = (
                f"It was changed outside of the revisions, or revision {self.revision} was edited (neuraknot-db plan"
                " tells). Undo that, and check: neuraknot-db verify. Or keep it as a revision: neuraknot-db revision -m"
                " MESSAGE"
            )
        elif any(difference.aspect == "revision" for difference in self.differences):
            message = "The database holds our tables, but no record of a revision."
            hint = "Find out which revision they are at, and record it: neuraknot-db adopt"
        else:
            message, hint = "The database holds none of our tables.", "Create them: alembic upgrade head"
        details = () if listed else tuple(str(found) for found in self.differences)
        raise SchemaDiffersError(message, hint=hint, details=details)


def verify(connection: Connection, script: ScriptDirectory) -> Report:
    """Compare the live schema with the snapshot of the revision in `alembic_version`.

    Args:
        connection: its transaction may be read-only; none is begun or ended here, and nothing is changed.
        script: where the revisions and snapshots are.

    Raises:
        UsageError: the database is at several revisions at once.
        RefusedError: the revision has no snapshot.
    """
    versions = DatabaseState.of(connection).versions
    if len(versions) > 1:
        raise UsageError(
            f"The database is at {len(versions)} revisions at once: {', '.join(versions)}.",
            hint="Join them and upgrade: neuraknot-db merge heads -m MESSAGE && alembic upgrade head",
        )
    live = read_schema(connection)
    if not versions:
        return _unversioned(live, script)
    (revision,) = versions
    expected = snapshots.load(script, revision)
    settled = equivalence.settle(connection, live, [expected])
    return Report(
        revision,
        compare.compare(live, expected, settled),
        compare.notes(live, expected),
        compare.missing_tables(live, expected),
    )


def _unversioned(live: Schema, script: ScriptDirectory) -> Report:
    """Without a revision nothing can be compared, but report what is missing."""
    newest = ([Schema(), *snapshots.load_all(script).values()])[-1]
    missing = compare.missing_tables(live, newest)
    found = [name for name in newest.tables if name in live.tables]
    differences = [Difference(name, "table", None, "") for name in missing]
    if found:
        count = f"{len(found)} of {len(newest.tables)} tables are there"
        differences.insert(0, Difference("alembic_version", "revision", None, "", count))
    return Report(None, tuple(differences), compare.notes(live, newest), missing)
