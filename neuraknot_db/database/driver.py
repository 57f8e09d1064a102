"""psycopg2's connection with a guard that checks every statement before it is sent."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Protocol

from psycopg2 import extensions


class Guard(Protocol):
    """Checks what is about to be sent; if it raises, nothing is sent."""

    def statement(self, sql: str) -> None:
        """Check SQL, with placeholders for its parameters."""
        ...

    def ending(self, sql: str) -> None:
        """Check what the driver itself sends to end the transaction, such as COMMIT."""
        ...


class GuardedConnection(extensions.connection):
    """A connection whose guard sees everything that is sent.

    Attributes:
        guard: None for an unguarded connection.
    """

    guard: Guard | None = None

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
        self._statement(query)
        super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Iterable[Any]) -> None:
        self._statement(query)
        super().executemany(query, vars_list)

    def callproc(self, procname: str, parameters: Any = None) -> None:  # type: ignore[override]
        self._statement(f"SELECT * FROM {procname}()")
        super().callproc(procname, parameters)

    def copy_expert(self, sql: Any, *more: Any, **how: Any) -> None:
        self._statement(sql)
        super().copy_expert(sql, *more, **how)

    def copy_from(self, *what: Any, **how: Any) -> None:
        self._statement("COPY")
        super().copy_from(*what, **how)

    def copy_to(self, *what: Any, **how: Any) -> None:
        self._statement("COPY")
        super().copy_to(*what, **how)

    def _statement(self, query: Any) -> None:
        connection = self.connection
        guard = connection.guard if isinstance(connection, GuardedConnection) else None
        if guard is not None:
            if isinstance(query, bytes):
                query = query.decode(errors="replace")
            # Otherwise an object of `psycopg2.sql`, which is slow to import.
            guard.statement(query if isinstance(query, str) else query.as_string(self))
