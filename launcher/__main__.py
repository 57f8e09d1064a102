"""`python -m launcher`, and the program `launcher`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

from launcher.errors import ExitCode

_EXTRA = {"typer", "rich", "boto3", "botocore", "hcl2", "lark"}


def main() -> None:
    """Run the command line, or say what it can't run without."""
    if not hasattr(signal, "SIGHUP"):  # it stops tasks by signals that Windows does not have
        sys.stderr.write("Error: The launcher runs on Linux and macOS.\nHint: On Windows, run it in WSL.\n")
        sys.exit(ExitCode.CONFIGURATION)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        from launcher.cli.main import main

        main()
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] in _EXTRA:
            sys.stderr.write(
                f"Error: The launcher needs {error.name}, which is not installed.\n"
                "Hint: Install the extra, in a checkout: pip install '.[launcher]'\n"
            )
            sys.exit(ExitCode.CONFIGURATION)
        raise


def _end(number: int, _: FrameType | None) -> None:
    """Exit at once: there is nothing to clean up yet (or any more), and an import may swallow an exception."""
    with contextlib.suppress(OSError):  # the reader may be gone
        os.write(2, f"Error: Interrupted by {signal.Signals(number).name}.\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
