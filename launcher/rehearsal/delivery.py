"""How a container's lines reach CloudWatch Logs: at once, late, or never."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, field

from launcher.rehearsal.api import Refusal
from launcher.rehearsal.awslogs import LogDriver
from launcher.rehearsal.program import Lines


@dataclass(frozen=True)
class LogStream:
    """A log stream.

    Attributes:
        group, stream: their names.
    """

    group: str
    stream: str


@dataclass(frozen=True)
class Travel:
    """How lines are delivered.

    Attributes:
        delay: seconds from a line's output to its arrival.
        stream_delay: seconds from the container's start until its stream exists.
        same_time: give every line the timestamp of the container's start.
        lost: never write anything.
    """

    delay: float = 0.0
    stream_delay: float = 0.0
    same_time: bool = False
    lost: bool = False


@dataclass(order=True)
class _Parcel:
    due: float
    number: int
    stream: LogStream = field(compare=False)
    lines: Lines | None = field(compare=False)  # None creates the stream


class LogDelivery:
    """Takes lines from containers and passes them to the driver when they are due.

    Attributes:
        travel: how lines are delivered.
    """

    def __init__(self, driver: LogDriver) -> None:
        self.travel = Travel()
        self._driver = driver
        self._parcels: list[_Parcel] = []
        self._numbers = itertools.count()

    def begin(self, stream: LogStream, started: float) -> None:
        """Schedule the log stream of a container that has started."""
        self._send(started + self.travel.stream_delay, stream, None)

    def take(self, stream: LogStream, started: float, lines: Lines) -> None:
        """Schedule a container's lines, which have the times of their output."""
        stream_there = started + self.travel.stream_delay
        for at, text in lines:
            stamp = started if self.travel.same_time else at
            self._send(max(stream_there, at + self.travel.delay), stream, [(stamp, text)])

    def deliver(self, now: float) -> None:
        """Write everything that is due by `now`; what CloudWatch refuses is lost, as with the real driver."""
        due = sorted(parcel for parcel in self._parcels if parcel.due <= now)
        self._parcels = [parcel for parcel in self._parcels if parcel.due > now]
        for _, together in itertools.groupby(due, key=lambda parcel: (parcel.stream, parcel.lines is None)):
            parcels = list(together)
            lines = [line for parcel in parcels for line in parcel.lines or ()]
            stream = parcels[0].stream
            with suppress(Refusal):
                if lines:
                    self._driver.put(stream.group, stream.stream, lines)
                else:
                    self._driver.create_stream(stream.group, stream.stream)

    def _send(self, due: float, stream: LogStream, lines: Lines | None) -> None:
        if not self.travel.lost:
            self._parcels.append(_Parcel(due, next(self._numbers), stream, lines))
