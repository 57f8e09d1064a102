"""The rows of one run in the log, and what of the run the database holds: asked of it anew, never concluded."""

from __future__ import annotations

import json
import logging
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from neuraknot_db import __version__, settings
from neuraknot_db.database import diagnosis, interrupt, lock, raw_sql, session
from neuraknot_db.database.redaction import redacted
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import InterruptedRunError, RefusedError, UnreachableError
from neuraknot_db.history.log import Entry, History
from neuraknot_db.history.tables import TABLE
from neuraknot_db.migrate import failures, retry
from neuraknot_db.migrate.outcome import Outcome
from neuraknot_db.migrate.retry import Failure
from neuraknot_db.settings import Origin, Settings

log = logging.getLogger(__name__)

_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each try to ask on a new connection: a server that is restarted is back within half a minute."""

_METADATA_TIMEOUT = 1.0

_TAKEN = "23505"
_WRITTEN_AHEAD = 32
"""Values of a sequence (SEQ_LOG_VALS in PostgreSQL's sequence.c)."""

_NO_ANSWER = (DBAPIError, InvalidRequestError, RefusedError, UnreachableError)
"""What keeps the database from answering now; the next connection may get an answer."""

UNANSWERED = "the connection was lost with the answer to COMMIT; a new one shows that everything is committed"
_NOT_RECORDED = "the failure could not be recorded in the log"

_INSERT = f"""
INSERT INTO {TABLE} (revision, direction, outcome, started_at, duration_ms, attempt, lock_wait_ms, error, checksum,
                     source_sha256, client_host, tool_version, image, git_commit, task_arn, started_by, run, before,
                     after)
VALUES (%(revision)s, %(direction)s, %(outcome)s, clock_timestamp() - %(duration_ms)s * interval '1 ms',
        %(duration_ms)s, %(attempt)s, %(lock_wait_ms)s, %(error)s, %(checksum)s, %(source_sha256)s,
        %(client_host)s, %(tool_version)s, %(image)s, %(git_commit)s, %(task_arn)s, %(started_by)s, %(run)s, %(before)s,
        %(after)s)
"""


@dataclass(frozen=True)
class Standing:
    """What the database answered after a failure.

    Attributes:
        landed: whether the transaction that was under way is committed; None where that is not known.
        revision: where the database is; None for no revision, and where that is not known.
    """

    landed: bool | None = None
    revision: str | None = None


@dataclass
class Attempts:
    """The tries of one thing that is one transaction.

    Attributes:
        entry: its row in the log, but for how it went.
        number: which try this is, from 1.
        waited: seconds that those before have waited for locks, with the pauses between.
        began: when this one began, by `time.monotonic`.
    """

    entry: Entry
    number: int = 1
    waited: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def again(self, failure: Failure, waiting: float) -> None:
        """Count a try that found no lock after it had waited so many seconds."""
        self.number = failure.number + 1
        self.waited += waiting + failure.pause

    def row(self, outcome: str = "succeeded", error: str | None = None, **places: str | None) -> Entry:
        """The row of this try, if it ends now; `places` are `before` and `after`, where they are not the entry's."""
        duration, waited = (round(1000 * seconds) for seconds in (time.monotonic() - self.began, self.waited))
        return replace(
            self.entry,
            outcome=outcome,
            error=error,
            duration_ms=duration,
            attempt=self.number,
            lock_wait_ms=waited,
            **places,  # type: ignore[arg-type]
        )


class Recorder:
    """Writes a run's rows into the log, and is the only one who says what landed.

    A transaction holds the row that tells of it: the row is there if and only if the transaction is committed.

    Attributes:
        run: the run's own id.
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

    def write(self, connection: Connection, entry: Entry, then: str = "") -> raw_sql.Result:
        """Write a row, in the connection's transaction.

        Args:
            connection: what it is written on.
            entry: the row.
            then: a statement that is sent with it, to save the way there and back; a `%` in it is doubled.

        Returns:
            What the last statement gave.
        """
        if self._origin is None:
            self._origin = _described(settings.origin())
        error = entry.error and redacted(entry.error)
        values = {**vars(entry), "error": error, **self._origin, "run": self.run}
        return connection.exec_driver_sql(f"{_INSERT};\n{then}" if then else _INSERT, values)

    def begin(self, connection: Connection, history: History, environment: str, entry: Entry) -> None:
        """Write that the run begins, once, and commit it; and say so if the one before never ended.

        Args:
            connection: the run's session, without a transaction; it is left so.
            history: the log, which is made if it is not there.
            environment: marks a database that has no marker yet.
            entry: what the run is, where the database is, and where it is to lead.

        Raises:
            DBAPIError: the log is locked, or the connection is gone.
            RefusedError: this role can't keep the log.
        """
        looked = [history]

        def attempt() -> None:
            # What an earlier try had made was rolled back with it.
            now = looked.pop() if looked else History(connection)
            now.create()
            if now.environment is None:
                now.mark(environment)
            if not self._begun:
                if vanished := now.vanished():
                    log.warning("the last run never ended (%s): what it had committed by then has stayed", vanished)
                self.write(connection, replace(entry, outcome="started"))
            connection.commit()

        retry.on_lock_timeout(
            lambda: _numbered(connection, attempt), connection, what=lambda: "The log", limits=settings.limits()
        )
        self._begun = True

    def settle(
        self, connection: Connection, error: Exception, entry: Entry, failed: Callable[[Standing], Entry | None]
    ) -> Standing:
        """Find out what became of a transaction that ended in an error, and record the failure where it did not land.

        Args:
            connection: the run's session, which is asked if it still answers; else a new one is.
            error: what came.
            entry: the row that the transaction was to hold.
            failed: the row of the failure, once it is known to be one; None where there is nothing to record.
        """
        standing = Standing()
        same: list[AbstractContextManager[Connection]] = [nullcontext(connection)]
        try:
            for asking in (*same, *map(self._asking_anew, _PAUSES)):
                with suppress(*_NO_ANSWER), asking as answering:
                    answering.rollback()
                    rolled_back = answering is connection and diagnosis.is_error(error)
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
        """What ended a change that is one transaction; None if it landed all the same, and nobody stopped the run.

        Args:
            connection: the run's session.
            error: what came.
            entry: the row that the transaction was to hold.
            outcome: filled in with what the database says.
            doing: the change, as the subject of a sentence.
            kept: a sentence: what a rollback has kept, where that is more than a revision.
        """

        def explained(standing: Standing) -> Exception:
            place = failures.Place(doing, standing.landed, standing.revision, kept=kept)
            return failures.explained(error, place) or error

        def failed(standing: Standing) -> Entry:
            found = explained(standing)
            ended = "interrupted" if isinstance(found, InterruptedRunError) else "failed"
            return replace(entry, outcome=ended, error=str(found))

        standing = self.settle(connection, error, entry, failed)
        outcome.found(standing.landed, standing.revision)
        # Of what ended its own transaction the row is there as well, but not the rest.
        if standing.landed and diagnosis.is_lost(error) and not interrupt.interruption(error):
            log.warning(UNANSWERED)
            return None
        return explained(standing)

    def write_failure(self, connection: Connection, entry: Entry) -> None:
        """Write the row of what was rolled back and commit it, or say that the log can't be had.

        Args:
            connection: without a transaction; it is left so.
            entry: the row.

        Raises:
            DBAPIError: the connection is gone.
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
        """A connection beside the session's."""
        with session.open_session(self._where, self._engine) as connection:
            yield connection

    @contextmanager
    def _asking_anew(self, pause: float) -> Iterator[Connection]:
        time.sleep(pause)
        with self.opened() as connection:
            yield connection

    def _look(self, connection: Connection, entry: Entry, *, rolled_back: bool) -> Standing:
        same = session.driver(connection).info.backend_pid == self._pid
        # A session that the server has not missed yet might still commit: it ends before it is asked for.
        ended = same or lock.end(connection, self._pid)
        state = DatabaseState.of(connection)
        landed = not rolled_back and History(connection).holds(self.run, entry)
        connection.rollback()
        if not landed and (not ended or state.read_only):
            # A replica need not have heard yet.
            return Standing()
        return Standing(landed, state.revision)


def _numbered(connection: Connection, write: Callable[[], None]) -> None:
    """Write a row, again where its number is taken: each try takes the next.

    In a copy of a database the numbers may begin, after a crash, below those that were given away: by as many as
    PostgreSQL writes ahead.
    """
    for left in reversed(range(_WRITTEN_AHEAD + 1)):
        try:
            write()
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _TAKEN or not left:
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
    """What ECS says of this task; never worth a failure."""
    if uri is None or not uri.startswith("http://"):
        return None
    # It takes longer to import than a revision takes to run.
    import urllib.request

    try:
        with urllib.request.urlopen(f"{uri}/task", timeout=_METADATA_TIMEOUT) as answer:  # noqa: S310 - http, see above
            arn = json.load(answer)["TaskARN"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return arn if isinstance(arn, str) else None
