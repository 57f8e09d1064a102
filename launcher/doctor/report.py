"""Run the checks of `doctor` in parallel, and print the findings as a tree."""

from __future__ import annotations

import re
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from launcher.doctor.least_policy import DOCTOR_ONLY
from launcher.errors import AccessDeniedError, LauncherError

T = TypeVar("T")
F = TypeVar("F")

_COMMAND = re.compile(r"`(?P<within>(?:aws|launcher|terraform) [^`]+)`|: (?P<last>(?:aws|launcher|terraform) [^`]+)$")
_WORKERS = 12  # each waits for AWS most of the time


class Status(StrEnum):
    """The result of a check."""

    OK = "OK"
    NG = "NG"
    SKIP = "SKIP"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        group, name: its place in the tree.
        status: OK; NG if a task would fail because of it; SKIP if it can't be known or does not apply.
        text: what was seen, in one sentence.
        fix: the command that fixes it, perhaps with a comment; None unless the status is NG.
        exit_code: the exit code of `ecs-migrate` for this problem; 0 unless the status is NG.
    """

    group: str
    name: str
    status: Status
    text: str
    fix: str | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Report:
    """The findings of all checks, in the order of the tree."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0 if nothing is NG; else the exit code of the first NG."""
        return next((finding.exit_code for finding in self.findings if finding.status is Status.NG), 0)

    def count(self, status: Status) -> int:
        """Return the number of findings with this status."""
        return sum(finding.status is status for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "exit_code": self.exit_code,
            "ok": self.count(Status.OK),
            "ng": self.count(Status.NG),
            "skip": self.count(Status.SKIP),
            "checks": [
                {
                    "group": finding.group,
                    "name": finding.name,
                    "status": finding.status.value,
                    "text": finding.text,
                    "fix": finding.fix,
                }
                for finding in self.findings
            ],
        }


class WrongError(LauncherError):
    """A check's finding is NG; the hint is the command that fixes it.

    Attributes:
        exit_code: the exit code of `ecs-migrate` for this problem.
    """

    def __init__(self, message: str, *, fix: str, exit_code: int = 20) -> None:
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
        self._outcome: tuple[T | None, LauncherError | SkippedError | None] | None = None

    def get(self) -> T:
        """Return the fact; an error of the lookup is raised again each time."""
        with self._lock:
            if self._outcome is None:
                try:
                    self._outcome = (self._look_up(), None)
                except (LauncherError, SkippedError) as error:
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
        except (LauncherError, SkippedError) as error:
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
    except LauncherError as error:
        return _wrong(check, error, options)


def _wrong(check: Check[F], error: LauncherError, options: str) -> Finding:
    fix = error.hint if isinstance(error, WrongError) else _command(error.hint or "", options)
    return Finding(check.group, check.name, Status.NG, error.message, fix, error.exit_code)


def _command(hint: str, options: str) -> str:
    """Return the command in a hint, with the rest as a comment; without a command, `launcher doctor`."""
    found = _COMMAND.search(hint)
    command, words = "launcher doctor", hint
    if found is not None:
        command, words = found["within"] or found["last"], hint if found["within"] else hint[: found.start()]
    if command.startswith("launcher ") and options and "--environment" not in command:
        program, name, *rest = command.split(" ", 2)
        command = " ".join((program, name, options, *rest))
    return f"{command}   # {words}" if words else command


def lines(report: Report, columns: int) -> Iterator[tuple[str, str]]:
    """Yield the tree's lines, each with a style: a status's name, `group`, `fix` or `sum`.

    Sentences are wrapped at `columns`; commands never are, so that they can be copied.
    """
    width = max((len(finding.name) for finding in report.findings), default=0)
    group = None
    for finding in report.findings:
        if finding.group != group:
            group = finding.group
            yield "group", group
        head = f"  {finding.status.value:<4}  {finding.name:<{width}}  "
        text = textwrap.wrap(
            head + finding.text,
            max(columns, len(head) + 20),
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from ((finding.status.value, line) for line in text)
        if finding.fix is not None:
            yield "fix", f"        {finding.fix}"
    yield "sum", ", ".join(f"{report.count(status)} {status}" for status in Status if report.count(status))
