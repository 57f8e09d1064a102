"""Every failure that a user can meet: one sentence, a hint, an exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The launcher's own exit codes. A container's, 0 to 7, is passed on; a signal is 128 plus its number."""

    DEFECT = 1
    USAGE = 2
    ALREADY_RUNNING = 4
    REFUSED = 5
    DATABASE_UNREACHABLE = 6  # the container's own; `doctor` foresees it
    CONFIGURATION = 20
    AWS = 21
    IMAGE = 22
    NOT_STARTED = 23
    TIMED_OUT = 24
    UNKNOWN = 25


class LauncherError(Exception):
    """Base class of this package's errors; `cli.shared_options` turns each into lines and an exit code.

    Attributes:
        message: what went wrong, in one sentence, which a full stop ends. Never holds a secret.
        hint: what to do next, as a command where possible.
        details: further lines, such as the last output of a program that failed.
    """

    exit_code: int = ExitCode.DEFECT

    def __init__(self, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        # It may end with somebody else's words, and others may follow.
        self.message = message if message.endswith((".", "!", "?", ":")) else f"{message}."
        super().__init__(self.message)
        self.hint = hint
        self.details = details


class UsageError(LauncherError):
    """An option is wrong, or two options exclude each other."""

    exit_code = ExitCode.USAGE


class AlreadyRunningError(LauncherError):
    """Another migration task of this environment is alive; nothing was started."""

    exit_code = ExitCode.ALREADY_RUNNING


class RefusedError(LauncherError):
    """A guard refused, or the user did not confirm; nothing was changed."""

    exit_code = ExitCode.REFUSED


class ConfigurationError(LauncherError):
    """Terraform, a file or a program that the launcher needs is missing, empty or wrong."""

    exit_code = ExitCode.CONFIGURATION


class ProgramNotFoundError(ConfigurationError):
    """A program is not installed, or can't be started.

    Attributes:
        program: its name.
    """

    def __init__(
        self, program: str, *, hint: str | None = None, why: str = "is not installed, or not on the PATH"
    ) -> None:
        super().__init__(f"The program {program} {why}.", hint=hint)
        self.program = program


class AwsError(LauncherError):
    """AWS refused a call.

    Attributes:
        action: the call as an IAM action: `ecs:RunTask`.
        code: AWS's error code; empty if there was no response.
    """

    exit_code = ExitCode.AWS

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        details: tuple[str, ...] = (),
        action: str = "",
        code: str = "",
    ) -> None:
        super().__init__(message, hint=hint, details=details)
        self.action = action
        self.code = code


class CredentialsError(AwsError):
    """The credentials are missing, expired, not valid, or for another account."""


class AccessDeniedError(AwsError):
    """The caller's role lacks a permission.

    Attributes:
        principal: the caller's ARN; empty if AWS did not say.
        resource: the resource's ARN; empty if AWS did not say.
    """

    principal = ""
    resource = ""


class NotFoundError(AwsError):
    """A resource does not exist in this account and region."""


class TransientAwsError(AwsError):
    """The call was throttled, got no response, or failed on AWS's side; it may succeed later."""


class ImageError(LauncherError):
    """The image could not be built, pushed or found."""

    exit_code = ExitCode.IMAGE


class TaskNotStartedError(LauncherError):
    """ECS did not start the container."""

    exit_code = ExitCode.NOT_STARTED


class OutcomeUnknownError(LauncherError):
    """The task's outcome is not known; the hint says how to find out."""

    exit_code = ExitCode.UNKNOWN


class InterruptedLaunchError(LauncherError):
    """SIGINT, SIGTERM or SIGHUP ended the launcher.

    Attributes:
        exit_code: 128 plus the signal number, as in a shell.
    """

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number
