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


@contextlib.contextmanager
def cancelling(connection: Cancellable) -> Iterator[None]:
    """While this is open, SIGINT and SIGTERM cancel the connection's statement and raise InterruptedRunError.

    psycopg2 waits inside libpq, where Python runs no signal handler until the statement ends. A thread that the
    signal wakes through a socket sends the cancel request; libpq then returns, and the handler raises. The second
    signal finds the default action again. Outside of the main thread, which alone may handle signals, this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    sent = threading.Event()
    previous = {number: signal.signal(number, _raising(sent)) for number in SIGNALS}
    previous_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    canceller = threading.Thread(target=_cancel_when_woken, args=(woken, connection, sent), daemon=True)
    canceller.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        waker.close()
        canceller.join(CANCEL_TIMEOUT)
        woken.close()


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


def _raising(sent: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # A cancel request that is still on its way would hit whatever cleans up after this.
        sent.wait(CANCEL_TIMEOUT)
        name = "Interrupted" if number == signal.SIGINT else "Terminated"
        raise InterruptedRunError(f"{name}; what was in progress is rolled back.", signal_number=number)

    return handle


def _cancel_when_woken(woken: socket.socket, connection: Cancellable, sent: threading.Event) -> None:
    while numbers := woken.recv(16):
        if any(number in numbers for number in SIGNALS):
            # A connection that is closed already has nothing to cancel.
            with contextlib.suppress(Exception):
                connection.cancel()
            sent.set()
