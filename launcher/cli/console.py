"""Progress for users on a terminal, in a pipe and in GitHub Actions. All output passes here, and secrets are hidden."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from launcher.cli.streams import Outlet
from launcher.errors import LauncherError
from launcher.machine.redaction import Redactor
from launcher.machine.wrapping import wrapped
from launcher.task.logs import LogLine

if TYPE_CHECKING:
    from rich.status import Status
    from rich.text import Text

    from launcher.launch.progress import Done

_WIDTH = 18
_SIGNS, _ASCII = "✓✗│", "+x|"
"""The signs of success and failure, and of a container's line; and those of a terminal that does not have them."""

_PROPOSED = re.compile(
    r"launcher (?:doctor|ecs-migrate|ecs-run|iam-policy|(?P<place>logs|status|stop))\b(?! (?:-e|--environment) )"
)
_CALLED = re.compile(
    r"(?<![\w/.-])(?<!-m )launcher(?= (?:doctor|ecs-migrate|ecs-run|iam-policy|logs|rehearse|status|stop)\b)"
)
"""Matches the program's name in a command."""

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
_COMMAND = re.compile(r"^(?:[^\S\n]|\x1b\[[0-9;]*m)*:(?=:.*::)|##(?=\[)", re.MULTILINE)
"""Matches GitHub Actions' commands up to where a blank disables them: `::name::value`, `##[name]value`."""
_STYLES = {"OK": "32", "NG": "31", "NOTE": "36", "SKIP": "33", "group": "1", "fix": "36", "sum": "1"}


