"""Take over a database that was never versioned: recognise which revision's schema it holds, and stamp it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db import settings
from neuraknot_db.database import lock, raw_sql, session
from neuraknot_db.database.display import counted
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import RefusedError, SchemaDiffersError
from neuraknot_db.history.log import Entry
from neuraknot_db.migrate import preflight
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.migrate.schema_reading import reading_schema
from neuraknot_db.revisions import files
from neuraknot_db.schema import compare, equivalence, snapshots
from neuraknot_db.schema.catalog import read_schema, search_path_public
from neuraknot_db.schema.compare import Difference
from neuraknot_db.settings import Settings


@dataclass(frozen=True)
class Recognition:
    """The revision whose schema a database holds.

    Attributes:
        revision: the revision that matches, or else the nearest one.
        differences: from that revision's schema, except in the text of functions.
        functions: functions whose text differs from the revision's, as is expected in an old database.
        tables: how many of the revision's tables exist.
        notes: remarks that are not differences.
    """

    revision: str
    differences: tuple[Difference, ...]
    functions: tuple[Difference, ...]
    tables: int
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the database holds the revision's schema, except for the text of functions."""
        return not self.differences


@dataclass(frozen=True)
class Adoption:
    """What was done, or what a dry run would do.

    Attributes:
        revision: the revision that was stamped.
        replaced_functions: the functions that now have the revision's text.
        notes: remarks that are not differences.
        dry_run: whether nothing was done.
    """

    revision: str
    replaced_functions: tuple[str, ...]
    notes: tuple[str, ...]
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "revision": self.revision,
            "replaced_functions": list(self.replaced_functions),
            "notes": list(self.notes),
            "dry_run": self.dry_run,
        }


def recognise(connection: Connection, script: ScriptDirectory) -> Recognition:
    """Compare a database with every snapshot; return the one with the fewest differences.

    What another revision makes counts as a difference: an upgrade would meet it again.

    Args:
        connection: nothing is changed; its transaction may be read-only.
        script: where the revisions and snapshots are.

    Raises:
        RefusedError: the database holds none of our tables, or there are no snapshots.
    """
    live = read_schema(connection)
    known = snapshots.load_all(script)
    if not known:
        raise RefusedError("There are no snapshots to recognise a schema by.", hint="Write them: neuraknot-db snapshot")
    settled = equivalence.settle(connection, live, known.values())
    candidates = [
        _candidate(
            revision,
            compare.compare(live, expected, settled) + compare.strangers(live, expected, known.values()),
        )
        for revision, expected in known.items()
    ]
    # Of two equally near revisions, take the newer one.
    revision, differences, functions = min(reversed(candidates), key=lambda candidate: len(candidate[1]))
    expected = known[revision]
    tables = len(expected.tables) - len(compare.missing_tables(live, expected))
    if not tables:
        raise RefusedError(
            "The database holds none of our tables: there is nothing to adopt.",
            hint="Create them: alembic upgrade head",
        )
    return Recognition(revision, differences, functions, tables, compare.notes(live, expected))


def adopt(
    connection: Connection,
    script: ScriptDirectory,
    *,
    replace_functions: bool = False,
    dry_run: bool = False,
    record: Callable[[Adoption], None] = lambda _adoption: None,
) -> Adoption:
    """Recognise a database's schema and stamp its revision, all in one transaction.

    Args:
        connection: not in a transaction; the caller holds the migration lock.
        script: where the revisions and snapshots are.
        replace_functions: take the revision's functions where their text differs.
        dry_run: change nothing.
        record: called within the transaction, after the stamp.

    Raises:
        RefusedError: the database already has a revision, holds none of our tables, or has other functions and
            `replace_functions` is false.
        SchemaDiffersError: no revision matches.
    """
    with connection.begin():
        versions = DatabaseState.of(connection).versions
        if versions:
            raise RefusedError(
                f"The database is at revision {', '.join(versions)} already: there is nothing to adopt.",
                hint="Does it hold what it should there? neuraknot-db verify",
            )
        recognition = recognise(connection, script)
        _demand(recognition, replace_functions=replace_functions)
        replaced = tuple(function.object for function in recognition.functions)
        adoption = Adoption(recognition.revision, replaced, recognition.notes, dry_run)
        if not dry_run:
            for function in recognition.functions:
                assert function.expected is not None
                raw_sql.execute(connection, function.expected)
            _stamp(connection, script, recognition.revision)
            record(adoption)
    return adoption


def adopt_database(
    where: Settings, script: ScriptDirectory, outcome: Outcome, *, replace_functions: bool, dry_run: bool
) -> Adoption:
    """Run `adopt` on a database, with the migration lock, the guards, and its row in the log.

    Args:
        where: the database.
        script: where the revisions and snapshots are.
        outcome: filled in.
        replace_functions: as for `adopt`.
        dry_run: as for `adopt`.

    Raises:
        NeuraknotError: it was refused or interrupted, or no revision matches; nothing was changed then.
    """
    with session.open_session(where) as connection:
        if dry_run:
            found = preflight.look(connection, where)
            files.demand_known(script, found.state)
            connection.rollback()
        else:
            lock.acquire(connection, settings.limits().patience)
            found = preflight.check(connection, where, script, Command("adopt")).found
        outcome.before = outcome.after = found.state.revision
        history = found.history
        recorder = Recorder(where, connection)
        recorded: list[Adoption] = []

        def entry(adoption: Adoption) -> Entry:
            return Entry(adoption.revision, "adopt", after=adoption.revision)

        def record(adoption: Adoption) -> None:
            history.create()
            if history.environment is None:
                history.mark(found.environment)
            recorder.write(connection, entry(adoption))
            recorded.append(adoption)

        try:
            with reading_schema(connection, script):
                adoption = adopt(
                    connection, script, replace_functions=replace_functions, dry_run=dry_run, record=record
                )
        except Exception as error:
            if not recorded:
                raise
            (adoption,) = recorded
            explained = recorder.explain(connection, error, entry(adoption), outcome, doing="The adoption")
            if explained is not None:
                raise explained from error
    outcome.after = None if dry_run else adoption.revision
    return adoption


def _stamp(connection: Connection, script: ScriptDirectory, revision: str) -> None:
    """Record the revision in `alembic_version` as Alembic does, within the connection's transaction."""
    with search_path_public(connection):
        MigrationContext.configure(connection).stamp(script, revision)


def _candidate(
    revision: str, found: tuple[Difference, ...]
) -> tuple[str, tuple[Difference, ...], tuple[Difference, ...]]:
    functions = tuple(difference for difference in found if difference.is_function_text)
    return revision, tuple(difference for difference in found if not difference.is_function_text), functions


def _demand(recognition: Recognition, *, replace_functions: bool) -> None:
    count = len(recognition.differences)
    if not recognition.fits:
        raise SchemaDiffersError(
            f"The schema is that of no revision; the nearest is {recognition.revision},"
            f" with {counted(count, 'difference')}.",
            hint="Make it fit by hand, then: neuraknot-db adopt",
            details=tuple(str(difference) for difference in recognition.differences),
        )
    if recognition.functions and not replace_functions:
        raise RefusedError(
            f"The schema is that of revision {recognition.revision}, but for the text of"
            f" {', '.join(function.object for function in recognition.functions)}.",
            hint="Take the revision's functions instead: neuraknot-db adopt --replace-functions",
            details=tuple(line for function in recognition.functions for line in function.diff),
        )
