"""SIGINT, SIGTERM and the deadline end a statement that is running on the server, not only this process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import NoReturn, TypeVar

from neuraknot_db import settings
from neuraknot_db.database import display
from neuraknot_db.errors import InterruptedRunError

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

CANCEL_TIMEOUT = 2.0
"""Seconds to wait until the cancel request is sent."""

ENDING_TIMEOUT = 5.0
"""Seconds that the server has to answer it, and then the run to end, before the process ends itself."""

_LAST_WORDS_TIMEOUT = 1.0
"""Seconds to write `last_words`: the reader of standard error may have stopped."""

last_words: Callable[[int], None] | None = None
"""Called with a signal's number when this process is about to end itself."""

deadline: float | None = None
"""When `end_at` ends the run, in seconds since 1970."""


class _Signals:
    """What a signal should end, and whether one was received.

    Attributes:
        cancels: each asks the server to cancel what one session runs, the newest last.
        received: the signal's number; None before it.
        sent: set once the cancel requests are sent.
        patience: when the process ends itself, on the monotonic clock; None before a signal.
        finishing: whether the work is done, so that only the last output can be ended.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.cancels = [cancel]
        self.received: int | None = None
        self.sent = threading.Event()
        self.patience: float | None = None
        self.finishing = False

    def expect_an_end(self) -> None:
        """Give the server, or the run, ENDING_TIMEOUT from now."""
        self.patience = time.monotonic() + ENDING_TIMEOUT


_signals: _Signals | None = None
"""Set while `cancelling` is open; a process has one set of handlers."""


@contextlib.contextmanager
def cancelling(cancel: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While open, SIGINT and SIGTERM cancel a session's statement and raise InterruptedRunError.

    psycopg2 waits inside libpq, where Python runs no signal handler until the statement ends. A thread that the
    signal wakes through a socket has the statement cancelled; then libpq returns, and the handler raises. If no
    answer comes within ENDING_TIMEOUT, or at once on a second signal, that thread ends the process. Outside of the
    main thread, which alone may handle signals, this does nothing; within another `cancelling`, the signals cancel
    this session's statement as well.

    Args:
        cancel: asks the server to cancel what the session runs; harmless when nothing runs. It lets other threads
            run meanwhile, and may never return.
    """
    global _signals, deadline
    if _signals is not None:
        yield from _also(_signals, cancel)
        return
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _signals = signals = _Signals(cancel)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    previous = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    watcher = threading.Thread(target=_end_when_woken, args=(woken, signals), daemon=True)
    watcher.start()
    previous_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    try:
        # Not earlier: an exception raised during a thread's start would be lost as a KeyError.
        for number in SIGNALS:
            signal.signal(number, _raising(signals))
        yield
    except Exception as error:
        told = interruption(error)
        if told is None or told is error:
            raise
        raise told from error
    finally:
        if deadline is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        _signals = deadline = None
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        waker.close()
        watcher.join(CANCEL_TIMEOUT)
        woken.close()


def _also(signals: _Signals, cancel: Callable[[], None]) -> Iterator[None]:
    signals.cancels.append(cancel)
    try:
        yield
    finally:
        signals.cancels.remove(cancel)


def end_at(moment: float | None) -> None:
    """Have SIGALRM end the work within `cancelling` at a time in seconds since 1970, as SIGTERM would; None for never.

    The timer counts the seconds until then: where a clock is set meanwhile, the run is as long as it was to be.
    """
    global deadline
    if moment is not None and _signals is not None:
        deadline = moment
        signal.signal(signal.SIGALRM, _raising(_signals))
        signal.setitimer(signal.ITIMER_REAL, max(moment - time.time(), 0.001))


def until() -> str:
    """Return the deadline as the end of a sentence; empty without one."""
    if deadline is None:
        return ""
    return f", until {settings.utc(deadline)} (in {display.duration(1000 * (deadline - time.time()))})"


def interruption(error: BaseException | None = None) -> InterruptedRunError | None:
    """Return the interruption behind an error that followed a signal, such as that of a cancelled statement."""
    if isinstance(error, InterruptedRunError):
        return error
    if _signals is None or _signals.received is None:
        return None
    return interrupted(_signals.received)


def check() -> None:
    """Raise if a signal was received: psycopg2 swallows what is raised while it works.

    Raises:
        InterruptedRunError: a signal was received.
    """
    if _signals is not None and _signals.received is not None:
        raise interrupted(_signals.received)


def finish() -> None:
    """Mark the work as done: from here on a signal raises nothing, and ends the process after ENDING_TIMEOUT."""
    if _signals is not None:
        _signals.finishing = True


def waiting_for(call: Callable[[], T]) -> T:
    """Return the result of a call that waits inside libpq, such as a login, without delaying signals."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            result.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return result.result()


def name_of(number: int) -> str:
    """Return what a signal did to the run, as the beginning of a sentence."""
    if number == signal.SIGALRM:
        return f"Out of time: the deadline of {settings.utc(deadline or 0)} passed"
    return "Interrupted" if number == signal.SIGINT else "Terminated"


def interrupted(number: int) -> InterruptedRunError:
    """Return the error of a run that a signal ended."""
    return InterruptedRunError(
        f"{name_of(number)}.", signal_number=number, hint="`neuraknot-db log` shows what was run until then."
    )


def unanswered(number: int) -> InterruptedRunError:
    """Return the error of a run whose process ends itself."""
    return InterruptedRunError(
        f"{name_of(number)}; the run did not end and was cut off: whether what was in progress is committed is not"
        " known.",
        signal_number=number,
        hint="Its locks may be held until the server misses this run. Ask it once it answers: alembic current, and"
        " neuraknot-db log.",
    )


def _raising(signals: _Signals) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        if signals.received is not None or signals.finishing:
            return  # the thread handles a second signal, and blocked last output
        signals.received = number
        # A cancel request still in flight would hit whatever cleans up after this.
        signals.sent.wait(CANCEL_TIMEOUT)
        signals.expect_an_end()
        # psycopg2 decodes the server's error, and would print an exception raised there and go on; its own comes next.
        if frame is None or not frame.f_globals.get("__name__", "").startswith("encodings."):
            raise interrupted(number)

    return handle


def _end_when_woken(woken: socket.socket, signals: _Signals) -> None:
    first: int | None = None
    while True:
        left = None if signals.patience is None else signals.patience - time.monotonic()
        if left is not None and left <= 0:
            _end(signals.received or first or signal.SIGTERM)
        if not select.select([woken], [], [], left)[0]:
            continue  # it may have been extended
        numbers = woken.recv(16)
        if not numbers:
            return
        for number in numbers:
            if first is None and number in (SIGNALS if deadline is None else (*SIGNALS, signal.SIGALRM)):
                first = number
                signals.expect_an_end()
                threading.Thread(target=_cancel, args=(signals,), daemon=True).start()
            elif first in SIGNALS and number in SIGNALS:  # a deadline beside a signal is nobody's impatience
                _end(first)


def _cancel(signals: _Signals) -> None:
    for cancel in reversed(signals.cancels):
        # A session that has already ended has nothing to cancel.
        with contextlib.suppress(Exception):
            cancel()
    signals.sent.set()


def _end(number: int) -> NoReturn:
    """End the process immediately: every other thread may wait for a peer that never answers."""
    if last_words is not None:
        speaker = threading.Thread(target=last_words, args=(number,), daemon=True)
        speaker.start()
        speaker.join(_LAST_WORDS_TIMEOUT)
    os._exit(unanswered(number).exit_code)
