"""The rows of one run in the log, and what the database holds of the run: always read from it, never inferred."""

from __future__ import annotations

import json
import logging
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from neuraknot_db import __version__, settings
from neuraknot_db.database import diagnosis, interrupt, lock, raw_sql, session, sqlstate
from neuraknot_db.database.redaction import redacted
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import InterruptedRunError, RefusedError, UnreachableError
from neuraknot_db.history.log import INSERT, Entry, History, forgetting
from neuraknot_db.migrate import failures, retry
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.retry import Failure
from neuraknot_db.settings import Origin, Settings

log = logging.getLogger(__name__)

_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each attempt to ask on a new connection: a restarting server is back within half a minute."""

_METADATA_TIMEOUT = 1.0

_WRITTEN_AHEAD = 32
"""Sequence values that PostgreSQL logs ahead (SEQ_LOG_VALS in sequence.c)."""

_NO_ANSWER = (DBAPIError, InvalidRequestError, RefusedError, UnreachableError)
"""Errors that prevent an answer now; the next connection may get one."""

UNANSWERED = "the connection was lost with the answer to COMMIT; a new one shows that everything is committed"
_NOT_RECORDED = "the failure could not be recorded in the log"


class Standing(NamedTuple):
    """What the database answered after a failure.

    Attributes:
        landed: whether the transaction in question is committed; None if that is not known.
        revision: where the database is; None for no revision, or if that is not known.
    """

    landed: bool | None = None
    revision: str | None = None


@dataclass
class Attempts:
    """The attempts of one transaction.

    Attributes:
        entry: its row in the log, without the result.
        number: the number of this attempt, from 1.
        waited: seconds that earlier attempts waited for locks, including the pauses between.
        began: when this attempt began, by `time.monotonic`.
    """

    entry: Entry
    number: int = 1
    waited: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def again(self, failure: Failure, waiting: float) -> None:
        """Count an attempt that ended in a lock timeout after waiting so many seconds."""
        self.number = failure.number + 1
        self.waited += waiting + failure.pause

    def row(self, outcome: str = "succeeded", error: str | None = None, **places: str | None) -> Entry:
        """Return the row of this attempt if it ends now; `places` (`before`, `after`) override the entry's."""
        duration, waited = (round(1000 * seconds) for seconds in (time.monotonic() - self.began, self.waited))
        return self.entry._replace(
            outcome=outcome,
            error=error,
            duration_ms=duration,
            attempt=self.number,
            lock_wait_ms=waited,
            **places,  # type: ignore[arg-type]
        )


