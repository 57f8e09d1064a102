"""What a person and the launcher get to see: narration and errors on standard error, data on standard output."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import logging
import shutil
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from alembic.config import Config

from neuraknot_db import settings
from neuraknot_db.cli import streams
from neuraknot_db.database import diagnosis, interrupt
from neuraknot_db.database.redaction import redacted, redacted_within
from neuraknot_db.errors import NeuraknotError
from neuraknot_db.migrate.outcome import Outcome

log = logging.getLogger("neuraknot_db")
"""The narration; `-q` leaves warnings and errors only."""

RESULT_FORMAT = 1

_SIGNALLED = 128
"""Exit codes from here on stand for a signal."""

_EXITED = """error: alembic/env.py, or what it runs, ended this process by sys.exit().
hint: Take that out. Where the database is: alembic current, and neuraknot-db log.
"""

_ELSEWHERE = "Run the command again, with its output elsewhere"


class _StandardError(logging.Handler):
    """Shows the narration; what has `in_one_line` as an extra is cut to the width of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if getattr(record, "in_one_line", False) and sys.stderr.isatty():
            line = redacted(line)  # of which a part could not be told any more
            width = shutil.get_terminal_size().columns
            line = line if len(line) <= width else line[: width - 1] + "…"
        sys.stderr.write(line + "\n")


log.addHandler(_StandardError())
log.propagate = False


def write(text: str) -> None:
    """Lines for a person on standard output."""
    sys.stdout.write(text + "\n")
    # Whoever reads a pipe waits for this line, such as the URL that `serve` prints.
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """A value as JSON on standard output; what a password in it would spoil are its texts alone."""
    text = json.dumps(redacted_within(value), ensure_ascii=False, indent=2)
    write_exactly("".join(each if streams.shows(each) else json.dumps(each)[1:-1] for each in text))


def write_exactly(text: str) -> None:
    """Data on standard output, as it stands, in UTF-8."""
    streams.carry_data()
    write(text)


@contextlib.contextmanager
def reporting(outcome: Outcome, config: Config) -> Iterator[None]:
    """The one place where an error becomes a message and an exit code.

    Args:
        outcome: printed as one JSON object, the last line on standard output, where NEURAKNOT_RESULT=json asks for it.
        config: Alembic's, with `-q` (no narration) and `--raiseerr` (a traceback, and exit code 1).

    Raises:
        SystemExit: with the exit code of the error that came, or of output that could not be written.
    """
    log.setLevel(logging.WARNING if getattr(config.cmd_opts, "quiet", False) else logging.INFO)
    _collect_less()
    failure: NeuraknotError | None = None
    code = 0
    with streams.guarded():
        before, config.stdout = config.stdout, sys.stdout
        interrupt.last_words = functools.partial(_last_words, outcome)
        # From here on, not only while a session is open: a login may get no answer either; nor may who reads the end.
        with interrupt.cancelling():
            try:
                with streams.impatient():
                    try:
                        yield
                    finally:
                        interrupt.finish()
            except KeyboardInterrupt:
                code = 130
                raise SystemExit(code) from None
            except SystemExit as stop:
                # With 0 it is not ours: whatever it cut short is not done.
                code = (stop.code if isinstance(stop.code, int) else 1) or 1
                if stop.code in (None, 0):
                    sys.stderr.write(_EXITED)
                raise SystemExit(code) from None
            except Exception as error:  # noqa: BLE001 - each becomes an exit code
                error = interrupt.interruption(error) or error
                failure = diagnosis.explain(error)
                raised = getattr(config.cmd_opts, "raiseerr", False)
                code = failure.exit_code if failure and not raised else 1
                # Python would print a traceback after the streams are its own again, with every password in it.
                sys.stderr.write(traceback.format_exc() if raised or failure is None else f"{rendered(failure)}\n")
                raise SystemExit(code) from None
            finally:
                config.stdout, interrupt.last_words = before, None
                wanted = settings.origin().result_as_json
                if wanted:
                    write_exactly(_result(outcome, code, failure))
                again = "alembic current says where the database is" if outcome.targeted else _ELSEWHERE
                demand_written(code, asked_for=wanted or not outcome.targeted, reported=wanted, hint=again)


def demand_written(
    code: int | str | None, *, asked_for: bool = True, reported: bool = False, hint: str = _ELSEWHERE
) -> None:
    """End with 1 where the work is done, and data on standard output could not be written.

    Args:
        code: the exit code so far; a failure's own is kept.
        asked_for: whether there is such data: what a migration says in passing is none.
        reported: whether a program waits for it; of a reader like `head`, that has had enough, nothing is said.
        hint: what to do next.

    Raises:
        SystemExit: it could not.
    """
    lost = streams.take_loss()
    if lost is None or not asked_for:
        return
    if reported or not isinstance(lost, BrokenPipeError):
        done = "the work is done; its" if not code else "the"
        sys.stderr.write(f"error: {done} output could not be written: {lost.strerror}.\nhint: {hint}.\n")
    if not code:
        raise SystemExit(1)


def _last_words(outcome: Outcome, number: int) -> None:
    """Said by the thread that ends the process, since the server does not answer a run that was told to end."""
    outcome.found(None, None)
    failure = interrupt.unanswered(number)
    if settings.origin().result_as_json:
        write_exactly(_result(outcome, failure.exit_code, failure))
    sys.stderr.write(f"{rendered(failure)}\n")


def _collect_less() -> None:
    """Spare a process that lives for a second the search for garbage among what its imports have made."""
    gc.set_threshold(200_000)
    atexit.register(gc.freeze)


def rendered(error: NeuraknotError) -> str:
    """The lines that a person reads: the sentence, its details, the hint."""
    lines = [f"error: {error.message}", *(f"  {line}".rstrip() for line in error.details)]
    return "\n".join([*lines, f"hint: {error.hint}"] if error.hint else lines)


def _result(outcome: Outcome, code: int, failure: NeuraknotError | None) -> str:
    ended = "succeeded" if code == 0 else "interrupted" if code >= _SIGNALLED else "failed"
    return json.dumps(
        {
            "neuraknot_result": RESULT_FORMAT,
            "command": outcome.command,
            "before": outcome.before,
            "after": outcome.after,
            **({"target": outcome.target} if outcome.targeted else {}),
            "ran": outcome.ran,
            "outcome": "unknown" if outcome.unknown else ended,
            "exit_code": code,
            "error": redacted(failure.message) if failure else None if code == 0 else "see the log",
        }
    )
