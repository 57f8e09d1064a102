"""Every failure that a user can meet: one sentence, a hint, an exit code."""

from __future__ import annotations


class LauncherError(Exception):
    """The root of this package's errors; `options.with_shared_options` turns each into lines and an exit code.

    Attributes:
        message: what went wrong, in one sentence. Never holds a secret.
        hint: what to do next, a command where there is one.
        details: further lines for the reader, such as the last lines of a program that failed.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class UsageError(LauncherError):
    """Wrong usage: an option, or two options that exclude each other."""

    exit_code = 2


class AlreadyRunningError(LauncherError):
    """Another migration task of this environment is alive; nothing was started."""

    exit_code = 4


class RefusedError(LauncherError):
    """A guard refused, or a confirmation was not given; nothing was changed."""

    exit_code = 5


class ConfigurationError(LauncherError):
    """Terraform, a file or a program that the launcher needs is missing, empty or wrong."""

    exit_code = 20


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
        action: the call, as IAM names it: `ecs:RunTask`.
        code: AWS's own error code; empty where no answer came.
    """

    exit_code = 21

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
    """There are no credentials, or they have expired, or they are not valid, or of another account."""


class AccessDeniedError(AwsError):
    """The caller's role lacks a permission.

    Attributes:
        principal: who asked, as an ARN; empty where AWS did not say.
        resource: what it was asked of, as an ARN; empty where AWS did not say.
    """

    principal = ""
    resource = ""


class NotFoundError(AwsError):
    """A resource does not exist in this account and region."""


class TransientAwsError(AwsError):
    """Throttled, or no answer, or an error on AWS's side: the same call may succeed later."""


class ImageError(LauncherError):
    """The image could not be built, pushed or found."""

    exit_code = 22


class TaskNotStartedError(LauncherError):
    """ECS did not start the container."""

    exit_code = 23


class OutcomeUnknownError(LauncherError):
    """What became of the task can't be told; the hint says how to find out."""

    exit_code = 25


class InterruptedLaunchError(LauncherError):
    """SIGINT, SIGTERM or SIGHUP ended the launcher.

    Attributes:
        exit_code: 128 plus the signal's number, as shells have it.
    """

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number
