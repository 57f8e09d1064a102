"""One revision on one server: its upgrade, its downgrade and what each does to schema and rows."""

from __future__ import annotations

import contextlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import interrupt, raw_sql, session, sql_text, sqlstate
from neuraknot_db.database.create import scratch_database
from neuraknot_db.database.display import counted
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.dev.roundtrip import rows
from neuraknot_db.dev.samples import Samples, bare
from neuraknot_db.errors import NeuraknotError, UnreachableError
from neuraknot_db.migrate import run
from neuraknot_db.migrate.outcome import OUTCOME, Outcome
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.revisions.containment import words
from neuraknot_db.revisions.options import is_transactional
from neuraknot_db.schema import compare, equivalence, snapshots
from neuraknot_db.schema.catalog import Schema, read_schema
from neuraknot_db.settings import Settings

_Way = Literal["upgrade", "downgrade"]

_NOT_HERE = re.compile(
    r'role ".*" does not exist|extension ".*" is not available|could not (?:open|access) |NotImplementedError'
)
"""What a server of this machine's own lacks, or there is no way for; it says nothing of the revision."""


@dataclass
class Trial:
    """What was seen of a revision on one server.

    Attributes:
        told: what was tried, or why nothing was, as a clause.
        findings: what is wrong, by what it is about.
        notes: what is no fault.
        lost: how many rows of each table, at most.
    """

    told: str = ""
    findings: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


class _State(NamedTuple):
    """What a database holds, and the columns whose sequence is behind them."""

    schema: Schema
    rows: Mapping[str, rows.Table]
    behind: set[str]


class _FailedError(Exception):
    """A revision failed: where and why, as the end of a clause."""

    def __init__(self, error: NeuraknotError) -> None:
        cause = error.__cause__
        why = str(cause.orig) if isinstance(cause, DBAPIError) else words(cause) if cause else error.message
        line = re.search(r", line \d+", error.details[0]) if error.details else None
        super().__init__(f"fails{line[0].replace(',', ' in') if line else ''}: {_first_line(why)}")
        self.lacks = bool(_NOT_HERE.match(why))
        self.state = cause and sqlstate.of(cause)


class _EndedError(Exception):
    """The trial can't go on, and the database is not what the next one needs.

    Attributes:
        finding: what is wrong; None if the revision could not be tried.
    """

    def __init__(self, what: str, failed: _FailedError, blamed: str = "") -> None:
        super().__init__(f"not tried: {what} {failed}" if failed.lacks else f"{what} fails")
        self.finding = None if failed.lacks else f"{what} {failed}{blamed}"


