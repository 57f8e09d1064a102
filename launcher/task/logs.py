"""A task's log stream, followed from its head to its last line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from launcher.errors import AccessDeniedError, AwsError
from launcher.models import CLOCKS_DIFFER, Clock, ContainerReport

if TYPE_CHECKING:
    from launcher.aws.client import LogPage
    from launcher.machine.signals import Interrupts

QUIET = 3.0
"""Seconds without a new line after which a log counts as complete, if no report is to come."""
REPORT_LATE = 15.0
"""The same while the report is missing: CloudWatch may deliver the last lines that late."""
PATIENCE = 30.0
"""The same where the report decides, and behind empty pages."""
OVER = CLOCKS_DIFFER + PATIENCE
"""Seconds after a container's end, on clocks that may differ, from which on no more lines are expected."""
_PAUSE = 0.5
_FULL = 1000
_PAGES = 50
"""Pages per read, a few seconds' worth: the watcher checks the time and the task between reads."""


class LogReader(Protocol):
    """Reads pages of a log stream."""

    def log_events(self, group: str, stream: str, token: str | None = None) -> LogPage | None:
        """Return the page at `token`; None while the stream does not exist."""
        ...


@dataclass(frozen=True)
class Interruptible:
    """A reader that stops waiting for a response once a signal asks to stop the task.

    Attributes:
        reader: reads the pages.
        interrupts: the signals received.
    """

    reader: LogReader
    interrupts: Interrupts

    def log_events(self, group: str, stream: str, token: str | None = None) -> LogPage | None:
        """Return the page at `token`; None while the stream does not exist, or if a signal came first."""
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
    """Reads one stream by its tokens, so that no line is lost or repeated, whatever its timestamp.

    Attributes:
        group, stream: the log group and stream that are read.
        found: whether the stream exists.
        report: the container's report, if its last line is one; that line is not shown.
        refused: the error, if the caller may not read the log.
        unread: the error of the last read; None if it succeeded.
        wrong_architecture: whether the log has the kernel's `exec format error`.
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
        self._at_end = self._more = self._gone = False

    def read(self) -> Iterator[LogLine]:
        """Yield the lines since the last call; none if the stream does not exist yet or can't be read now."""
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
            # More follows a full page, and may follow an empty one with a new token: AWS says to read on.
            if len(page.events) < _FULL and (page.events or self._at_end):
                return
        self._more = True

    def drain(self, clock: Clock, quiet: float = QUIET) -> Iterator[LogLine]:
        """Yield the remaining lines once the container has ended.

        The log ends when the token repeats and the report has arrived, or when nothing has arrived for `quiet` seconds:
        CloudWatch delivers lines some time after they were printed.
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
            # More lines may follow empty pages.
            patience = PATIENCE if self._more else 0.0
            if not got and ((self._at_end and self.report is not None) or clock.now() >= deadline + patience):
                return
            if not (got and self.report is not None):
                clock.sleep(_PAUSE)

    @property
    def missing(self) -> str | None:
        """Why lines may be missing that AWS has, in one sentence; None if it was read to its end."""
        if self.unread is not None:
            return self.unread.message
        if self._gone:
            return "The log stream is no longer there."
        return "AWS went on to give pages without lines." if self._more else None

    @property
    def gap(self) -> str:
        """Why there is no report, in one sentence."""
        if self.refused is not None:
            return f"its log, which holds its report, may not be read. {self.refused.message}"
        if self.missing is not None:
            return f"its log, which holds its report, could not be read to the end. {self.missing}"
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
        except AwsError as error:  # throttled or signed out: the task's state decides, not its log
            self.unread = error
            return None
        self.unread = None
        self._gone = self.found and page is None
        self.found = self.found or page is not None
        return page
