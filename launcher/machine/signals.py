"""Ctrl-C, SIGTERM and SIGHUP: before a task there is they end the launcher; after that the first one ends the task."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from launcher.errors import InterruptedLaunchError, LauncherError, OutcomeUnknownError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Besides SIGHUP, unless that is ignored, as `nohup` has it."""

T = TypeVar("T")


class Signalled(BaseException):
    """On its way from the handler to whoever handles signals.

    No library that catches every `Exception` stops it, nor typer, which ends without a word at a `KeyboardInterrupt`.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _CutShort(BaseException):
    """Takes the first signal that was held out of whatever waits; it gets no further than `cut_short`."""


class Interrupts:
    """What the launcher was told by signals.

    Attributes:
        signal_number: the first signal that came while they were held; None if none did.
        heeded: whether somebody acts on that one, so that nothing is cut short any more.
        hint: what to do about the task if it is let go now; None before there is one, and once it is over.
        fate: what is then known of the task, as the end of a sentence; None for the usual.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.signal_number: int | None = None
        self.heeded = False
        self.hint: str | None = None
        self.fate: str | None = None
        self._held = self._waiting = self._hung_up = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Turn signals into errors that say what is known of the task; in the main thread, and as deep as one likes.

        Raises:
            InterruptedLaunchError: a signal came.
            OutcomeUnknownError: a defect of ours came up while there may be a task; its traceback is in the details.
        """
        self._forget()
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        numbers = SIGNALS if nohup else (*SIGNALS, signal.SIGHUP)
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield
        except Signalled as interrupt:
            name = signal.Signals(interrupt.number).name
            raise InterruptedLaunchError(
                f"{'Let go' if self.hint and not self.fate else 'Interrupted'} by {name}; {self._known_fate()}.",
                signal_number=interrupt.number,
                hint=self.hint,
            ) from None
        except LauncherError:
            raise
        except Exception as defect:
            if self.hint is None:  # there is no task, or it is over
                raise
            raise OutcomeUnknownError(
                f"The launcher broke off by a defect of its own, {type(defect).__name__}; {self._known_fate()}.",
                hint=self.hint,
                details=tuple(traceback.format_exc().splitlines()),
            ) from defect
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Only note the first signal; a second one is raised all the same."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def cut_short(self, call: Callable[[], T]) -> T | None:
        """What `call` gives; None if the first signal that is held comes meanwhile, or came and is not heeded yet.

        Args:
            call: something that waits or reads, and does no harm when it is left half-way.
        """
        try:
            self._waiting = True
            try:
                return None if self.pending else call()
            finally:
                self._waiting = False
        except _CutShort:
            return None

    @property
    def pending(self) -> bool:
        """Whether a signal was noted that nobody acts on yet."""
        return self.signal_number is not None and not self.heeded

    def end(self) -> NoReturn:
        """End the launcher for the signal that was noted, since there is no task to stop."""
        assert self.signal_number is not None
        self.hint = self.fate = None
        raise Signalled(self.signal_number)

    def _known_fate(self) -> str:
        return self.fate or ("the task goes on by itself" if self.hint else "no task was started")

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:  # a terminal that closes says so up to three times; nobody is impatient there
            if self._hung_up:
                return
            self._hung_up = True
        waiting, self._waiting = self._waiting, False
        if not self._held or self.signal_number is not None:
            raise Signalled(number)
        self.signal_number = number
        if waiting and not self.heeded:
            raise _CutShort
