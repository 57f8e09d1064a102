"""One revision on one server: its upgrade, its downgrade and what each does to schema and rows."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import interrupt, raw_sql, session, sql_text, sqlstate
from neuraknot_db.database.create import scratch_database
from neuraknot_db.database.display import counted
from neuraknot_db.dev.roundtrip import rows
from neuraknot_db.dev.samples import Samples, bare, first_line
from neuraknot_db.dev.scratch import Scratch, Way
from neuraknot_db.errors import NeuraknotError, UnreachableError
from neuraknot_db.revisions.containment import words
from neuraknot_db.revisions.options import is_transactional
from neuraknot_db.schema import compare, equivalence, snapshots
from neuraknot_db.schema.catalog import Schema, read_schema
from neuraknot_db.settings import Settings

_NOT_HERE = re.compile(
    r'role ".*" does not exist|extension ".*" is not available|could not (?:open|access) |NotImplementedError'
)
"""What a server of this machine's own lacks, or there is no way for; it says nothing of the revision."""


@dataclass
class Trial:
    """What was seen of a revision on one server.

    Attributes:
        told: what was tried, or why nothing was, as a clause.
        untried: whether nothing was, for a reason that says nothing of the revision.
        findings: what is wrong, by what it is about.
        notes: what is no fault.
        lost: how many rows of each table, at most.
    """

    told: str = ""
    untried: bool = False
    findings: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


class _State(NamedTuple):
    """What a database holds, and the columns whose sequence is behind them."""

    schema: Schema
    rows: Mapping[str, rows.Table]
    behind: set[str]


class _FailedError(Exception):
    """A revision failed, which ends its trial unless it is caught; the text says where and why.

    Attributes:
        what: what failed.
        lacks: whether it is only that this machine's server lacks something.
        state: the SQLSTATE.
    """

    def __init__(self, what: str, error: NeuraknotError) -> None:
        cause = error.__cause__
        if cause and not isinstance(cause, DBAPIError | NeuraknotError):
            why = words(cause).split("\n", 1)[0]
        else:
            why = first_line(cause or error)
        line = re.search(r" line \d+", error.details[0]) if error.details else None
        super().__init__(f"{what} fails{' in' + line[0] if line else ''}: {why}")
        self.what, self.lacks, self.state = what, bool(_NOT_HERE.match(why)), cause and sqlstate.of(cause)


