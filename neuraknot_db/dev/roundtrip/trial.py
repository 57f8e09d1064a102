"""One revision on one server: its upgrade, its downgrade and what each does to schema and rows."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import interrupt, raw_sql, session, sqlstate
from neuraknot_db.database.create import scratch_database
from neuraknot_db.database.display import counted
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.dev.roundtrip import rows
from neuraknot_db.dev.samples import Samples, Varied
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

_NOT_HERE = re.compile(r'role ".*" does not exist|extension ".*" is not available|could not (?:open|access) ')
"""What a server of this machine's own lacks, and says nothing of the revision."""


class Trial:
    """What was seen of a revision on one server.

    Attributes:
        told: what was tried, or why nothing was, as a clause.
        findings: what is wrong, by what it is about.
        notes: what is no fault.
    """

    def __init__(self) -> None:
        self.told = ""
        self.findings: dict[str, str] = {}
        self.notes: list[str] = []
        self._counts: dict[str, int] = {}

    def loses(self, table: str, count: int, finding: str) -> None:
        """Keep the finding of most rows of a table."""
        if count >= self._counts.get(table, 0):
            self._counts[table], self.findings[f"rows of {table}"] = count, finding


class _State(NamedTuple):
    """What a database holds, and the columns whose sequence is behind them."""

    schema: Schema
    rows: Mapping[str, rows.Table]
    behind: set[str]


class _FailedError(Exception):
    """A revision failed, and nothing of it is left."""

    def __init__(self, error: NeuraknotError) -> None:
        cause = error.__cause__
        told = str(cause.orig) if isinstance(cause, DBAPIError) else words(cause) if cause else error.message
        super().__init__(told.strip().split("\n", 1)[0])
        self.kind = (cause and sqlstate.of(cause)) or str(self)
        line = re.search(r", line (\d+)", error.details[0]) if error.details else None
        self.told = f"fails{f' in line {line[1]}' if line else ''}: {self}"


