"""Send raw SQL to the server, or to the `--sql` script, exactly as a revision wrote it."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn, cast

from alembic.ddl.postgresql import PostgresqlImpl
from psycopg2.extensions import adapt
from sqlalchemy import inspection
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.engine.mock import MockConnection
from sqlalchemy.schema import CreateTable, ExecutableDDLElement, Table
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import Update
from sqlalchemy.sql.elements import TextClause
from sqlalchemy.types import ARRAY, JSON, Boolean, String
from sqlalchemy.util import immutabledict

from neuraknot_db.database.driver import Guard, GuardedConnection

# psycopg2 then does not look for parameters: a % stays a %.
_AS_WRITTEN = {"no_parameters": True}

_SUBSTITUTED = re.compile(r"[^\x00-!#-&(-/:-@\[-\^`|-\x7f]")
"""What psql takes for a variable where it follows a colon: letters, digits, `_`, quotes and `{`, and any beyond ASCII.

Written as a negated set: re takes fifty times as long to compile one that reaches up to U+10FFFF.
"""

_AS_SENT = (float, Decimal, date, datetime, time, timedelta)
"""What psycopg2 writes in the same way for every server."""

Result = CursorResult[*tuple[Any, ...]]


def execute(connection: Connection, sql: str) -> Result:
    """Execute SQL exactly as written; it takes no parameters."""
    return connection.exec_driver_sql(sql, execution_options=_AS_WRITTEN)


def quoted(name: str) -> str:
    """Quote an identifier for SQL sent by `execute`; SQLAlchemy's own function doubles a %."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | int | None) -> str:
    """Return a value as SQL."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


class UnprintableError(AttributeError):
    """Why a script can't hold what a revision does, as a clause.

    It is an AttributeError, since libraries ask a connection what it has.

    Attributes:
        advice: what to do instead, as sentences.
    """

    def __init__(self, clause: str, advice: str) -> None:
        super().__init__(clause)
        self.advice = advice


def for_psql(sql: str) -> str:
    """Return SQL as psql sends it unchanged: with a blank after each colon that would begin a variable's name.

    Raises:
        UnprintableError: the server refuses it, and psql would do something else with it.
    """
    from neuraknot_db.database import sql_text  # few runs print

    found = sql_text.statements(sql)
    if not found:
        raise UnprintableError("can't execute an empty query", "Let it hold a statement.")
    parts, end = [], 0
    for statement in found:
        unended = next(
            (f"{token.text[:20]}, which has no end" for token in statement.tokens if token.kind == "error"), ""
        )
        if refused := sql_text.psqls(statement) or unended:
            raise UnprintableError(f"a run can't send {refused}", "Write what the server takes.")
        for token in statement.tokens:
            after = token.start + len(token.text)
            if token.text == ":" and _SUBSTITUTED.match(sql, after):
                parts.append(sql[end:after])
                end = after
    return " ".join([*parts, sql[end:]])


class PendingStatement(NamedTuple):
    """A statement to execute.

    Attributes:
        sql: as SQL.
        arguments: as Alembic passed it.
        callers: the files and lines of the calls that led to it, innermost first.
    """

    sql: str
    arguments: tuple[Any, ...]
    callers: tuple[tuple[str, int], ...]


class VerbatimPostgresqlImpl(PostgresqlImpl):
    """Alembic's PostgreSQL implementation, except that strings never pass `text()` or a parameter parser.

    There, `'{"a":true}'` reads as a bind parameter `:true`, a `%` as a placeholder, and a tab in `--sql` comes out as
    four spaces. Alembic finds the newest class of a dialect: importing this module is enough.

    Attributes:
        psql: whether what is printed is for psql, and not to be read by us.
        around_statement: a context entered around each executed statement.
        held: while this is a list, statements are kept here and not executed or printed; see `send`.
        move: executes Alembic's UPDATE that moves the version, and returns its result; None for Alembic's own way.
    """

    __dialect__ = "postgresql"

    psql = False
    around_statement: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    held: list[PendingStatement] | None = None
    move: Callable[[str], Result] | None = None
    _guard: Guard | None = None

    def __init__(self, *how: Any) -> None:
        super().__init__(*how)
        if self.as_sql:
            # What `op.get_bind()` then returns; Alembic's own loses the parameters.
            self.connection = cast("Connection", _NoDatabase(self.dialect, self._print))

    def version_table_impl(self, **how: Any) -> Table:
        """Keep Alembic's table, to tell its UPDATE from a revision's."""
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
            arguments = construct, execution_options, multiparams, params
            callers = tuple((frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(None))
            self.held.append(PendingStatement(self._text(construct), arguments, callers))
            return None
        if self.as_sql:
            if isinstance(construct, CreateTable) and construct.element is self._version:
                construct.if_not_exists = True  # an emptied one stays
            sql = self._text(construct)
            if self._guard is not None:
                self._guard.statement(sql)
            if self.psql:
                sql = for_psql(sql)
            # On its own line: a comment at the end of what a person wrote would swallow the semicolon.
            written = isinstance(construct, str | TextClause)
            self.static_output((sql + "\n" if written else sql.strip()) + self.command_terminator)
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
    def guarded(self, guard: Guard) -> Iterator[None]:
        """Pass to `guard` what is about to be sent or printed, including what bypasses Alembic via `op.get_bind()`."""
        self._guard = guard
        driver = None if self.as_sql or self.connection is None else self.connection.connection.driver_connection
        if isinstance(driver, GuardedConnection):
            driver.guard = guard
        try:
            yield
        finally:
            self._guard = None
            if isinstance(driver, GuardedConnection):
                driver.guard = None

    def send(self, held: PendingStatement) -> None:
        """Execute or print what was held."""
        self._exec(*held.arguments)

    def _print(self, construct: Executable, parameters: object = None) -> _NoAnswer:
        if parameters:
            raise UnprintableError(
                "values beside a statement (connection.execute(statement, values)) can't be printed",
                "Write them into it: op.execute(table.insert().values(...)).",
            )
        self._exec(construct)
        return _NoAnswer()

    def _text(self, construct: Executable | str) -> str:
        if isinstance(construct, str):
            return construct
        literal = {} if isinstance(construct, ExecutableDDLElement) else {"literal_binds": True}
        return str(construct.compile(dialect=_printing(), compile_kwargs=literal))  # type: ignore[attr-defined]


class _NoAnswer:
    """What a statement returns that is only printed."""

    def __getattr__(self, name: str) -> NoReturn:
        raise UnprintableError(
            f"it asks the database ({name}), and a script can't hold the answer",
            "Let it ask in SQL (INSERT ... SELECT, DO), or run it instead: alembic upgrade head.",
        )

    def __iter__(self) -> NoReturn:
        self.__getattr__("rows")


class _NoDatabase(_NoAnswer, MockConnection):
    """The connection of a revision that is only printed."""


@inspection._inspects(_NoDatabase)
def _inspected(connection: _NoDatabase) -> NoReturn:
    connection.__getattr__("inspect")


class _PrintingCompiler(PGDialect_psycopg2.statement_compiler):  # type: ignore[misc,valid-type]
    """Writes values into the statement as psycopg2 sends them, also those that SQLAlchemy has no literal for."""

    def render_literal_bindparam(self, bindparam: Any, **how: Any) -> str:
        if isinstance(bindparam.type, JSON) and bindparam.value is None and bindparam.type.should_evaluate_none:
            return "'null'"
        return str(super().render_literal_bindparam(bindparam, **how))

    def render_literal_value(self, value: Any, type_: Any) -> str:
        if isinstance(type_, JSON):
            value, type_ = json.dumps(None if value is JSON.NULL else value), String()
        # In a column of numbers, too: the server refuses it there in a run.
        if isinstance(value, _AS_SENT) or (isinstance(value, bool) and not isinstance(type_, Boolean)):
            return str(adapt(value).getquoted(), "ascii")
        if isinstance(value, bytes | bytearray | memoryview):
            return f"'\\x{bytes(value).hex()}'::bytea"
        if isinstance(type_, ARRAY) and isinstance(value, list | tuple):
            # With its type: an empty one has none, and text that stands for a date is text.
            items = ", ".join(self._item(each, type_.item_type) for each in value)
            return f"ARRAY[{items}]::{self.dialect.type_compiler_instance.process(type_)}"
        return str(super().render_literal_value(value, type_))

    def _item(self, value: Any, type_: Any) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, list | tuple):
            return f"[{', '.join(self._item(each, type_) for each in value)}]"
        return self.render_literal_value(value, type_)


class _PrintingDialect(PGDialect_psycopg2):
    statement_compiler = _PrintingCompiler
    # PostgreSQL 15 has none; later versions also take the STORED that is written then.
    supports_virtual_generated_columns = False


@functools.cache
def _printing() -> PGDialect_psycopg2:
    # psycopg2's own style of parameters doubles every %.
    return _PrintingDialect(paramstyle="named")  # type: ignore[no-untyped-call]
