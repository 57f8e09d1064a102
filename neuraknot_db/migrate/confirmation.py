"""A name that is typed again, so that nothing is dropped or taken back by mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from neuraknot_db.errors import RefusedError


@dataclass(frozen=True)
class Confirmation:
    """A name to be repeated.

    Attributes:
        name: what is to be typed.
        given: what an option has given; None to ask on a terminal.
        question: what is asked there.
        missing: the sentence where it is not given, and there is no terminal.
        wrong: makes the sentence where it is another one, of that.
        hint: the command that gives it.
        exactly: whether upper and lower case count.
    """

    name: str
    given: str | None
    question: str
    missing: str
    wrong: Callable[[str], str]
    hint: str
    exactly: bool = True

    def demand_right(self) -> None:
        """Refuse what is given and wrong; that it may be missing is not asked here.

        Raises:
            RefusedError: it is wrong.
        """
        if self.given is not None:
            self._compare(self.given)

    def demand(self) -> None:
        """Go on only with the right name, given or typed.

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
    """A line that a person types, None where there is no terminal to type it on."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    sys.stderr.write(question)
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip()
    except OSError:  # the terminal is gone
        return None
