"""What a check of `doctor` is, and running all of them in parallel."""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import launcher
from launcher.doctor.least_policy import DOCTOR_ONLY
from launcher.doctor.report import Finding, Report, Status
from launcher.errors import AccessDeniedError, ExitCode, LauncherError, TransientAwsError

T = TypeVar("T")
F = TypeVar("F")
_COMMAND = re.compile(
    r"`(?P<within>(?:aws|launcher|terraform|tofu) [^`]+)`|: (?P<last>(?:aws|launcher|terraform|tofu) [^`]+)$"
)
_WORKERS = 12  # each waits for AWS most of the time
_CODE = str(Path(launcher.__file__).parent)


class WrongError(LauncherError):
    """A check's finding is NG, or a NOTE; the hint is the command that fixes it.

    Attributes:
        exit_code: the exit code of `ecs-migrate` for this problem; 0 for a NOTE, because of which no task fails.
    """

    def __init__(self, message: str, *, fix: str, exit_code: int = ExitCode.CONFIGURATION) -> None:
        super().__init__(message, hint=fix)
        self.exit_code = exit_code


class SkippedError(Exception):
    """A check can't be made or does not apply; the message says why."""


@dataclass(frozen=True)
class Check(Generic[F]):
    """One check.

    Attributes:
        group, name: its place in the tree.
        look: returns what was seen in the facts if all is well; else raises `WrongError`, another `LauncherError`,
            or `SkippedError`.
    """

    group: str
    name: str
    look: Callable[[F], str]


class Fact(Generic[T]):
    """A value that several checks need, looked up once, on first use."""

    def __init__(self, look_up: Callable[[], T]) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._outcome: tuple[T | None, Exception | None] | None = None

    def get(self) -> T:
        """Return the fact; an error of the lookup is raised again each time."""
        with self._lock:
            if self._outcome is None:
                try:
                    self._outcome = (self._look_up(), None)
                except Exception as error:  # noqa: BLE001 - each check that needs the fact meets it
                    self._outcome = (None, error)
            value, problem = self._outcome
        if problem is not None:
            raise problem
        return value  # type: ignore[return-value]  # None only where T admits it

    def need(self, reason: str) -> T:
        """Return the fact, for a check that only depends on it.

        Raises:
            SkippedError: the lookup failed; `reason` names the dependency. The fact's own check reports the cause.
        """
        try:
            return self.get()
        except Exception as error:
            raise SkippedError(reason) from error


def diagnose(checks: Sequence[Check[F]], facts: F, options: str = "") -> Report:
    """Run all checks in parallel.

    Args:
        checks: in the order of the tree.
        facts: the checks' input.
        options: the options to add to each proposed command of the launcher.
    """
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="doctor") as pool:
        return Report(tuple(pool.map(lambda check: _made(check, facts, options), checks)))


def _made(check: Check[F], facts: F, options: str) -> Finding:
    try:
        return Finding(check.group, check.name, Status.OK, check.look(facts))
    except SkippedError as error:
        return Finding(check.group, check.name, Status.SKIP, str(error))
    except AccessDeniedError as error:
        if error.action in DOCTOR_ONLY:  # only `doctor` needs it, so no task fails because of it
            text = f"the caller may not look ({error.action})"
            return Finding(check.group, check.name, Status.SKIP, text)
        return _wrong(check, error, options)
    except TransientAwsError as error:
        if error.action == "sts:GetCallerIdentity":  # nothing else could be asked
            return _wrong(check, error, options)
        return Finding(check.group, check.name, Status.SKIP, f"not known now: {error.message}")
    except LauncherError as error:
        return _wrong(check, error, options)
    except Exception as error:  # noqa: BLE001 - a defect here says nothing about the stack, nor about other checks
        return Finding(check.group, check.name, Status.SKIP, f"could not be looked at: {_defect(error)}")


def _defect(error: Exception) -> str:
    """Return an unexpected error's type, words and place in the launcher."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_CODE)]
    place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "outside of the launcher"
    return f"{type(error).__name__} {error} ({place}), which is a defect of the launcher"


def _wrong(check: Check[F], error: LauncherError, options: str) -> Finding:
    fix = error.hint if isinstance(error, WrongError) else _command(error.hint, options)
    status = Status.NG if error.exit_code else Status.NOTE
    return Finding(check.group, check.name, status, error.message, fix, error.exit_code)


def _command(hint: str | None, options: str) -> str | None:
    """Return the command in a hint, with the rest as a comment; without a command that alone; None without a hint."""
    if hint is None:
        return None
    found = _COMMAND.search(hint)
    if found is None:
        return f"# {hint}"
    command, words = found["within"] or found["last"], hint if found["within"] else hint[: found.start()]
    if command.startswith("launcher ") and options and "--environment" not in command:
        program, name, *rest = command.split(" ", 2)
        command = " ".join((program, name, options, *rest))
    return f"{command}   # {words}" if words else command
