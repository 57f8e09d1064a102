"""Every failure that a user can meet: a one-sentence message, a hint, an exit code."""

from __future__ import annotations

import signal


class NeuraknotError(Exception):
    """The base of this package's errors; `console.reporting` turns each into lines on standard error and an exit code.

    Attributes:
        message: what went wrong, in one sentence. Never holds a secret.
        hint: what to do next, if possible a command.
        details: further lines for the reader: a statement, the differences found.
        rows: rows of the database: only a terminal shows them.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str | None = None, details: tuple[str, ...] = (), rows: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.rows = rows


class UsageError(NeuraknotError):
    """Wrong usage: an option, a setting, a revision that does not exist, two heads where one is needed."""

    exit_code = 2


class SchemaDiffersError(NeuraknotError):
    """The schema is not what its revision should hold, or could not be compared."""

    exit_code = 3


class StaleFileError(NeuraknotError):
    """A file generated from the revisions is out of date."""

    exit_code = 3


class FindingsError(NeuraknotError):
    """`lint` or `test` found something."""

    exit_code = 3


class LockUnavailableError(NeuraknotError):
    """Another migration holds the lock, or a lock timed out."""

    exit_code = 4


class RefusedError(NeuraknotError):
    """A guard refused; nothing was changed."""

    exit_code = 5


class UnreachableError(NeuraknotError):
    """The database can't be reached or logged in to, does not exist, or lacks required TLS."""

    exit_code = 6


class MigrationFailedError(NeuraknotError):
    """A migration failed, or its file is unreadable; the message says what was not rolled back."""

    exit_code = 7


class TransactionEndedError(MigrationFailedError):
    """A revision ended its own transaction: its work was not rolled back, or not by us."""


class InterruptedRunError(NeuraknotError):
    """SIGINT, SIGTERM or the deadline's SIGALRM ended the run; the message says what became of its work.

    Attributes:
        signal_number: which of them.
        exit_code: 128 plus the signal's number, as in shells; for the deadline 24, as the launcher's own.
    """

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number
        self.exit_code = 24 if signal_number == signal.SIGALRM else 128 + signal_number