class Console:
    """Writes messages to standard error and data to standard output.

    The container's lines are data, unless standard output is reserved for one JSON object. On a terminal a live line
    shows the progress; a pipe and a CI log get only permanent lines. A stream that fails never makes a method fail.

    Attributes:
        json: whether standard output is reserved for one JSON object.
        shown: the options to add to every proposed command.
        shown_of_place: those of them that `logs`, `status` and `stop` take.
        answered: whether the JSON object has been written.
        redactor: hides secrets.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        stdout: TextIO | Outlet | None = None,
        stderr: TextIO | Outlet | None = None,
        environ: Mapping[str, str] | None = None,
        shown: str = "",
        program: str = "launcher",
    ) -> None:
        """`program` is what a person types to call this one."""
        environ = environ or {}
        self.json = json
        self.shown = self.shown_of_place = shown
        self._program = program
        self.answered = False
        self.redactor = Redactor()
        self._out = stdout if isinstance(stdout, Outlet) else Outlet(stdout or sys.stdout)
        self._err = stderr if isinstance(stderr, Outlet) else Outlet(stderr or sys.stderr)
        self._terminal = self._err.isatty() and environ.get("TERM") != "dumb"
        self._colours = self._terminal and not environ.get("NO_COLOR")
        self._github = environ.get("GITHUB_ACTIONS") == "true"
        self._summary = environ.get("GITHUB_STEP_SUMMARY")
        self._signs = _SIGNS if self._err.holds(_SIGNS) else _ASCII
        self._live: Status | None = None
        self._lock = threading.Lock()
        self._status = ""
        self._title = ""
        self._begun = 0.0

    # Progress

    @contextmanager
    def step(self, label: str, title: str) -> Iterator[Done]:
        """Show a step, with a tick or a cross and its time at the end."""
        outcome: list[tuple[str, bool]] = []

        def done(words: str, *, good: bool = True) -> None:
            outcome.append((words, good))

        begun = time.monotonic()
        self._title, self._status, self._begun = f"{label} {title}", "", begun
        if self._github:
            self._write(f"::group::{label} {title}", command=True)
        self._start_live()
        try:
            yield done
        except BaseException:
            outcome[:] = [("", False)]
            raise
        finally:
            self._stop_live()
            words, good = outcome[-1] if outcome else ("", True)
            words = self.filtered(words).replace("\n", " ")
            mark, colour = (self._signs[0], "32") if good else (self._signs[1], "31")
            took = self._paint(f"{time.monotonic() - begun:6.1f} s", "2")
            self._write(f" {self._paint(mark, colour)} {label} {title:<{_WIDTH}} {took}  {words}".rstrip())
            if self._github:
                self._write("::endgroup::", command=True)

    def status(self, text: str) -> None:
        """Show the state of the current step: on the live line, or on a new line when it has changed."""
        text = text.strip()
        if not text or text == self._status:
            return
        self._status = text
        if self._live is not None:
            self._live.update(self._moving())
        elif not self._terminal:
            self.say(f"   {text}")

    def detail(self, text: str) -> None:
        """Show a line from a program that the step started: on the live line, or folded in GitHub's group."""
        if self._live is not None or self._github:
            self.status(text)

    def notice(self, text: str) -> None:
        """Show a sentence permanently; its commands can be pasted."""
        for line in self._fitted(f"   {self.with_options(text)}", "   "):
            self._write(self._paint(line, "33"))

    def log_line(self, line: LogLine) -> None:
        """Show a line of the container's output unchanged."""
        text = line.text.replace("\n", "")
        if self.json or (self._terminal and self._out.isatty()):
            colours = _COLOUR.findall(text)
            # Else the next lines would have its colors, or be hidden.
            end = "\x1b[0m" if colours and colours[-1] not in ("\x1b[0m", "\x1b[m") else ""
            self._write(f"   {self._paint(self._signs[2], '2')} {text}{end}")
        else:
            self.data(text)

    # Other output

    def say(self, text: str = "") -> None:
        """Write a message."""
        for line in self._fitted(text, " " * (len(text) - len(text.lstrip()))):
            self._write(line)

    def data(self, text: str) -> None:
        """Write a line to standard output."""
        before = self._out.lost
        text = self._harmless(text)
        with self._lock:
            print(text, file=self._out, flush=True)
        lost = self._out.lost
        if lost is not before and not isinstance(lost, BrokenPipeError):  # a reader that closes the pipe is normal
            self.notice(f"Standard output can't be written any more: {lost}.")

    def row(self, text: str, indent: int) -> None:
        """Write a line of a table to standard output, whose last column begins after `indent` cells."""
        text = text.replace("\n", " ")
        wraps = self._terminal and self._out.isatty()
        for line in self._fitted(text, " " * indent) if wraps else [text]:
            self.data(line)

    def styled(self, style: str, text: str) -> None:
        """Write a line to standard output, in the color of its style on a terminal."""
        text = self._as_called(text)
        colour = _STYLES.get(style)
        self.data(f"\033[{colour}m{text}\033[0m" if colour and self._colours and self._out.isatty() else text)

    def result(self, value: Mapping[str, Any]) -> None:
        """Write the only JSON object to standard output."""
        self.answered = True
        if isinstance(value.get("hint"), str):
            value = {**value, "hint": self.with_options(value["hint"])}
        # If a character must be escaped, use JSON's escapes.
        escaped = not self._out.encoding.lower().startswith("utf")
        text = json.dumps(self.redactor.value(value), ensure_ascii=escaped, indent=2)
        # Equal as JSON, but neither a command to GitHub nor a control sequence to a terminal.
        self.data("".join(c if _shows(c) else json.dumps(c)[1:-1] for c in text.replace("##[", r"##\u005b")))

    def with_options(self, hint: str | None) -> str | None:
        """Complete the commands in a hint with the shared options, so that they can be pasted."""
        if hint is None:
            return None

        def completed(found: re.Match[str]) -> str:
            return f"{found[0]} {self.shown_of_place if found['place'] else self.shown}".rstrip()

        return self._as_called(_PROPOSED.sub(completed, hint))

    def failure(self, error: LauncherError) -> None:
        """Show an error: the details, then the message and the hint."""
        for line in error.details:
            self.say(f"   {line}")
        self.verdict(error.message, error.hint, good=False)

    def verdict(self, message: str, hint: str | None, *, good: bool) -> None:
        """Show the final message and the hint."""
        hint = self.with_options(hint)
        if self._github and not good:
            # Redact first: the redactor does not find an escaped secret, and GitHub removes the escape.
            words = self.filtered(f"{message} {hint or ''}".rstrip())
            self._write(f"::error title=launcher::{_command_data(words)}", command=True)
        word, colour = ("Done.", "1;32") if good else ("Error:", "1;31")
        for head, style, text in ((word, colour, message), ("Hint:", "1", hint)):
            for number, line in enumerate(self._fitted(f"{head} {text}", " " * len("Hint: ")) if text else ()):
                self._write(line if number else line.replace(head, self._paint(head, style), 1))

    def summary(self, markdown: str) -> None:
        """Append a summary to the page of the GitHub Actions job; elsewhere do nothing."""
        if not (self._github and self._summary):
            return
        try:
            with Path(self._summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self.filtered(markdown))
        except OSError as error:
            self.notice(f"The summary of this job can't be written: {error}.")

    def ask(self) -> Callable[[str], str] | None:
        """Return a function that asks a question; None if there is no terminal."""
        if not (sys.stdin.isatty() and self._err.isatty()):
            return None

        def question(text: str) -> str:
            self._err.write("\n".join(self._fitted(text)) + text[len(text.rstrip()) :])
            self._err.flush()
            answer = ""
            try:
                answer = sys.stdin.readline()
            finally:
                if not answer.endswith("\n"):
                    self._err.write("\n")  # the next output starts on a new line
            return answer.rstrip("\n")

        return question

    @contextmanager
    def prompting(self) -> Iterator[bool]:
        """Stop the live line while something may ask on the terminal; yields whether somebody can answer."""
        live = self._live is not None
        self._stop_live()
        try:
            yield sys.stdin.isatty() and self._err.isatty()
        finally:
            if live:
                self._start_live()

    # Output

    def _write(self, text: str, *, command: bool = False) -> None:
        text = self._clean(text) if command else self._harmless(text)
        with self._lock:
            if self._live is not None:
                self._live.console.out(text, highlight=False)
            else:
                print(text, file=self._err, flush=True)

    def _fitted(self, text: str, indent: str = "") -> list[str]:
        """Break a text into lines of the terminal, with secrets hidden: broken, they would not be found any more.

        Further lines of the text itself are indented as well: a stranger's must not look like one of ours.
        """
        text = self.filtered(text)
        begins = text[: len(text) - len(text.lstrip("\n"))]
        first, *others = text.lstrip("\n").split("\n")
        lines = [first, *((indent or "  ") + line.lstrip() for line in others)]
        if self._terminal:
            lines = [part for line in lines for part in wrapped(line, self._err.columns, indent)]
        return [begins + lines[0], *lines[1:]]

    def filtered(self, text: str) -> str:
        """Return text of any origin as it may be shown: without secrets, control characters, and a stranger's colors.

        This program is named as it was called.
        """
        return _COLOUR.sub("", self._harmless(self._as_called(text)))

    def _as_called(self, text: str) -> str:
        return _CALLED.sub(lambda _: self._program, text)

    def _clean(self, text: str) -> str:
        """Remove what could hide a secret, move the cursor or end a line, then hide the secrets."""
        return self.redactor.text(_printable(text))

    def _harmless(self, text: str) -> str:
        """Disable GitHub Actions' commands; either stream may go to its log, which can't be detected here."""
        text = self._clean(text)
        return _COMMAND.sub(r"\g<0> ", text) if self._github else text

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours and text else text

    def _start_live(self) -> None:
        if not self._terminal:
            return
        from rich.console import Console as RichConsole  # only on a terminal
        from rich.status import Status

        console = RichConsole(file=cast(IO[str], self._err), stderr=True)
        self._live = Status(self._moving(), console=console, spinner="dots" if self._signs is _SIGNS else "line")
        self._live.start()

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _moving(self) -> _Moving:
        words = self.filtered(f"{self._title}  {self._status}".rstrip())
        return _Moving(words, self._begun)


@dataclass(frozen=True)
class _Moving:
    """The text of the live line, with the seconds since `begun`, computed each time it is drawn."""

    words: str
    begun: float

    def __rich__(self) -> Text:
        from rich.text import Text  # only on a terminal

        return Text(f"{self.words}, {time.monotonic() - self.begun:.0f} s", no_wrap=True, overflow="ellipsis")


def _printable(text: str) -> str:
    """Remove what could move the cursor or clear the screen; keep colors, tabs and line feeds."""
    kept = (part if _COLOUR.fullmatch(part) else "".join(filter(_shows, part)) for part in _COLOUR.split(text))
    return "".join(kept)


def _shows(character: str) -> bool:
    return character.isprintable() or character in "\t\n\xa0\u3000"  # \u3000, the Japanese space, is not a control


def _command_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
