"""Raw SQL reaches the server, or the `--sql` script, exactly as a revision wrote it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alembic.ddl.postgresql import PostgresqlImpl
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.sql.base import Executable
from sqlalchemy.util import immutabledict

# psycopg2 then does not look for parameters, so that a % is a %.
_AS_WRITTEN = {"no_parameters": True}


def execute(connection: Connection, sql: str) -> CursorResult[Any]:
    """Execute SQL exactly as it stands; it takes no parameters."""
    return connection.exec_driver_sql(sql, execution_options=_AS_WRITTEN)


def quoted(name: str) -> str:
    """A name as an identifier that SQL sent by `execute` may hold; SQLAlchemy's own doubles a %."""
    return '"' + name.replace('"', '""') + '"'


class VerbatimPostgresqlImpl(PostgresqlImpl):
    """Alembic's PostgreSQL implementation, but strings never pass through `text()` or a parameter parser.

    With those, `'{"a":true}'` reads as a bind parameter `:true`, a `%` as a placeholder, and a tab in `--sql`
    comes out as four spaces. Alembic finds the newest class of a dialect: importing this module is enough.

    Attributes:
        after_statement: told how many seconds each statement of a revision took.
        statement_began: when the last one began, by the monotonic clock.
    """

    __dialect__ = "postgresql"

    after_statement: Callable[[float], None] | None = None
    statement_began: float = 0.0

    def _exec(
        self,
        construct: Executable | str,
        execution_options: Mapping[str, Any] | None = None,
        multiparams: Sequence[Mapping[str, Any]] | None = None,
        params: Mapping[str, Any] = immutabledict(),
    ) -> CursorResult[Any] | None:
        if not isinstance(construct, str):
            return super()._exec(construct, execution_options, multiparams, params)
        if self.as_sql:
            # On a line of its own: a comment at the end of the statement would swallow the semicolon.
            self.static_output(construct + "\n" + self.command_terminator)
            return None
        assert self.connection is not None
        connection = self.connection.execution_options(**execution_options) if execution_options else self.connection
        self.statement_began = time.monotonic()
        result = execute(connection, construct)
        if self.after_statement is not None:
            self.after_statement(time.monotonic() - self.statement_began)
        return result
