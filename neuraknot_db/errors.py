"""Every failure that a user can meet: one sentence, a hint, an exit code."""

from __future__ import annotations


class NeuraknotError(Exception):
    """The root of this package's errors; `console.reporting` turns each into lines on standard error and an exit code.

    Attributes:
        message: what went wrong, in one sentence. Never holds a secret.
        hint: what to do next, a command where there is one.
        details: further lines for the reader: a statement, the differences found.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class UsageError(NeuraknotError):
    """Wrong usage: an option, a setting, a revision that does not exist, two heads where one is meant."""

    exit_code = 2


class SchemaDiffersError(NeuraknotError):
    """The schema is not what its revision should hold, or could not be compared with that."""

    exit_code = 3


class StaleFileError(NeuraknotError):
    """A file that is written from the revisions is not what they make it now."""

    exit_code = 3


class LockUnavailableError(NeuraknotError):
    """Another migration holds the lock, or a lock could not be had in time."""

    exit_code = 4


class RefusedError(NeuraknotError):
    """A guard refused; nothing was changed."""

    exit_code = 5


class UnreachableError(NeuraknotError):
    """The database can't be reached or logged in to, does not exist, or has no TLS where it is demanded."""

    exit_code = 6


class MigrationFailedError(NeuraknotError):
    """A migration failed or its file can't be read; what it had begun was rolled back."""

    exit_code = 7


class TransactionEndedError(MigrationFailedError):
    """A revision ended its own transaction: what it had done was not rolled back, or not by us."""


class InterruptedRunError(NeuraknotError):
    """SIGINT or SIGTERM ended the run; what was in progress was rolled back.

    Attributes:
        exit_code: 128 plus the signal's number, as shells have it.
    """

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number
