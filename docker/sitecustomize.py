"""Python imports this before anything else in the container: what a short-lived process 1 needs."""

import _thread
import atexit
import gc
import os
import signal

# As in neuraknot_db.cli.console, but before the imports, which make 90,000 objects and hardly any garbage: looking for
# it took a third of their time at a quarter of a core. A run that makes much more still has it collected.
gc.set_threshold(200_000)
atexit.register(gc.freeze)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process at once, as it ends any other.

    The kernel takes the default action from process 1. A handler of Python's would wait for C code to return, such as
    libpq while it connects; a thread that the signal wakes does not. While a migration is under way,
    neuraknot_db.database.interrupt stands in its place.
    """
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGTERM, lambda *_: None)

    def wait() -> None:
        while os.read(woken, 1)[0] != signal.SIGTERM:
            pass
        try:
            os.write(2, b"Terminated before anything was begun, or after all was done.\n")
        finally:  # whether or not anybody can read it
            os._exit(128 + signal.SIGTERM)

    _thread.start_new_thread(wait, ())


if os.getpid() == 1:
    end_on_sigterm()