class Course:
    """Tries revisions on a server, one behind the other where that is possible."""

    def __init__(self, config: Config, script: ScriptDirectory, server: Settings) -> None:
        """Take any database of the server; scratch databases are made beside it."""
        self._config, self._script, self._server = config, script, server
        self._first = [*script.walk_revisions()][-1].revision
        self._place = contextlib.ExitStack()
        self._connection: Connection | None = None
        self._samples: Samples

    def close(self) -> None:
        """Drop the scratch database."""
        self._connection = None
        self._place.close()

    def run(self, revision: Script) -> Trial:
        """Try a revision.

        Raises:
            UsageError: the sample rows can't be inserted.
        """
        trial = Trial()
        if not hasattr(revision.module, "downgrade"):
            trial.told = "not tried: there is no downgrade()"
            return trial
        try:
            self._try(revision, trial)
        except _EndedError as ended:
            trial.told = str(ended)
            if ended.finding:
                trial.findings["failure"] = ended.finding
            self.close()
        return trial

    def _try(self, revision: Script, trial: Trial) -> None:
        before = self._upgrade(revision, trial)
        above = self._look()
        back, again = self._there_and_back(revision, trial, before, before, above)
        self._tell_upgrade(trial, before, above, back)
        if again is None:
            return
        self._fill(revision)
        self._samples.vary()
        filled = self._look()
        refused = self._samples.refused.items()
        trial.notes += (f"{name} stays empty: {why}" for each, why in refused if (name := bare(each)) in filled.rows)
        many = [len(table.rows) for table in filled.rows.values() if table.rows]
        _, again = self._there_and_back(revision, trial, before, back, filled)
        trial.told = f"back and up again with {counted(sum(many), 'row')} in {counted(len(many), 'table')}"
        if again is None or revision.revision == self._first:
            self.close()  # the sample rows went with the first revision's downgrade
        else:
            self._samples.insert()

    def _upgrade(self, revision: Script, trial: Trial) -> _State:
        """Apply a revision to the rows there are, or to the sample rows if it fails; return what was there before."""
        self._stand_before(revision)
        before = self._look()
        try:
            self._migrate(revision, "upgrade")
        except _FailedError as failed:
            note = (
                f"upgrade() {failed}{self._blamed(revision, 'upgrade', failed)}; it was tried with the sample rows only"
            )
        else:
            return before
        self.close()
        self._stand_before(revision, varied=False)
        before = self._look()
        try:
            self._migrate(revision, "upgrade")
        except _FailedError as failed:
            raise _EndedError("upgrade()", failed) from failed
        trial.notes.append(note)
        return before

    def _there_and_back(
        self, revision: Script, trial: Trial, before: _State, below: _State, top: _State
    ) -> tuple[_State, _State | None]:
        """Go back and up again; compare with what was there.

        Args:
            revision: which.
            trial: what is wrong goes there.
            before: what was there before the revision's first upgrade.
            below: what was there before its last one.
            top: what is there.

        Returns:
            What was there in between, and what is there now; None if the upgrade fails on rows of the new schema.
        """
        counts = self._counts(revision, trial)
        try:
            self._migrate(revision, "downgrade")
        except _FailedError as failed:
            raise _EndedError("downgrade()", failed, self._blamed(revision, "downgrade", failed)) from failed
        back, again = self._look(), None
        self._differ(trial, "after downgrade()", back, before)
        try:
            self._migrate(revision, "upgrade")
        except _FailedError as failed:
            if before is below:
                raise _EndedError("upgrade() after downgrade()", failed) from failed
            trial.notes.append(f"upgrade() after downgrade() {failed}, on rows that only the new schema allows")
        else:
            again = self._look()
            if not trial.findings:  # else the same once more
                self._differ(trial, "after downgrade() and upgrade()", again, top)
        for name, table in top.rows.items():
            restored = again and again.rows.get(name)
            loss = rows.lost(table, back.rows.get(name), restored, below.rows.get(name))
            known = [count for query, count in counts.items() if _names(query, name)]
            if loss.total > max(sum(known), trial.lost[name]):
                trial.lost[name] = loss.total
                told = f"losses counts {sum(known)}" if known else "losses does not count them"
                trial.findings[f"rows of {name}"] = f"downgrade() {loss.told(name)}, and {told}"
            elif (
                before is below
                and not loss.total
                and (twice := {*rows.lost(table, None, restored).columns} - {*table.times})
            ):
                told = f"{', '.join(sorted(twice))} of {name}"
                trial.findings[told] = f"downgrade() leaves {told} changed, and the next upgrade() changes it once more"
        return back, again

    def _tell_upgrade(self, trial: Trial, before: _State, above: _State, back: _State) -> None:
        """Tell what an upgrade did to rows for good: a sample row that is gone is a finding, the rest is not."""
        for name, table in before.rows.items():
            loss = rows.lost(table, above.rows.get(name), back.rows.get(name)) if name in above.rows else rows.Loss()
            if samples := [key for key in loss.rows if (name, key) not in self._samples.varied]:
                trial.findings[f"upgrade of {name}"] = f"upgrade() {rows.Loss(samples).told(name)}"
            elif loss.total:
                trial.notes.append(f"upgrade() {loss.told(name)}")

    def _differ(self, trial: Trial, when: str, now: _State, then: _State) -> None:
        wanted, lax = _as_lax(then.schema, now.schema)
        trial.notes += (note for each in lax if (note := f"{when}, {each} is NOT VALID") not in trial.notes)
        spelling = equivalence.settle(self._database, now.schema, [wanted])
        self._database.rollback()
        differences = (
            *compare.compare(now.schema, wanted, spelling),
            *compare.strangers(now.schema, wanted, [now.schema]),
        )
        for line in (str(each).removesuffix(" (verify --json shows both)") for each in differences):
            trial.findings.setdefault(line, f"{when}, {line}")
        for column in sorted(now.behind - then.behind):
            trial.findings[f"sequence of {column}"] = f"{when}, the sequence of {column} would give a value once more"

    def _counts(self, revision: Script, trial: Trial) -> dict[str, int]:
        """Return what the queries of `losses` count."""
        found = {}
        losses = getattr(revision.module, "losses", {})
        # What is no mapping, its downgrade refuses.
        for what, query in losses.items() if isinstance(losses, Mapping) else ():
            try:
                found[query] = int(raw_sql.execute(self._database, query).scalar_one())
            except (DBAPIError, TypeError, ValueError) as error:
                trial.findings[what] = f"losses can't count {what}: {_first_line(str(getattr(error, 'orig', error)))}"
            self._database.rollback()
        return found

    def _blamed(self, revision: Script, way: _Way, failed: _FailedError) -> str:
        """Return the generated row that alone makes a direction fail, in parentheses; empty if that is not known."""
        suspects = [*self._samples.varied] if is_transactional(revision.module) else []
        if not suspects or self._fails(revision, way, failed, []):
            return ""
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            suspects = half if self._fails(revision, way, failed, half) else suspects[len(half) :]
        if not self._fails(revision, way, failed, suspects):
            return ""
        return f" (a row of {suspects[0][0]} with {self._samples.varied[suspects[0]]})"

    def _fails(self, revision: Script, way: _Way, failed: _FailedError, kept: list[tuple[str, rows.Key]]) -> bool:
        """Whether a direction fails in the same way with only these of the generated rows; nothing of it stays."""
        with self._database.begin() as transaction:
            try:
                self._samples.delete({*self._samples.varied} - {*kept})
                self._migrate(revision, way)
            except _FailedError as again:
                return again.state == failed.state
            finally:
                if transaction.is_active:
                    transaction.rollback()
        return False

    # The database ------------------------------------------------------------------------------------------------

    @property
    def _database(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def _stand_before(self, revision: Script, *, varied: bool = True) -> None:
        """See to it that the database is right before a revision, with rows in every table."""
        before = revision._all_down_revisions
        at = None
        if self._connection is not None:
            at = {*DatabaseState.of(self._connection).versions}
            self._connection.rollback()
        if at != {*before}:
            self.close()
            self._make()
            for each in [*self._script.iterate_revisions(before, "base")][::-1] if before else ():
                try:
                    self._migrate(each, "upgrade")
                except _FailedError as failed:
                    raise _EndedError(f"revision {each.revision}, before it,", failed) from failed
                self._fill(each)
        if varied:
            self._samples.vary()

    def _make(self) -> None:
        where = self._place.enter_context(scratch_database(self._server))
        self._connection = self._place.enter_context(session.open_session(where))
        self._samples = Samples(self._connection)
        held = run.HeldSession(where, self._connection, Recorder(where, self._connection))
        self._config.attributes |= {run.HELD: held, OUTCOME: Outcome("test")}

    def _fill(self, revision: Script) -> None:
        """Insert what each table still lacks right after a revision."""
        if revision.revision == self._first:
            self._samples.insert_given(snapshots.folder(self._script) / "rows.sql")
        self._samples.insert()

    def _look(self) -> _State:
        found = _State(read_schema(self._database), rows.read(self._database), rows.behind(self._database))
        self._database.rollback()
        return found

    def _migrate(self, revision: Script, way: _Way) -> None:
        """Run one direction as Alembic's command does.

        Raises:
            _FailedError: it failed.
        """
        target = revision.revision if way == "upgrade" else (*revision._versioned_down_revisions, "base")[0]
        try:
            with _unheard():
                getattr(command, way)(self._config, target)
        except UnreachableError:
            raise
        except NeuraknotError as error:
            interrupt.check()
            self._database.rollback()
            raise _FailedError(error) from error


def _names(query: str, table: str) -> bool:
    return sql_text.names(table)[-1] in sql_text.names(query)


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0]


def _as_lax(schema: Schema, now: Schema) -> tuple[Schema, list[str]]:
    """Return a schema with those constraints NOT VALID that are so now, and these: to validate them takes a scan."""
    tables, lax = {}, []
    for name, table in schema.tables.items():
        found = now.tables[name].constraints if name in now.tables else {}
        loose = [each for each in table.constraints if each in found and not found[each].validated]
        lax += [f"{name}.{each}" for each in loose if table.constraints[each].validated]
        constraints = {each: replace(table.constraints[each], validated=False) for each in loose}
        tables[name] = replace(table, constraints={**table.constraints, **constraints})
    return replace(schema, tables=tables), lax


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Leave out what the run itself tells."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
