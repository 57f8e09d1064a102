"""Ctrl-C and SIGTERM: before a task there is they end the launcher; after that the first one ends the task."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from launcher.errors import InterruptedLaunchError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Signal(KeyboardInterrupt):
    """On its way from the handler to whoever handles signals; libraries that catch every `Exception` let it through."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """What the launcher was told by signals.

    Attributes:
        signal_number: the first signal that came while they were held; None if none did.
        hint: what to tell whoever interrupts a second time.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.hint: str | None = None
        self._held = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Turn both signals into `InterruptedLaunchError`s; in the main thread, and as deep as one likes."""
        before = [signal.signal(number, self._handle) for number in SIGNALS]
        try:
            yield
        except _Signal as interrupt:
            name = signal.Signals(interrupt.number).name
            message = f"Let go by {name}; the task goes on by itself."
            raise InterruptedLaunchError(
                message if self.hint else f"Interrupted by {name}; no task was started.",
                signal_number=interrupt.number,
                hint=self.hint,
            ) from None
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Only note the first signal; a second one is raised all the same."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._held and self.signal_number is None:
            self.signal_number = number
            return
        raise _Signal(number)