class _EndedError(Exception):
    """The trial can't go on, and the database is not what the next one needs."""


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
        try:
            self._try(revision, trial)
        except _EndedError as ended:
            trial.told = str(ended)
            self.close()
        return trial

    def _try(self, revision: Script, trial: Trial) -> None:
        if not hasattr(revision.module, "downgrade"):
            raise _EndedError("not tried: there is no downgrade()")
        self._stand_before(revision)
        before = self._look()
        try:
            self._migrate(revision, "upgrade")
        except _FailedError as failed:
            blamed = self._blamed(revision, "upgrade", failed)
            self.close()
            self._stand_before(revision, varied=False)
            before = self._look()
            try:
                self._migrate(revision, "upgrade")
            except _FailedError as again:
                if _NOT_HERE.match(str(again)):
                    raise _EndedError(f"not tried: upgrade() {again.told}") from again
                trial.findings["upgrade"] = f"upgrade() {again.told}"
                raise _EndedError("its upgrade fails") from again
            trial.notes.append(f"upgrade() {failed.told}{blamed}; it was tried with the sample rows only")
        above = self._look()
        changed = self._tell_upgrade(trial, before, above)
        self._there_and_back(revision, trial, before, above, changed)
        self._fill(revision)
        self._samples.vary()
        filled = self._look()
        trial.notes += (f"{rows.bare(name)} stays empty: {words}" for name, words in self._samples.refused.items())
        many = [len(table.rows) for table in filled.rows.values() if table.rows]
        self._there_and_back(revision, trial, before, filled)
        trial.told = f"back and up again with {counted(sum(many), 'row')} in {counted(len(many), 'table')}"
        if revision.revision == self._first:
            self.close()  # the sample rows went with its downgrade
        else:
            self._samples.insert()

    def _there_and_back(
        self,
        revision: Script,
        trial: Trial,
        below: _State,
        top: _State,
        changed: Mapping[str, set[str]] | None = None,
    ) -> None:
        """Go back and up again; compare with what was there before each, and with what the upgrade has `changed`.

        Without the latter, rows have come since that no upgrade has seen.
        """
        counts = self._counts(revision, trial)
        try:
            self._migrate(revision, "downgrade")
        except _FailedError as failed:
            if "NotImplementedError" in str(failed):
                raise _EndedError(f"not tried: downgrade() raises {failed}") from failed
            trial.findings["downgrade"] = f"downgrade() {failed.told}{self._blamed(revision, 'downgrade', failed)}"
            raise _EndedError("its downgrade fails") from failed
        back = self._look()
        self._differ(trial, "after downgrade()", back, below)
        again: _State | None = None
        try:
            self._migrate(revision, "upgrade")
        except _FailedError as failed:
            told = f"upgrade() after downgrade() {failed.told}{self._blamed(revision, 'upgrade', failed)}"
            # Rows of the new schema may be such as no upgrade can take, whatever the way back does.
            if changed is None and is_transactional(revision.module) and not self._fails(revision, "upgrade", failed):
                trial.notes.append(told)
            else:
                trial.findings["again"] = told
        else:
            again = self._look()
            self._differ(trial, "after downgrade() and upgrade()", again, top)
        for name, table in top.rows.items():
            restored = again and again.rows.get(name)
            loss = rows.lost(table, back.rows.get(name), restored)
            known = [count for query, count in counts.items() if rows.names(query, name)]
            if loss.total > sum(known):
                told = f"losses counts {sum(known)}" if known else "losses does not count them"
                trial.loses(name, loss.total, f"downgrade() {loss.told(name)}, and {told}")
            twice = {*rows.lost(table, None, restored).columns} & (changed or {}).get(name, set()) - {*table.times}
            if twice and not loss.total:
                told = f"{', '.join(sorted(twice))} of {name}"
                trial.findings[told] = f"downgrade() leaves {told} changed, and the next upgrade() changes it once more"
        if again is None:
            raise _EndedError("its second upgrade fails")

    def _tell_upgrade(self, trial: Trial, before: _State, after: _State) -> dict[str, set[str]]:
        """Tell what an upgrade did to rows that were there: a sample row that is gone is a finding, the rest is not.

        Returns:
            The columns whose values it changed, by table.
        """
        made = {(rows.bare(each.table), each.key) for each in self._samples.varied}
        changed = {}
        for name, table in before.rows.items():
            loss = rows.lost(table, after.rows[name], None) if name in after.rows else rows.Loss()
            changed[name] = {*loss.columns}
            if samples := [key for key in loss.rows if (name, key) not in made]:
                trial.findings[f"upgrade of {name}"] = f"upgrade() {rows.Loss(samples).told(name)}"
            elif loss.total:
                trial.notes.append(f"upgrade() {loss.told(name)}")
        return changed

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
                words = str(getattr(error, "orig", error)).strip().split("\n", 1)[0]
                trial.findings[what] = f"losses can't count {what}: {words}"
            self._database.rollback()
        return found

    def _blamed(self, revision: Script, way: _Way, failed: _FailedError) -> str:
        """Return the generated row that alone makes a direction fail, in parentheses; empty if that is not known."""
        suspects = self._samples.varied
        if not (suspects and is_transactional(revision.module)) or self._fails(revision, way, failed):
            return ""
        while len(suspects) > 1:
            half = len(suspects) // 2
            parts = (suspects[:half], suspects[half:])
            suspects = next((part for part in parts if self._fails(revision, way, failed, part)), [])
        return f" (a row of {rows.bare(suspects[0].table)} with {suspects[0].what})" if suspects else ""

    def _fails(self, revision: Script, way: _Way, failed: _FailedError, kept: Sequence[Varied] = ()) -> bool:
        """Whether a direction fails in the same way with only these of the generated rows; nothing of it stays."""
        with self._database.begin() as transaction:
            try:
                self._samples.delete([each for each in self._samples.varied if each not in kept])
                self._migrate(revision, way)
            except _FailedError as again:
                return again.kind == failed.kind
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
        if self._connection is not None:
            at = DatabaseState.of(self._connection).versions
            self._connection.rollback()
            if {*at} == {*before}:
                self._samples.vary(copies=False)
                return
        self.close()
        where = self._place.enter_context(scratch_database(self._server))
        self._connection = self._place.enter_context(session.open_session(where))
        self._samples = Samples(self._connection)
        held = run.HeldSession(where, self._connection, Recorder(where, self._connection))
        self._config.attributes |= {run.HELD: held, OUTCOME: Outcome("test")}
        for each in [*self._script.iterate_revisions(before, "base")][::-1] if before else ():
            try:
                self._migrate(each, "upgrade")
            except _FailedError as failed:
                raise _EndedError(f"not tried: revision {each.revision}, before it, {failed.told}") from failed
            self._fill(each)
        if varied:
            self._samples.vary()

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
