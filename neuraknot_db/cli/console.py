"""What a person and the launcher see: log lines and errors on standard error, data on standard output."""

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
from datetime import UTC, datetime
from typing import Any

from alembic.config import Config

from neuraknot_db import settings
from neuraknot_db.cli import streams
from neuraknot_db.database import diagnosis, display, interrupt
from neuraknot_db.database.redaction import redacted, redacted_within
from neuraknot_db.errors import InterruptedRunError, NeuraknotError
from neuraknot_db.migrate.outcome import Outcome

log = logging.getLogger("neuraknot_db")
"""Progress lines; `-q` leaves only warnings and errors."""

RESULT_FORMAT = 1

_SIGNALLED = 128
"""Exit codes from here on mean a signal."""

_EXITED = """Error: alembic/env.py, or what it runs, ended this process by sys.exit().
Hint: Take that out. Where the database is: alembic current, and neuraknot-db log.
"""

_ELSEWHERE = "Run the command again, with its output elsewhere"


class _StandardError(logging.Handler):
    """Shows log lines; those with the extra `in_one_line` are cut to the width of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        in_one_line = getattr(record, "in_one_line", False) and sys.stderr.isatty()
        line = display.cut(line, shutil.get_terminal_size().columns) if in_one_line else _fitted(line)
        sys.stderr.write(line + "\n")


log.addHandler(_StandardError())
log.propagate = False


def write(text: str) -> None:
    """Write lines for a person on standard output."""
    sys.stdout.write(text + "\n")
    # A reader of a pipe waits for this line, such as the URL that `serve` prints.
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """Write a value as JSON on standard output; redaction changes only its strings."""
    text = json.dumps(redacted_within(value), ensure_ascii=False, indent=2)
    write_exactly("".join(each if streams.shows(each) else json.dumps(each)[1:-1] for each in text))


def write_exactly(text: str) -> None:
    """Write data on standard output unchanged, in UTF-8."""
    streams.carry_data()
    write(text)


@contextlib.contextmanager
def reporting(outcome: Outcome, config: Config) -> Iterator[None]:
    """Turn errors into messages and exit codes, in this one place.

    Args:
        outcome: printed as a JSON object, the last line on standard output, if NEURAKNOT_RESULT=json.
        config: Alembic's, with `-q` (no log lines) and `--raiseerr` (a traceback, and exit code 1).

    Raises:
        SystemExit: with the error's exit code, or because output could not be written.
    """
    log.setLevel(logging.WARNING if getattr(config.cmd_opts, "quiet", False) else logging.INFO)
    _collect_less()
    failure: NeuraknotError | None = None
    code = 0
    with streams.guarded():
        before, config.stdout = config.stdout, sys.stdout
        interrupt.last_words = functools.partial(_last_words, outcome)
        # From here on, not only while a session is open: a login may hang too, and so may the reader of the output.
        with interrupt.cancelling():
            try:
                with streams.impatient():
                    try:
                        interrupt.end_at(settings.deadline())
                        yield
                    finally:
                        interrupt.finish()
            except KeyboardInterrupt:
                code = 130
                raise SystemExit(code) from None
            except SystemExit as stop:
                # Exit code 0 is not ours: whatever it cut short is not done.
                code = (stop.code if isinstance(stop.code, int) else 1) or 1
                if stop.code in (None, 0):
                    sys.stderr.write(_EXITED)
                raise SystemExit(code) from None
            except Exception as error:  # noqa: BLE001 - each becomes an exit code
                error = interrupt.interruption(error) or error
                failure = diagnosis.explain(error)
                raised = getattr(config.cmd_opts, "raiseerr", False)
                code = failure.exit_code if failure and not raised else 1
                # After the streams are restored, Python would print a traceback with every password in it.
                sys.stderr.write(traceback.format_exc() if raised or failure is None else f"{rendered(failure)}\n")
                raise SystemExit(code) from None
            finally:
                config.stdout, interrupt.last_words = before, None
                wanted = settings.origin().result_as_json
                if wanted:
                    write_exactly(_result(outcome, code, failure))
                again = "`alembic current` says where the database is" if outcome.targeted else _ELSEWHERE
                demand_written(code, asked_for=wanted or not outcome.targeted, reported=wanted, hint=again)


def demand_written(
    code: int | str | None, *, asked_for: bool = True, reported: bool = False, hint: str = _ELSEWHERE
) -> None:
    """Exit with 1 if the work is done, but data on standard output could not be written.

    Args:
        code: the exit code so far; that of a failure is kept.
        asked_for: whether there is such data; progress lines of a migration are none.
        reported: whether a program waits for it; otherwise a reader that closes early, like `head`, is not reported.
        hint: what to do next.

    Raises:
        SystemExit: it could not.
    """
    lost = streams.take_loss()
    if lost is None or not asked_for:
        return
    if reported or not isinstance(lost, BrokenPipeError):
        done = "The work is done; its" if not code else "The"
        sys.stderr.write(f"Error: {done} output could not be written: {lost.strerror}.\nHint: {hint}.\n")
    if not code:
        raise SystemExit(1)


def _last_words(outcome: Outcome, number: int) -> None:
    """Report from the thread that ends the process, because the server did not answer an interrupted run."""
    outcome.found(None, None)
    failure = interrupt.unanswered(number)
    if settings.origin().result_as_json:
        write_exactly(_result(outcome, failure.exit_code, failure))
    sys.stderr.write(f"{rendered(failure)}\n")


def _collect_less() -> None:
    """Collect garbage less often: the process lives for a second, and its imports create many objects."""
    gc.set_threshold(200_000)
    atexit.register(gc.freeze)


def rendered(error: NeuraknotError) -> str:
    """Return the lines that a person reads: message, details, hint."""
    lines = [
        _fitted(f"Error: {_continued(error.message)}"),
        *(f"  {_continued(line)}".rstrip() for line in error.details),
    ]
    if sys.stderr.isatty():
        lines += [display.cut(f"  {row}", shutil.get_terminal_size().columns) for row in error.rows]
    hint = error.hint and display.to_type(error.hint)
    return "\n".join([*lines, _fitted(f"Hint: {_continued(hint)}")] if hint else lines)


def _fitted(text: str) -> str:
    """Return a text in the lines of a terminal, with secrets hidden: broken, they would not be found any more."""
    if not sys.stderr.isatty():
        return text
    from neuraknot_db.cli.wrapping import wrapped  # only on a terminal

    width = shutil.get_terminal_size().columns
    return "\n".join(part for line in redacted(text).split("\n") for part in wrapped(line, width, "  "))


def _continued(text: str) -> str:
    """Indent further lines: a name or a server's message may hold line breaks."""
    return text.replace("\n", "\n  ")


def _result(outcome: Outcome, code: int, failure: NeuraknotError | None) -> str:
    interrupted = code >= _SIGNALLED or isinstance(failure, InterruptedRunError)
    ended = "succeeded" if code == 0 else "interrupted" if interrupted else "failed"
    deadline = interrupt.deadline
    return json.dumps(
        {
            "neuraknot_result": RESULT_FORMAT,
            "command": outcome.command,
            "before": outcome.before,
            "after": outcome.after,
            **({"target": outcome.target} if outcome.targeted else {}),
            "ran": outcome.ran,
            **({"rollback": redacted_within(outcome.rollback)} if outcome.rollback is not None else {}),
            "outcome": "unknown" if outcome.unknown else ended,
            "exit_code": code,
            "deadline": None if deadline is None else datetime.fromtimestamp(deadline, UTC).isoformat(),
            "error": redacted(failure.message) if failure else None if code == 0 else "see the log",
        }
    )
