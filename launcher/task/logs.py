"""A task's log stream, followed from its head to its last line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from launcher.errors import AccessDeniedError, AwsError
from launcher.models import Clock, ContainerReport

if TYPE_CHECKING:
    from launcher.aws.client import LogPage
    from launcher.machine.signals import Interrupts

QUIET = 3.0
"""Seconds without a new line after which a log without a result is taken to be complete."""
PATIENCE = 30.0
"""The same where the report decides: CloudWatch may show a line that late."""
_PAUSE = 0.5
_FULL = 1000
_PAGES = 50
"""Pages of one read, some seconds' worth: whoever watches looks at the time and at the task in between."""


class LogReader(Protocol):
    """Reads pages of a log stream."""

    def log_events(self, group: str, stream: str, token: str | None = None) -> LogPage | None:
        """The page at `token`; None while there is no such stream."""
        ...


@dataclass(frozen=True)
class Interruptible:
    """A reader whose answer is not waited for once a signal wants the task to be stopped.

    Attributes:
        reader: reads the pages.
        interrupts: what signals say.
    """

    reader: LogReader
    interrupts: Interrupts

    def log_events(self, group: str, stream: str, token: str | None = None) -> LogPage | None:
        """The page at `token`; None while there is no such stream, or if a signal came first."""
        return self.interrupts.cut_short(lambda: self.reader.log_events(group, stream, token))


@dataclass(frozen=True)
class LogLine:
    """A line of the container's output.

    Attributes:
        at: seconds since the epoch.
        text: the line.
    """

    at: float
    text: str


class LogFollower:
    """Reads one stream by its tokens, so that no line is lost or shown twice, whatever its timestamp.

    Attributes:
        group, stream: where it reads.
        found: whether the stream exists.
        report: the container's last line, if it is the JSON object that the launcher asks for; it is not shown.
        refused: why the log can't be read, if the caller may not.
        unread: why the last try to read it failed; None where it did not.
        wrong_architecture: whether the kernel said that it can't run such a program.
    """

    def __init__(self, reader: LogReader, group: str, stream: str) -> None:
        self.group = group
        self.stream = stream
        self.found = False
        self.report: ContainerReport | None = None
        self.refused: AccessDeniedError | None = None
        self.unread: AwsError | None = None
        self.wrong_architecture = False
        self._reader = reader
        self._token: str | None = None
        self._at_end = self._more = False

    def read(self) -> Iterator[LogLine]:
        """The lines that have come since the last call; none if the stream is not there yet, or can't be read now."""
        self._more = False
        for _ in range(_PAGES):
            page = self._page()
            if page is None:
                return
            self._at_end = page.token == self._token
            self._token = page.token
            for event in page.events:
                text = event.get("message", "").rstrip("\r\n")
                report = ContainerReport.parse(text)
                self.wrong_architecture = self.wrong_architecture or "exec format error" in text
                if report is None:
                    yield LogLine(event.get("timestamp", 0) / 1000, text)
                else:
                    self.report = report
            # A full page has more behind it; an empty one whose token is new may have, and AWS says to read on.
            if len(page.events) < _FULL and (page.events or self._at_end):
                return
        self._more = True

    def drain(self, clock: Clock, quiet: float = QUIET) -> Iterator[LogLine]:
        """Every line that is still to come once the container has ended.

        The end is where the token repeats, and either the container's last line is here, or nothing has come for
        `quiet` seconds: CloudWatch shows lines some time after they were printed.
        """
        self._at_end = False
        deadline = clock.now() + quiet
        while self.refused is None:
            got = False
            for line in self.read():
                got = True
                yield line
            if got:
                deadline = clock.now() + quiet
            # Empty pages may have lines behind them.
            patience = PATIENCE if self._more else 0.0
            if not got and ((self._at_end and self.report is not None) or clock.now() >= deadline + patience):
                return
            if not (got and self.report is not None):
                clock.sleep(_PAUSE)

    @property
    def gap(self) -> str:
        """Why there is no report, in a sentence."""
        if self.refused is not None:
            return f"its log, which holds its report, may not be read. {self.refused.message}"
        if self.unread is not None:
            return f"its log, which holds its report, could not be read to the end. {self.unread.message}"
        if not self.found:
            return f"its log, which holds its report, is not there: {self.group}, {self.stream}."
        return "its log ends without its report."

    def _page(self) -> LogPage | None:
        if self.refused is not None:
            return None
        try:
            page = self._reader.log_events(self.group, self.stream, self._token)
        except AccessDeniedError as error:
            self.refused = self.unread = error
            return None
        except AwsError as error:  # whether it is throttled or signed out: the task's state tells, not its log
            self.unread = error
            return None
        self.unread = None
        self.found = self.found or page is not None
        return page
