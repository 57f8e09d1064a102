"""A revision's Python is not our code: any exception from it fails the revision, and ends nothing else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import psycopg2
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database import interrupt, raw_sql, session
from neuraknot_db.errors import NeuraknotError


class EscapedError(Exception):
    """A revision raised what would have ended this process as if it were ours, such as SystemExit.

    Its text is a clause about the revision: "it called sys.exit(0)".
    """


@dataclass
class Conduct:
    """What a revision's function has done so far.

    Attributes:
        sent: whether it has sent a statement.
        left: whether it has sent one outside of its transaction, in an autocommit_block: that is never rolled back.
    """

    sent: bool = False
    left: bool = False


@dataclass
class _Guard:
    """Checks what a revision sends.

    Attributes:
        conduct: updated.
        objection: see `supervised`.
        in_block: whether the revision is in an autocommit_block, or entering or leaving one.
        ended: the objection to a commit() or rollback(), None before it; SQLAlchemy assumes that it was done.
    """

    conduct: Conduct
    objection: Callable[[str, bool], NeuraknotError | None]
    in_block: bool = False
    ended: NeuraknotError | None = None

    def statement(self, sql: str) -> None:
        if found := self.objection(sql, not self.in_block):
            raise found
        self.conduct.sent, self.conduct.left = True, self.conduct.left or self.in_block

    def ending(self, sql: str) -> None:
        if found := self.objection(sql, not self.in_block):
            self.ended = found
            raise found


@contextlib.contextmanager
def supervised(
    migration: MigrationContext,
    conduct: Conduct,
    *,
    objection: Callable[[str, bool], NeuraknotError | None],
    late_block: Callable[[], NeuraknotError],
    closing: Callable[[], NeuraknotError] | None = None,
) -> Iterator[None]:
    """Wrap a revision's upgrade() or downgrade(): check each statement before it is sent or printed.

    Args:
        migration: the context that runs it.
        conduct: updated meanwhile.
        objection: why a statement may not be sent; its second argument says whether it is in the transaction.
        late_block: why no autocommit_block is allowed after a statement was sent.
        closing: why the connection may not be closed; None where there is none.

    Raises:
        NeuraknotError: one of these.
        EscapedError, InterruptedRunError: see `contained`.
    """
    guard = _Guard(conduct, objection)
    alembics_own = migration.autocommit_block

    @contextlib.contextmanager
    def autocommit_block() -> Iterator[None]:
        if conduct.sent:
            raise late_block()
        guard.in_block = True
        try:
            with alembics_own():
                yield
        finally:
            guard.in_block = False

    impl = migration.impl
    assert isinstance(impl, raw_sql.VerbatimPostgresqlImpl)
    migration.autocommit_block = autocommit_block  # type: ignore[method-assign]
    try:
        with impl.guarded(guard), _kept_open(migration, closing), contained():
            yield
            if guard.ended:
                raise guard.ended
    finally:
        migration.autocommit_block = alembics_own  # type: ignore[method-assign]
        if guard.ended and migration.connection:
            # SQLAlchemy would not send it again.
            session.driver(migration.connection).rollback()


@contextlib.contextmanager
def _kept_open(migration: MigrationContext, closing: Callable[[], NeuraknotError] | None) -> Iterator[None]:
    """Refuse to close or give away the connection: SQLAlchemy would log tracebacks, and the run has no other."""
    connection = migration.connection
    if closing is None or connection is None:
        yield
        return

    def unless_lost(way: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*what: Any, **how: Any) -> Any:
            # SQLAlchemy itself closes one that an error has ended.
            if not driver.closed and not isinstance(sys.exc_info()[1], DBAPIError | psycopg2.Error):
                raise closing()
            return way(*what, **how)

        return checked

    driver = session.driver(connection)
    ways = [
        (each, name)
        for each in (connection, driver)
        for name in ("close", "detach", "invalidate")
        if hasattr(each, name)
    ]
    for each, name in ways:
        setattr(each, name, unless_lost(getattr(each, name)))
    try:
        yield
    finally:
        for each, name in ways:
            delattr(each, name)


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Wrap a revision's code: any exception becomes an Exception, and a signal an interruption.

    Raises:
        EscapedError: the code itself raised SystemExit, KeyboardInterrupt or similar, or an error without a text.
        InterruptedRunError: a signal was received, or the deadline came, whatever the code made of it.
    """
    try:
        yield
        interrupt.check()
    except BaseException as error:
        if interrupted := interrupt.interruption(error):
            raise interrupted from (None if interrupted is error else error)
        if isinstance(error, Exception) and _shown(error) is not None:
            raise
        raise EscapedError(_told(error)) from error


def demand_run(result: object) -> None:
    """Raise if a call did not run the function, as with a generator or coroutine.

    Raises:
        EscapedError: it did not.
    """
    # By type: the result of a statement is iterable too.
    if isinstance(result, GeneratorType | CoroutineType | AsyncGeneratorType | map | filter):
        raise EscapedError("it returned a generator or a coroutine, of which nothing was run")


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else _shown(error.code, repr) or '...'})"
    return f"it raised {type(error).__name__}" + (f": {shown}" if (shown := _shown(error)) else "")


def words(error: BaseException) -> str:
    """Return what a revision raised, as the end of a sentence, without the period."""
    if isinstance(error, EscapedError | raw_sql.UnprintableError):
        return str(error)
    return f"{type(error).__name__}: {_shown(error) or ''}".rstrip(" :.")


def _shown(value: object, by: Callable[[object], str] = str) -> str | None:
    """Return its text in characters that PostgreSQL can store; None if it has none: its str() is not our code."""
    try:
        return by(value).replace("\0", "\\0").encode(errors="backslashreplace").decode()
    except BaseException:  # noqa: BLE001 - whatever it is, it is no answer
        return None
