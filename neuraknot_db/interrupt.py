"""SIGINT and SIGTERM end a statement that is running on the server, not only this process."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import Protocol, TypeVar

from neuraknot_db.errors import InterruptedRunError

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

CANCEL_TIMEOUT = 2.0
"""Seconds to wait for the cancel request to be taken."""


class Cancellable(Protocol):
    """A database connection whose running statement another thread can cancel, as psycopg2's can."""

    def cancel(self) -> None:
        """Ask the server to cancel what runs now; harmless when nothing does."""


class _Signals:
    """What a signal is to end, and whether one has come.

    Attributes:
        connections: those whose statements it cancels, the newest last.
        received: the signal's number, None before it.
        sent: set once the cancel requests are.
    """

    def __init__(self, connection: Cancellable) -> None:
        self.connections = [connection]
        self.received: int | None = None
        self.sent = threading.Event()


_signals: _Signals | None = None
"""While a session is open; a process has one set of handlers."""


@contextlib.contextmanager
def cancelling(connection: Cancellable) -> Iterator[None]:
    """While this is open, SIGINT and SIGTERM cancel the connection's statement and raise InterruptedRunError.

    psycopg2 waits inside libpq, where Python runs no signal handler until the statement ends. A thread that the
    signal wakes through a socket sends the cancel request; libpq then returns, and the handler raises. The second
    signal finds the default action again. Outside of the main thread, which alone may handle signals, this does
    nothing; within another `cancelling`, the signals end this connection's statement as well.
    """
    global _signals
    if _signals is not None:
        yield from _also(_signals, connection)
        return
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _signals = signals = _Signals(connection)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    previous = {number: signal.signal(number, _raising(signals)) for number in SIGNALS}
    previous_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    canceller = threading.Thread(target=_cancel_when_woken, args=(woken, signals), daemon=True)
    canceller.start()
    try:
        yield
    except Exception as error:
        told = interruption(error)
        if told is None or told is error:
            raise
        raise told from error
    finally:
        _signals = None
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        waker.close()
        canceller.join(CANCEL_TIMEOUT)
        woken.close()


def _also(signals: _Signals, connection: Cancellable) -> Iterator[None]:
    signals.connections.append(connection)
    try:
        yield
    finally:
        signals.connections.remove(connection)


def interruption(error: BaseException | None = None) -> InterruptedRunError | None:
    """What an error really is that came after a signal: the server's word of the cancelled statement, say."""
    if isinstance(error, InterruptedRunError):
        return error
    if _signals is None or _signals.received is None:
        return None
    return _interrupted(_signals.received)


def check() -> None:
    """Go on only if no signal came: psycopg2 swallows what is raised while it works.

    Raises:
        InterruptedRunError: one came.
    """
    if _signals is not None and _signals.received is not None:
        raise _interrupted(_signals.received)


def waiting_for(call: Callable[[], T]) -> T:
    """The result of a call that waits inside libpq, such as a login, without keeping signals waiting."""
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


def name_of(exit_code: int) -> str:
    """What a signal did to the run, from the exit code that stands for it."""
    return "Interrupted" if exit_code == 128 + signal.SIGINT else "Terminated"


def _interrupted(number: int) -> InterruptedRunError:
    return InterruptedRunError(f"{name_of(128 + number)}.", signal_number=number)


def _raising(signals: _Signals) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        signals.received = number
        # A cancel request that is still on its way would hit whatever cleans up after this.
        signals.sent.wait(CANCEL_TIMEOUT)
        # psycopg2 decodes the server's error, and would print what is raised there and go on: its own error comes next.
        if frame is None or not frame.f_globals.get("__name__", "").startswith("encodings."):
            raise _interrupted(number)

    return handle


def _cancel_when_woken(woken: socket.socket, signals: _Signals) -> None:
    while numbers := woken.recv(16):
        if any(number in numbers for number in SIGNALS):
            for connection in tuple(signals.connections):
                # A connection that is closed already has nothing to cancel.
                with contextlib.suppress(Exception):
                    connection.cancel()
            signals.sent.set()