class Course:
    """Tries revisions on a server, one behind the other where that is possible."""

    def __init__(self, config: Config, script: ScriptDirectory, server: Settings) -> None:
        """Take any database of the server; scratch databases are made beside it."""
        self._config, self._script, self._server = config, script, server
        self._first = [*script.walk_revisions()][-1].revision
        self._place = contextlib.ExitStack()
        self._database: Connection
        self._samples: Samples
        self._scratch: Scratch
        self._stands: tuple[str, ...] | None = None
        """Behind which revisions the database is, with rows; None if there is none."""

    def close(self) -> None:
        """Drop the scratch database."""
        self._stands = None
        self._place.close()

    def run(self, revision: Script) -> Trial:
        """Try a revision.

        Raises:
            UsageError: the sample rows can't be inserted.
        """
        if not hasattr(revision.module, "downgrade"):
            return Trial("not tried: there is no downgrade()", untried=True)
        trial = Trial()
        try:
            self._try(revision, trial)
        except _FailedError as failed:
            trial.untried = failed.lacks
            trial.told = f"not tried: {failed}" if failed.lacks else f"{failed.what} fails"
            trial.findings |= {} if failed.lacks else {failed.what: str(failed)}
            self.close()
        return trial

    def _try(self, revision: Script, trial: Trial) -> None:
        before = self._upgrade(revision, trial)
        above = self._look()
        back, _ = self._there_and_back(revision, trial, before, before, above)
        self._tell_upgrade(trial, before, above, back)
        self._fill(revision)
        self._samples.vary()
        filled = self._look()
        refused = self._samples.refused.items()
        trial.notes += (f"{name} stays empty: {why}" for each, why in refused if (name := bare(each)) in filled.rows)
        _, again = self._there_and_back(revision, trial, before, back, filled)
        many = [len(table.rows) for table in filled.rows.values() if table.rows]
        way = "back and up again" if again else "back"
        trial.told = f"{way} with {counted(sum(many), 'row')} in {counted(len(many), 'table')}"
        if again and revision.revision != self._first:
            self._samples.insert()
            self._stands = (revision.revision,)
        else:
            self.close()  # the sample rows went with the first revision's downgrade

    def _upgrade(self, revision: Script, trial: Trial) -> _State:
        """Apply a revision to generated rows, or if it fails to the sample rows; return what was there before."""
        for varied in (True, False):
            self._stand_before(revision, varied=varied)
            before = self._look()
            try:
                self._migrate(revision, "upgrade")
                break
            except _FailedError as failed:
                if not varied:
                    trial.notes.clear()
                    raise
                blamed = self._blamed(revision, "upgrade", failed)
                trial.notes.append(f"{failed}{blamed}; it was tried with the sample rows only")
                self.close()
        return before

    def _there_and_back(
        self, revision: Script, trial: Trial, before: _State, below: _State, top: _State
    ) -> tuple[_State, _State | None]:
        """Go back and up again, and compare with what was there `before` the first upgrade and `below` the last one.

        Return what was there in between, and what is there now: None if rows that are new since keep it from going up.
        """
        counts = self._counts(revision, trial)
        try:
            self._migrate(revision, "downgrade")
        except _FailedError as failed:
            failed.args = (f"{failed}{self._blamed(revision, 'downgrade', failed)}",)
            raise
        back, again = self._look(), None
        self._differ(trial, "after downgrade()", back, before)
        try:
            self._migrate(revision, "upgrade", "upgrade() after downgrade()")
        except _FailedError as failed:
            if below is before:
                raise
            trial.notes.append(f"{failed}, with rows that have come since the first one")
        else:
            again = self._look()
            if not trial.findings:  # else the same once more
                self._differ(trial, "after downgrade() and upgrade()", again, top)
        for name, table in top.rows.items():
            restored = again and again.rows.get(name)
            loss = rows.lost(table, back.rows.get(name), restored, below.rows.get(name))
            known = [count for query, count in counts.items() if sql_text.names_table(query, name)]
            if loss.total > max(sum(known), trial.lost[name]):
                trial.lost[name] = loss.total
                told = f"losses counts {sum(known)}" if known else "losses does not count them"
                trial.findings[f"rows of {name}"] = f"downgrade() {loss.told(name)}, and {told}"
        return back, again

    def _tell_upgrade(self, trial: Trial, before: _State, above: _State, back: _State) -> None:
        """Tell what an upgrade did to rows for good: a sample row that is gone is a finding, the rest is not."""
        for name, table in before.rows.items():
            loss = rows.lost(table, above.rows.get(name), back.rows.get(name)) if name in above.rows else rows.Loss()
            if samples := [key for key in loss.rows if (name, key) not in self._samples.varied]:
                told = rows.Loss(samples).told(name)
                trial.findings[f"upgrade of {name}"] = f"upgrade() {told}, and downgrade() does not bring them back"
            elif loss.total:
                trial.notes.append(f"upgrade() {loss.told(name)}, and downgrade() does not undo that")

    def _differ(self, trial: Trial, when: str, now: _State, then: _State) -> None:
        """Compare schemas, but for constraints that are NOT VALID now: to validate them takes a scan."""
        found, wanted = _validated(now.schema), _validated(then.schema)
        spelling = equivalence.settle(self._database, found, [wanted])
        self._database.rollback()
        differences = (*compare.compare(found, wanted, spelling), *compare.strangers(found, wanted, [found]))
        for line in (str(each).removesuffix(" (verify --json shows both)") for each in differences):
            trial.findings.setdefault(line, f"{when}, {line}")
        for column in sorted(now.behind - then.behind):
            trial.findings[f"sequence of {column}"] = f"{when}, the sequence of {column} would give a value once more"
        lax = (f"{when}, {each} is NOT VALID" for each in sorted(_not_valid(now.schema) - _not_valid(then.schema)))
        trial.notes += (note for note in lax if note not in trial.notes)

    def _counts(self, revision: Script, trial: Trial) -> dict[str, int]:
        """Return what the queries of `losses` count."""
        found = {}
        losses = getattr(revision.module, "losses", {})
        # What is no mapping, its downgrade refuses.
        for what, query in losses.items() if isinstance(losses, Mapping) else ():
            try:
                found[query] = int(raw_sql.execute(self._database, query).scalar_one())
            except (DBAPIError, TypeError, ValueError) as error:
                trial.findings[what] = f"losses can't count {what}: {first_line(error)}"
            self._database.rollback()
        return found

    def _blamed(self, revision: Script, way: Way, failed: _FailedError) -> str:
        """Return the generated row that alone makes a direction fail, in parentheses; empty if that is not known."""
        suspects = [*self._samples.varied] if is_transactional(revision.module) else []
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            suspects = half if self._fails(revision, way, failed, half) else suspects[len(half) :]
        if suspects and self._fails(revision, way, failed, suspects) and not self._fails(revision, way, failed, []):
            return f" (a row of {suspects[0][0]} with {self._samples.varied[suspects[0]]})"
        return ""

    def _fails(self, revision: Script, way: Way, failed: _FailedError, kept: list[tuple[str, rows.Key]]) -> bool:
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

    def _stand_before(self, revision: Script, *, varied: bool) -> None:
        """See to it that the database is right before a revision, with rows in every table."""
        before = revision._all_down_revisions
        if self._stands == before:
            return
        self.close()
        where = self._place.enter_context(scratch_database(self._server))
        self._database = self._place.enter_context(session.open_session(where))
        self._samples = Samples(self._database)
        self._scratch = Scratch(self._config, where, self._database)
        for each in [*self._script.iterate_revisions(before, "base")][::-1] if before else ():
            self._migrate(each, "upgrade", f"revision {each.revision}, before it,")
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

    def _migrate(self, revision: Script, way: Way, what: str = "") -> None:
        """Run one direction; call it `what` if it fails.

        Raises:
            _FailedError: it failed.
        """
        target = revision.revision if way == "upgrade" else (*revision._versioned_down_revisions, "base")[0]
        try:
            self._scratch.migrate(way, target)
        except UnreachableError:
            raise
        except NeuraknotError as error:
            interrupt.check()
            self._database.rollback()
            raise _FailedError(what or f"{way}()", error) from error


def _validated(schema: Schema) -> Schema:
    tables = {
        name: replace(each, constraints={at: replace(one, validated=True) for at, one in each.constraints.items()})
        for name, each in schema.tables.items()
    }
    return replace(schema, tables=tables)


def _not_valid(schema: Schema) -> set[str]:
    return {
        f"{name}.{at}"
        for name, each in schema.tables.items()
        for at, one in each.constraints.items()
        if not one.validated
    }
