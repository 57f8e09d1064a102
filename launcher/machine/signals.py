"""Ctrl-C, SIGTERM and SIGHUP: before there is a task they end the launcher; after that the first one ends the task."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from launcher.errors import InterruptedLaunchError, LauncherError, OutcomeUnknownError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that are always handled; SIGHUP too, unless it is ignored, as under `nohup`."""

T = TypeVar("T")


@contextmanager
def put_off() -> Iterator[None]:
    """Let no handler of a signal run before the end; in another thread than the main one, none runs anyway."""
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGHUP)}
    # One that is ignored stays so: a program that is started inherits that.
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread():
        ours = {}
    for number in ours:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    for late in came:
        signal.raise_signal(late)


class Signalled(BaseException):
    """Carries a signal from the handler to the code that deals with it.

    No library that catches `Exception` stops it, nor does typer, which exits silently on `KeyboardInterrupt`.

    Attributes:
        number: the signal number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _CutShort(BaseException):
    """Ends a wait on the first held signal; never leaves `cut_short`."""


class Interrupts:
    """The signals that the launcher received.

    Attributes:
        signal_number: the first signal received while signals were held; None if there was none.
        being_handled: whether that signal is being acted on, so that nothing is cut short any more.
        hint: what to do about the task if the launcher ends now; None before there is one, and once it is over.
        fate: what is then known about the task, as the end of a sentence; None for the default.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.signal_number: int | None = None
        self.being_handled = False
        self.hint: str | None = None
        self.fate: str | None = None
        self._held = self._waiting = self._hung_up = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Turn signals into errors that say what is known about the task; main thread only, may be nested.

        Raises:
            InterruptedLaunchError: a signal came.
            OutcomeUnknownError: the launcher has a bug while there may be a task; the traceback is in the details.
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
        """Only record the first signal; a second one is raised."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def cut_short(self, call: Callable[[], T]) -> T | None:
        """Return the result of `call`; None if the first held signal comes meanwhile, or is still pending.

        Args:
            call: waits or reads, and may safely be abandoned half-way.
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
        """Whether a recorded signal has not been acted on yet."""
        return self.signal_number is not None and not self.being_handled

    def end(self) -> NoReturn:
        """End the launcher for the recorded signal, as there is no task to stop."""
        assert self.signal_number is not None
        self.hint = self.fate = None
        raise Signalled(self.signal_number)

    def _known_fate(self) -> str:
        return self.fate or ("the task goes on by itself" if self.hint else "no task was started")

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:  # a closing terminal sends it up to three times; that is not a second request
            if self._hung_up:
                return
            self._hung_up = True
        waiting, self._waiting = self._waiting, False
        if not self._held or self.signal_number is not None:
            raise Signalled(number)
        self.signal_number = number
        if waiting and not self.being_handled:
            raise _CutShort
