"""psycopg2's connection with a guard that checks every statement before it is sent."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from psycopg2 import extensions


class Guard(Protocol):
    """Checks what is about to be sent; if it raises, nothing is sent."""

    def statement(self, sql: str) -> None:
        """Check SQL, with placeholders for its parameters."""
        ...

    def ending(self, sql: str) -> None:
        """Check what the driver itself sends to end the transaction, such as COMMIT."""
        ...


class Exchange(NamedTuple):
    """A statement and its answer.

    Attributes:
        idle: seconds for which nothing had been sent before it.
        took: seconds until its answer, or its failure.
    """

    idle: float = 0.0
    took: float = 0.0


class GuardedConnection(extensions.connection):
    """A connection whose guard sees everything that is sent.

    Attributes:
        guard: None for an unguarded connection.
        failed: its last statement that failed.
    """

    guard: Guard | None = None
    failed = Exchange()
    _answered: float | None = None

    @contextlib.contextmanager
    def exchanging(self) -> Iterator[None]:
        """Wrap a statement, from before it is sent until its answer."""
        sent = time.monotonic()
        idle = sent - (self._answered or sent)
        try:
            yield
        except Exception:
            self.failed = Exchange(idle, time.monotonic() - sent)
            raise
        finally:
            self._answered = time.monotonic()

    def cursor(self, *what: Any, cursor_factory: Any = None, **how: Any) -> Any:
        """Return a guarded cursor of any class."""
        return super().cursor(*what, cursor_factory=_guarded(cursor_factory or extensions.cursor), **how)

    def commit(self) -> None:
        """COMMIT."""
        self._ending("COMMIT")
        super().commit()

    def rollback(self) -> None:
        """ROLLBACK."""
        self._ending("ROLLBACK")
        super().rollback()

    def reset(self) -> None:
        """ROLLBACK, and reset everything."""
        self._ending("ROLLBACK")
        super().reset()

    def set_session(self, *what: Any, **how: Any) -> None:
        """Set the characteristics of later transactions, or none."""
        self._ending("COMMIT")
        super().set_session(*what, **how)

    def set_isolation_level(self, level: int | None) -> None:
        """Set the isolation level, after a ROLLBACK."""
        self._ending("ROLLBACK")
        super().set_isolation_level(level)

    @property
    def autocommit(self) -> bool:
        """Whether each statement is a transaction."""
        return _AUTOCOMMIT.__get__(self)  # type: ignore[no-any-return]

    @autocommit.setter
    def autocommit(self, on: bool) -> None:
        self._ending("COMMIT")
        _AUTOCOMMIT.__set__(self, on)

    def tpc_begin(self, xid: Any) -> None:
        """Begin a two-phase transaction."""
        self._ending("COMMIT")
        super().tpc_begin(xid)

    def _ending(self, sql: str) -> None:
        if self.guard is not None:
            self.guard.ending(sql)


_AUTOCOMMIT: Any = extensions.connection.__dict__["autocommit"]


@functools.cache
def _guarded(factory: Any) -> Any:
    return type(factory.__name__, (_Guarded, factory), {})


class _Guarded(extensions.cursor):
    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - psycopg2's own name
        with self._sending(query):
            super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Iterable[Any]) -> None:
        with self._sending(query):
            super().executemany(query, vars_list)

    def callproc(self, procname: str, parameters: Any = None) -> None:  # type: ignore[override]
        with self._sending(f"SELECT * FROM {procname}()"):
            super().callproc(procname, parameters)

    def copy_expert(self, sql: Any, *more: Any, **how: Any) -> None:
        with self._sending(sql):
            super().copy_expert(sql, *more, **how)

    def copy_from(self, *what: Any, **how: Any) -> None:
        with self._sending("COPY"):
            super().copy_from(*what, **how)

    def copy_to(self, *what: Any, **how: Any) -> None:
        with self._sending("COPY"):
            super().copy_to(*what, **how)

    @contextlib.contextmanager
    def _sending(self, query: Any) -> Iterator[None]:
        connection = self.connection
        if not isinstance(connection, GuardedConnection):
            yield
            return
        if connection.guard is not None:
            if isinstance(query, bytes):
                query = query.decode(errors="replace")
            # Otherwise an object of `psycopg2.sql`, which is slow to import.
            connection.guard.statement(query if isinstance(query, str) else query.as_string(self))
        with connection.exchanging():
            yield
