"""Raw SQL reaches the server, or the `--sql` script, exactly as a revision wrote it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from alembic.ddl.postgresql import PostgresqlImpl
from sqlalchemy import event
from sqlalchemy.engine import Connection, CursorResult, Engine, ExecutionContext
from sqlalchemy.schema import ExecutableDDLElement, Table
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import Update
from sqlalchemy.util import immutabledict

# psycopg2 then does not look for parameters, so that a % is a %.
_AS_WRITTEN = {"no_parameters": True}

Result = CursorResult[*tuple[Any, ...]]


def execute(connection: Connection, sql: str) -> Result:
    """Execute SQL exactly as it stands; it takes no parameters."""
    return connection.exec_driver_sql(sql, execution_options=_AS_WRITTEN)


def quoted(name: str) -> str:
    """A name as an identifier that SQL sent by `execute` may hold; SQLAlchemy's own doubles a %."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Held:
    """What is to be executed, as SQL and as Alembic has handed it over."""

    sql: str
    arguments: tuple[Any, ...]


_admitting: dict[int, Callable[[str], None]] = {}
"""By a connection's id: what looks at its statements before they are sent."""


def _watch(engine: Engine) -> None:
    # Of the dialect: a connection's events make SQLAlchemy slower by more than a small statement takes.
    if not event.contains(engine, "do_execute", _before_execute):
        for kind in ("do_execute", "do_execute_no_params", "do_executemany"):
            event.listen(engine, kind, _before_execute)


def _before_execute(_cursor: object, sql: str, *more: Any) -> None:
    context: ExecutionContext = more[-1]
    if admit := _admitting.get(id(context.root_connection)):
        admit(sql)


class VerbatimPostgresqlImpl(PostgresqlImpl):
    """Alembic's PostgreSQL implementation, but strings never pass through `text()` or a parameter parser.

    With those, `'{"a":true}'` reads as a bind parameter `:true`, a `%` as a placeholder, and a tab in `--sql`
    comes out as four spaces. Alembic finds the newest class of a dialect: importing this module is enough.

    Attributes:
        around_statement: entered around each statement that is executed.
        held: not executed and not printed, but kept here while this is a list: `send` does it afterwards.
        move: executes Alembic's UPDATE that moves the version, and gives its result; None for its own way.
    """

    __dialect__ = "postgresql"

    around_statement: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    held: list[Held] | None = None
    move: Callable[[str], Result] | None = None
    _admit: Callable[[str], None] = staticmethod(lambda _sql: None)

    def version_table_impl(self, **how: Any) -> Table:
        """Alembic's table, by which its UPDATE is known from one of a revision."""
        self._version = super().version_table_impl(**how)
        return self._version

    def _exec(
        self,
        construct: Executable | str,
        execution_options: Mapping[str, Any] | None = None,
        multiparams: Sequence[Mapping[str, Any]] | None = None,
        params: Mapping[str, Any] = immutabledict(),
    ) -> Result | None:
        if self.held is not None:
            self.held.append(Held(self._text(construct), (construct, execution_options, multiparams, params)))
            return None
        if self.as_sql:
            self._admit(self._text(construct))
            if not isinstance(construct, str):
                return super()._exec(construct, execution_options, multiparams, params)
            # On a line of its own: a comment at the end of the statement would swallow the semicolon.
            self.static_output(construct + "\n" + self.command_terminator)
            return None
        with self.around_statement():
            assert self.connection is not None
            if self.move and isinstance(construct, Update) and construct.table is self._version:
                return self.move(str(construct.compile(dialect=self.dialect)))
            if not isinstance(construct, str):
                return super()._exec(construct, execution_options, multiparams, params)
            options = execution_options or {}
            return execute(self.connection.execution_options(**options) if options else self.connection, construct)

    @contextlib.contextmanager
    def admitting(self, admit: Callable[[str], None]) -> Iterator[None]:
        """Show each statement to `admit` before it is sent, or printed; one by `op.get_bind()`, round Alembic, too.

        Args:
            admit: what it raises keeps the statement from being sent.
        """
        self._admit = admit
        if not self.as_sql and self.connection is not None:
            _watch(self.connection.engine)
            _admitting[id(self.connection)] = admit
        try:
            yield
        finally:
            del self._admit
            _admitting.pop(id(self.connection), None)

    def send(self, held: Held) -> None:
        """Execute, or print, what was held."""
        self._exec(*held.arguments)

    def _text(self, construct: Executable | str) -> str:
        if isinstance(construct, str):
            return construct
        literal = {} if isinstance(construct, ExecutableDDLElement) else {"literal_binds": True}
        return str(construct.compile(dialect=self.dialect, compile_kwargs=literal))  # type: ignore[attr-defined]
