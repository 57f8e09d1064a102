"""A revision's Python is a stranger's: whatever it raises has failed the revision, and ends nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alembic.runtime.migration import MigrationContext

from neuraknot_db import interrupt, rawsql
from neuraknot_db.errors import NeuraknotError


class EscapedError(Exception):
    """A revision raised what would have ended this process, as if it were ours: SystemExit, say.

    Its text is a clause about the revision: "it called sys.exit(0)".
    """


@dataclass
class Conduct:
    """What a revision's function has done so far.

    Attributes:
        sent: whether it has sent a statement.
        left: whether it has sent one outside of its transaction, in an autocommit_block: that stays, whatever comes.
    """

    sent: bool = False
    left: bool = False


@contextlib.contextmanager
def supervised(
    migration: MigrationContext,
    conduct: Conduct,
    *,
    objection: Callable[[str, bool], NeuraknotError | None],
    late_block: Callable[[], NeuraknotError],
) -> Iterator[None]:
    """Around a revision's upgrade() or downgrade(): each statement is looked at before it is sent, or printed.

    Args:
        migration: the context that runs it.
        conduct: filled in meanwhile.
        objection: why a statement may not be sent; it is told whether it would be in the revision's transaction.
        late_block: why there may be no autocommit_block where a statement was sent.

    Raises:
        NeuraknotError: one of these two.
        EscapedError, InterruptedRunError: as `contained` does.
    """
    in_block = False

    def admit(sql: str) -> None:
        nonlocal in_block
        if found := objection(sql, not in_block):
            raise found
        conduct.sent, conduct.left = True, conduct.left or in_block

    alembics_own = migration.autocommit_block

    @contextlib.contextmanager
    def autocommit_block() -> Iterator[None]:
        nonlocal in_block
        if conduct.sent:
            raise late_block()
        with alembics_own():
            in_block = True
            try:
                yield
            finally:
                in_block = False

    impl = migration.impl
    assert isinstance(impl, rawsql.VerbatimPostgresqlImpl)
    migration.autocommit_block = autocommit_block  # type: ignore[method-assign]
    try:
        with impl.admitting(admit), contained():
            yield
    finally:
        migration.autocommit_block = alembics_own  # type: ignore[method-assign]


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Around a revision's code: every exception comes out as an Exception, and a signal as what it is.

    Raises:
        EscapedError: the code raised SystemExit, KeyboardInterrupt or the like by itself.
        InterruptedRunError: SIGINT or SIGTERM came, whatever the code has made of it.
    """
    try:
        yield
        interrupt.check()
    except BaseException as error:
        if interrupted := interrupt.interruption(error):
            raise interrupted from (None if interrupted is error else error)
        if isinstance(error, Exception):
            raise
        raise EscapedError(_told(error)) from error


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    words = f": {error}" if str(error) else ""
    return f"it raised {type(error).__name__}{words}"


def words(error: BaseException) -> str:
    """What a revision raised, as the end of a sentence, without the full stop."""
    if isinstance(error, EscapedError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(" :.")