class Recorder:
    """Writes a run's rows into the log, and alone decides what landed.

    The row that describes a transaction is written in it: it exists if and only if the transaction is committed.

    Attributes:
        run: the run's id.
    """

    def __init__(self, where: Settings, connection: Connection) -> None:
        """Begin a run.

        Args:
            where: its database.
            connection: its session, which holds the migration lock.
        """
        self.run = str(uuid.uuid4())
        self._where = where
        self._engine = connection.engine
        self._pid: int = session.driver(connection).info.backend_pid
        self._origin: dict[str, str | None] | None = None
        self._begun = False

    def write(self, connection: Connection, entry: Entry, then: str = "", *, first: str = "") -> raw_sql.Result:
        """Write a row, in the connection's transaction.

        Args:
            connection: the connection to write on.
            entry: the row.
            then: a statement to send with it, which saves a round trip; a `%` in it must be doubled.
            first: statements to send before it, likewise.

        Returns:
            The result of the last statement.
        """
        if self._origin is None:
            self._origin = _described(settings.origin())
        error = entry.error and redacted(entry.error)
        values = {**entry._asdict(), "error": error, **self._origin, "run": self.run}
        return connection.exec_driver_sql(";\n".join(filter(None, (first, forgetting(entry), INSERT, then))), values)

    def begin(self, connection: Connection, history: History, environment: str, entry: Entry) -> None:
        """Write once that the run begins, and commit; warn if the previous run never ended.

        Args:
            connection: the run's session, without a transaction before and after.
            history: the log, created if it does not exist.
            environment: the marker for a database that has none yet.
            entry: the run's kind, where the database is, and its target.

        Raises:
            DBAPIError: the log is locked, or the connection was lost.
            RefusedError: this role can't write the log.
        """
        looked = [history]

        def attempt() -> None:
            # What an earlier attempt created was rolled back with it.
            now = looked.pop() if looked else History(connection)
            now.create()
            if now.environment is None:
                now.mark(environment)
            if not self._begun:
                tell_vanished(now, entry.before)
                self.write(connection, entry._replace(outcome="started"))
            connection.commit()

        retry.on_lock_timeout(
            lambda: _numbered(connection, attempt), connection, what=lambda: "The log", limits=settings.limits()
        )
        self._begun = True

    def settle(
        self, connection: Connection, error: Exception, entry: Entry, failed: Callable[[Standing], Entry | None]
    ) -> Standing:
        """Find out what became of a transaction that ended in an error; record the failure if it did not land.

        Args:
            connection: the run's session, which is asked if it still answers; otherwise a new one is.
            error: the original error.
            entry: the row that the transaction should hold.
            failed: returns the failure's row once the failure is certain; None if there is nothing to record.
        """
        standing = Standing()
        same: list[AbstractContextManager[Connection]] = [nullcontext(connection)]
        try:
            for asking in (*same, *map(self._asking_anew, _PAUSES)):
                with suppress(*_NO_ANSWER), asking as answering:
                    answering.rollback()
                    rolled_back = answering is connection and diagnosis.is_error(error)
                    if answering is connection:
                        # Outside of a transaction, what the revision had set is still set.
                        session.restore(answering, settings.limits())
                    standing = self._look(answering, entry, rolled_back=rolled_back)
                    if standing.landed is False and (row := failed(standing)):
                        self.write_failure(answering, row)
                    if standing.landed is not None:
                        return standing
        except InterruptedRunError:
            log.warning("what was committed is not asked for any longer")
        if standing.landed is False:
            log.warning(_NOT_RECORDED)
        return standing

    def explain(
        self, connection: Connection, error: Exception, entry: Entry, outcome: Outcome, *, doing: str, kept: str = ""
    ) -> Exception | None:
        """Explain what ended a change of one transaction; return None if it landed anyway and was not interrupted.

        Args:
            connection: the run's session.
            error: the original error.
            entry: the row that the transaction should hold.
            outcome: updated with what the database says.
            doing: the change, as the subject of a sentence.
            kept: a sentence: what a rollback kept, if that is more than a revision.
        """
        if isinstance(error, DBAPIError):
            session.name_holders(connection, error)

        def explained(standing: Standing) -> Exception:
            point = failures.FailurePoint(doing, standing.landed, standing.revision, kept=kept)
            return failures.explained(error, point) or error

        def failed(standing: Standing) -> Entry:
            found = explained(standing)
            ended = "interrupted" if isinstance(found, InterruptedRunError) else "failed"
            return entry._replace(outcome=ended, error=str(found))

        standing = self.settle(connection, error, entry, failed)
        outcome.found(standing.landed, standing.revision)
        # A revision that ended its own transaction left the row as well, but not the rest.
        if standing.landed and diagnosis.is_lost(error) and not interrupt.interruption(error):
            log.warning(UNANSWERED)
            return None
        return explained(standing)

    def write_failure(self, connection: Connection, entry: Entry) -> None:
        """Write the row of a rolled-back transaction and commit it; warn if the log can't be written.

        Args:
            connection: without a transaction before and after.
            entry: the row.

        Raises:
            DBAPIError: the connection was lost.
        """

        def attempt() -> None:
            History(connection).create()
            self.write(connection, entry)
            connection.commit()

        try:
            _numbered(connection, attempt)
        except RefusedError:
            log.warning(_NOT_RECORDED)
        except DBAPIError as error:
            connection.rollback()
            if diagnosis.is_lost(error):
                raise
            log.warning(_NOT_RECORDED)

    @contextmanager
    def opened(self) -> Iterator[Connection]:
        """Open a second connection."""
        with session.open_session(self._where, self._engine) as connection:
            yield connection

    @contextmanager
    def _asking_anew(self, pause: float) -> Iterator[Connection]:
        time.sleep(pause)
        with self.opened() as connection:
            yield connection

    def _look(self, connection: Connection, entry: Entry, *, rolled_back: bool) -> Standing:
        same = session.driver(connection).info.backend_pid == self._pid
        # A session whose loss the server has not noticed might still commit: end it before asking.
        ended = same or lock.end(connection, self._pid)
        state = DatabaseState.of(connection)
        landed = not rolled_back and History(connection).holds(self.run, entry)
        connection.rollback()
        if not landed and (not ended or state.read_only):
            # A replica may lag behind.
            return Standing()
        return Standing(landed, state.revision)


def tell_vanished(history: History, at: str | None) -> None:
    """Warn if the last run never ended, and tell where the database is."""
    if vanished := history.vanished():
        what = "the last run (%s) was killed or its machine lost: what it had committed stays, the database is at %s"
        log.warning(what, vanished, at or "no revision")


def _numbered(connection: Connection, write: Callable[[], None]) -> None:
    """Write a row, and again if its number is taken: each attempt takes the next number.

    In a copy of a database, after a crash, the sequence may restart below numbers already used: by as many as
    PostgreSQL logs ahead.
    """
    for left in reversed(range(_WRITTEN_AHEAD + 1)):
        try:
            write()
        except DBAPIError as error:
            if sqlstate.of(error) != sqlstate.UNIQUE_VIOLATION or not left:
                raise
            connection.rollback()
        else:
            return


def _described(origin: Origin) -> dict[str, str | None]:
    return {
        "client_host": socket.gethostname(),
        "tool_version": __version__,
        "image": origin.image,
        "git_commit": origin.git_commit,
        "started_by": origin.started_by,
        "task_arn": _task_arn(origin.task_metadata_uri),
    }


def _task_arn(uri: str | None) -> str | None:
    """Return the ARN of this ECS task; None on any failure."""
    if uri is None or not uri.startswith("http://"):
        return None
    # Importing it takes longer than running a revision.
    import urllib.request

    try:
        with urllib.request.urlopen(f"{uri}/task", timeout=_METADATA_TIMEOUT) as answer:  # noqa: S310 - http, see above
            arn = json.load(answer)["TaskARN"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return arn if isinstance(arn, str) else None
