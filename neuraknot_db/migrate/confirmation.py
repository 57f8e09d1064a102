"""A name that is typed again, so that nothing is dropped or rolled back by mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from neuraknot_db.errors import RefusedError


@dataclass(frozen=True)
class Confirmation:
    """A name to be repeated.

    Attributes:
        name: what must be typed.
        given: the value of an option; None to ask on a terminal.
        question: the prompt.
        missing: the message if there is neither a value nor a terminal.
        wrong: returns the message for a wrong value.
        hint: the command that passes the right one.
        exactly: whether case matters.
    """

    name: str
    given: str | None
    question: str
    missing: str
    wrong: Callable[[str], str]
    hint: str
    exactly: bool = True

    def demand_right(self) -> None:
        """Refuse a wrong value; a missing one is accepted here.

        Raises:
            RefusedError: it is wrong.
        """
        if self.given is not None:
            self._compare(self.given)

    def demand(self) -> None:
        """Require the right name, given or typed.

        Raises:
            RefusedError: it is missing or wrong.
        """
        typed = ask(self.question) if self.given is None else self.given
        if typed is None:
            raise RefusedError(self.missing, hint=self.hint)
        self._compare(typed)

    def _compare(self, typed: str) -> None:
        same = typed == self.name if self.exactly else typed.casefold() == self.name.casefold()
        if not same:
            raise RefusedError(self.wrong(typed), hint=self.hint)


def ask(question: str) -> str | None:
    """Return a line typed by a person, None if there is no terminal."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    sys.stderr.write(question)
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip()
    except OSError:  # the terminal is gone
        return None
