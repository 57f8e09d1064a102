"""Run the steps of a run: one transaction each, timed, logged, recorded, with failures explained."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep
from psycopg2.extensions import STATUS_BEGIN, TRANSACTION_STATUS_IDLE
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import diagnosis, display, interrupt, lock, raw_sql, session
from neuraknot_db.database.driver import Exchange
from neuraknot_db.database.state import joined
from neuraknot_db.errors import InterruptedRunError, MigrationFailedError, NeuraknotError, RefusedError, UsageError
from neuraknot_db.history.log import Entry
from neuraknot_db.migrate import failures, record
from neuraknot_db.migrate.heads import heads_after
from neuraknot_db.migrate.lock_budget import LockBudget
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.record import Attempts, Recorder, Standing
from neuraknot_db.migrate.retry import Failure
from neuraknot_db.revisions import checksum
from neuraknot_db.revisions.backfill import Backfill, line_of
from neuraknot_db.revisions.containment import Conduct, demand_run, supervised, words
from neuraknot_db.revisions.options import (
    RevisionOptions,
    Step,
    closing_error,
    late_block_error,
    objection_to,
    read_options,
    revision_of,
)
from neuraknot_db.settings import Limits

if TYPE_CHECKING:
    from neuraknot_db.database.sql_text import Statement
    from neuraknot_db.migrate.backfill import Batches
    from neuraknot_db.migrate.conditions import Condition

log = logging.getLogger(__name__)


@dataclass
class StepRun:
    """One step of a run and its state.

    Attributes:
        step: Alembic's step.
        options: the options of its revision.
        attempts: its attempts.
    """

    step: Step
    options: RevisionOptions
    attempts: Attempts

    @classmethod
    def of(cls, step: Step, options: RevisionOptions) -> StepRun:
        """Create a step that has not begun."""
        return cls(step, options, Attempts(entry_of(step, options)))

    @property
    def revision(self) -> str:
        """The revision that it applies, rolls back or stamps."""
        return revision_of(self.step)

    @property
    def doing(self) -> str:
        """What is being done, as the subject of a sentence."""
        return f"Revision {self.revision}" if self.step.is_upgrade else f"Going back from revision {self.revision}"

    def limits(self, otherwise: Limits) -> Limits:
        """Return its own limits, or the given ones."""
        return self.options.limits(otherwise)


class Walk:
    """The steps of one run. Alembic iterates over it, and asks for the next step after a commit.

    It can be iterated over again: it resumes at the first step that is not committed.

    Attributes:
        steps: all of them, in order.
        done: how many are committed.
        heads: what `alembic_version` should hold now.
    """

    def __init__(
        self,
        steps: Iterable[StepRun],
        heads: Iterable[str],
        outcome: Outcome,
        recorder: Recorder,
        limits: Limits,
    ) -> None:
        """Prepare the steps.

        Args:
            steps: the steps in order.
            heads: what `alembic_version` holds.
            outcome: updated as the steps run.
            recorder: records each step.
            limits: for statements whose revision sets none.
        """
        self.steps = list(steps)
        self.done = 0
        self.heads = frozenset(heads)
        self._outcome = outcome
        self._recorder = recorder
        self._limits = limits
        self._budget = LockBudget(limits)
        self._driver: Any = None
        self._statement_began = 0.0
        self._began = time.monotonic()
        self._next_heads, self._recorded = self.heads, False
        self._landed: bool | None = False
        self._begun = self._within_another = False
        self._conduct = Conduct()
        self._alone: Statement | None = None
        self._alone_line: int | None = None
        self._asking: Condition | None = None
        self._batches: Batches | None = None
        self._failed_exchange: Exchange | None = None
        self._cause: str | None = None

    def __call__(self, heads: Any, migration: MigrationContext) -> Iterator[Step]:
        """Yield the steps that are not committed yet."""
        if frozenset(heads) != self.heads:
            raise failures.moved(f"to {joined(heads) or 'no revision'}")
        connection = migration.connection
        assert connection is not None
        self._driver = session.driver(connection)
        # `raw_sql` makes Alembic use our implementation, which has these attributes.
        self._within_another = migration._in_external_transaction
        impl: Any = migration.impl
        impl.around_statement = lambda: self._statement(connection)
        impl.move = lambda update: self._record(connection, update)
        for index in range(self.done, len(self.steps)):
            interrupt.check()
            self._begun = True
            run = self.steps[index]
            run.attempts.began, self._recorded = time.monotonic(), False
            self._next_heads = heads_after([run.step], self.heads)
            # On the migration's connection, so in the step's own transaction.
            _tell_losses(connection, run)
            self._budget.begin(connection, run.limits(self._limits))
            self._conduct, self._alone, self._alone_line, self._asking = Conduct(), None, None, None
            if isinstance(run.step, RevisionStep):
                run.step.migration_fn = self._applying(run.step, run.options, migration)
            yield run.step
            self._committed(run)

    def applied(
        self, ctx: MigrationContext, step: MigrationInfo, heads: Collection[str], run_args: Mapping[str, Any]
    ) -> None:
        """Alembic's `on_version_apply`: record the step in its own transaction."""
        del step, heads, run_args
        assert ctx.connection is not None
        if not self._recorded:
            self._record(ctx.connection)

    def retry(self, failure: Failure, connection: Connection) -> None:
        """Record an attempt that ended in a lock timeout; the next one runs the same step."""
        interrupt.check()
        point = self._failure_point
        explained = diagnosis.database_error(failure.error, doing=point.doing, undone=point.undone)
        # The last statement only waited.
        waiting = self._waiting()
        entry = self._row("failed", explained.message)
        # Before the row is written: whoever sees it may end the run at that moment.
        self.steps[self.done].attempts.again(failure, waiting)
        self._recorder.write_failure(connection, entry)

    def fail(self, error: Exception, connection: Connection) -> Exception | None:
        """Record and return the error that ended the run; return None if everything is committed anyway.

        Args:
            error: the original error.
            connection: the run's session.
        """
        if self.current is None:
            return self.explain(error) or error
        self._note_exchange()
        committed = self.doing

        def failed(standing: Standing) -> Entry | None:
            self._found(standing)
            explained = self.explain(error)
            outcome = "interrupted" if isinstance(explained, InterruptedRunError) else "failed"
            return self._row(outcome, explained.message if explained else words(error)) if self._begun else None

        standing = self._recorder.settle(connection, error, self._row("succeeded"), failed)
        if standing.landed:
            self._committed(self.steps[self.done])
        self._found(standing)
        if diagnosis.is_error(error):
            from neuraknot_db.migrate import causes  # few runs fail

            self._cause = causes.hint(connection, error)
        if not (standing.landed and diagnosis.is_lost(error)) or interrupt.interruption(error):
            return self.explain(error) or error
        if self.current is not None:
            return failures.unanswered(error, self._failure_point, committed)
        log.warning(record.UNANSWERED)
        return None

    def _found(self, standing: Standing) -> None:
        self._landed = standing.landed
        self._outcome.found(standing.landed, standing.revision)

    def _note_exchange(self) -> None:
        """Keep what failed: later statements may fail as well."""
        if self._failed_exchange is None and self._driver is not None:
            self._failed_exchange = self._driver.failed

    def explain(self, error: Exception) -> NeuraknotError | None:
        """Return the error that names the failed revision, its statement, and where the database is now."""
        self._note_exchange()
        found = failures.explained(error, self._failure_point)
        # A refusal would claim that nothing was changed; and a query that fails is a defect, not what the data says.
        ran = self._outcome.ran or (self._batches and self._batches.committed)
        undeserved = (ran and not self._within_another) or (self._asking and diagnosis.is_error(error))
        if isinstance(found, RefusedError | UsageError) and undeserved:
            at, hint = self._failure_point.at, found.hint or ""
            hint = hint if hint.startswith(at) else f"{at} {hint}".rstrip()
            return MigrationFailedError(found.message, hint=hint, details=found.details, rows=found.rows)
        return found

    def conclude(self) -> None:
        """Log where the database is now."""
        where = f"at {self._outcome.after}" if self._outcome.after else "at no revision"
        if not self.steps:
            log.info("%s: nothing to do", where)
            return
        count, took = (
            display.counted(len(self.steps), "revision"),
            display.duration(1000 * (time.monotonic() - self._began)),
        )
        log.info("%s: %s in %s", where, count, took)

    @property
    def current(self) -> StepRun | None:
        """The step that is not committed yet."""
        return self.steps[self.done] if self.done < len(self.steps) else None

    @property
    def lock_timeout(self) -> float | None:
        """The current revision's lock timeout in milliseconds; None if there is none."""
        return self.current.limits(self._limits).lock_timeout if self.current else None

    @property
    def may_retry(self) -> bool:
        """Whether nothing of the current revision has stayed: what it sends outside of a transaction does."""
        return not (self._conduct.left or (self._alone and self._asking))

    @property
    def doing(self) -> str:
        """What is being done, as the subject of a sentence."""
        return self.current.doing if self.current else "The run"

    @property
    def progress(self) -> str:
        """What is being done and how far it has come: with each, tries are counted anew."""
        rows = self._batches.rows if self._batches else ""
        return f"{self.doing}, with {rows} rows changed" if rows else self.doing

    @property
    def _failure_point(self) -> failures.FailurePoint:
        step = self.current.step if self.current else None
        # If the previous step landed, this one is the next.
        landed = True if step is None else None if self._landed is None else False
        alone, left = (self._alone, self._conduct.left) if self._begun else (None, False)
        asking = self._asking
        return failures.FailurePoint(
            asking.doing if asking else self.doing,
            landed,
            self._outcome.after,
            step,
            alone,
            asking.line if asking else self._alone_line,
            self._begun,
            left=left,
            batches=self._batches.rows if self._batches else "",
            asked=asking is not None,
            within=self._within_another,
            exchange=self._failed_exchange or Exchange(),
            limits=self.current.limits(self._limits) if self.current else self._limits,
            cause=self._cause,
        )

    def _committed(self, run: StepRun) -> None:
        self.done += 1
        self._begun, self._batches = False, None
        self.heads = self._next_heads
        self._outcome.after = joined(self.heads)
        self._outcome.ran.append(run.revision)
        took = display.duration(1000 * (time.monotonic() - run.attempts.began))
        log.info("  %s  %8s  %s", run.revision, took, _title(run.step), extra={"in_one_line": True})

    @contextlib.contextmanager
    def _statement(self, connection: Connection) -> Iterator[None]:
        """Wrap each statement of a step, and Alembic's own that moves the version."""
        interrupt.check()
        self._demand_transaction(None)
        self._statement_began = time.monotonic()
        try:
            yield
        except DBAPIError as error:
            self._demand_transaction(error)
            raise
        self._demand_transaction(None)
        in_transaction = self._driver.status == STATUS_BEGIN
        if self.current and isinstance(self.current.step, RevisionStep) and in_transaction:
            self._budget.spend(connection, time.monotonic() - self._statement_began)

    def _demand_transaction(self, error: DBAPIError | None) -> None:
        """Raise if psycopg2 assumes an open transaction and the server has none."""
        driver = self._driver
        if driver.status == STATUS_BEGIN and driver.info.transaction_status == TRANSACTION_STATUS_IDLE:
            raise failures.ended_itself(self._failure_point, error) from error

    def _waiting(self) -> float:
        """Seconds since the last statement began."""
        return time.monotonic() - max(self._statement_began, self.steps[self.done].attempts.began)

    def _applying(
        self, step: RevisionStep, options: RevisionOptions, migration: MigrationContext
    ) -> Callable[..., None]:
        """Return the function that runs the supervised step once per attempt."""
        module, revision = step.revision.module, step.revision.revision
        apply = module.upgrade if step.is_upgrade else module.downgrade

        def objection(sql: str, in_transaction: bool) -> NeuraknotError | None:
            found = objection_to(sql, revision, may_end=in_transaction)
            return found and self._refused(found)

        def late_block() -> NeuraknotError:
            return self._refused(late_block_error(revision))

        def closing() -> NeuraknotError:
            return self._refused(closing_error(step))

        def run(**_options: Any) -> None:
            batches = (
                options.backfill and not self._within_another and self._batches_of(step, options.backfill, migration)
            )
            if not (batches and batches.committed):
                self._ask(step, "expects", options, migration)
            if batches:
                self._apply_batches(batches, migration)
            elif options.transactional:
                with supervised(migration, self._conduct, objection=objection, late_block=late_block, closing=closing):
                    demand_run(apply())
            else:
                self._apply_outside(step, apply, migration)
            self._ask(step, "ensures", options, migration)

        return run

    def _ask(self, step: RevisionStep, name: str, options: RevisionOptions, migration: MigrationContext) -> None:
        """Ask the queries of `expects` or `ensures`, and raise at the first that gives rows, or fails."""
        queries: Mapping[str, str] = getattr(options, name)
        if queries and not options.transactional and name == "expects":
            log.info("  %s has no transaction: a row may come after what it expects was asked", step.revision.revision)
        for phrase, query in queries.items():
            from neuraknot_db.migrate.conditions import Condition, ask  # few revisions have any

            assert migration.connection is not None
            self._asking = Condition(step, name, phrase)
            total, rows = ask(migration.connection, query)
            if total:
                raise self._asking.broken(total, rows, self._failure_point)
            self._asking = None

    def _refused(self, found: NeuraknotError) -> NeuraknotError:
        """Return the same error for a revision that is running: its work is rolled back."""
        stays = " What its autocommit_block has sent stays." if self._conduct.left else ""
        message = f"{found.message} The revision was rolled back before that.{stays}"
        return MigrationFailedError(message, hint=f"{self._failure_point.at} {found.hint}")

    def _apply_outside(self, step: RevisionStep, apply: Callable[[], object], migration: MigrationContext) -> None:
        """Send what can't run in a transaction after the function has returned, and only if it is one statement."""
        from neuraknot_db.migrate import autocommit  # few runs need it

        held = autocommit.hold(apply, migration, step.revision.revision)
        options = read_options(step, [each.sql for each in held])
        assert options.alone is not None

        def send() -> None:
            for each in held:
                migration.impl.send(each)  # type: ignore[attr-defined]

        self._alone = options.alone
        self._alone_line = dict(reversed(held[0].callers)).get(str(step.revision.path))
        autocommit.run_alone(send, migration, self._alone, options.limits(self._limits), self._recorder.opened)

    def _batches_of(self, step: RevisionStep, backfill: Backfill, migration: MigrationContext) -> Batches:
        """Return the batches of a backfill, behind those of earlier runs and attempts."""
        from neuraknot_db.migrate.backfill import Batches  # few revisions have any

        assert migration.connection is not None
        if self._batches is None:
            run, limits = self.steps[self.done], self.steps[self.done].limits(self._limits)
            self._batches = Batches(migration.connection, run.revision, backfill, limits, failures.path_of(step))
        self._alone_line = line_of(step.revision.module)
        return self._batches

    def _apply_batches(self, batches: Batches, migration: MigrationContext) -> None:
        """Run batches between two transactions of the step: what is expected, and what is ensured and recorded."""
        assert migration.connection is not None
        assert migration._transaction is not None
        migration._transaction.commit()
        migration._transaction = None
        batches.run(lambda: self._failure_point)
        migration._transaction = migration.connection.begin()

    def _record(self, connection: Connection, update: str = "") -> raw_sql.Result:
        """Set the session back, write the step's row and move the version, all in the step's own transaction."""
        self._recorded = True
        kept = f"pg_try_advisory_lock({lock.KEY})"
        result = self._recorder.write(
            connection,
            self._row("succeeded"),
            f"{update} RETURNING {kept}" if update else f"SELECT {kept}",
            first=session.restoring(connection, self._limits),
        )
        if not result.scalar():
            raise failures.unlocked(self._failure_point)
        return result

    def _row(self, outcome: str, error: str | None = None) -> Entry:
        after = self._next_heads if outcome == "succeeded" else self.heads
        attempts = self.steps[self.done].attempts
        return attempts.row(outcome, error, before=joined(self.heads), after=joined(after))


def _tell_losses(connection: Connection, run: StepRun) -> None:
    from neuraknot_db.migrate import conditions  # few runs go back

    for what, query in run.options.losses.items():
        count, _ = conditions.answer(connection, conditions.read, query, strict=True)
        if count != 0:
            log.info("  %s loses: %s %s", run.revision, display.number(count), what)


def entry_of(step: Step, options: RevisionOptions) -> Entry:
    """Return the row of a step, without its result."""
    if not isinstance(step, RevisionStep):
        return Entry(revision_of(step), "stamp")
    if step.is_downgrade:
        return Entry(revision_of(step), "downgrade")
    return Entry(
        revision_of(step),
        "upgrade",
        checksum=checksum.checksum(options.source),
        source_sha256=checksum.source_sha256(options.source),
        backfill=options.backfill is not None,
    )


def _title(step: Step) -> str:
    if not isinstance(step, RevisionStep):
        return "stamped"
    return step.doc or "" if step.is_upgrade else f"taken back: {step.doc}"
