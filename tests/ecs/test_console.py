"""What a container's line may do to a terminal, and what a question leaves behind."""

from __future__ import annotations

import io
import sys

import pytest

from launcher.console import Console
from launcher.logs import LogLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m and\ttabs", "\x1b[31mred\x1b[0m and\ttabs"),
        ("\x1b[2J\x1b[Hgone", "[2J[Hgone"),
        ("\x1b]0;title\x07x\x1b[1Ay\rz", "]0;titlex[1Ayz"),
        ("日本語", "日本語"),
    ],
)
def test_a_line_may_be_coloured_and_nothing_more(text: str, shown: str) -> None:
    out = io.StringIO()
    Console(stdout=out, stderr=io.StringIO()).log_line(LogLine(0.0, text))
    assert out.getvalue() == f"{shown}\n"


@pytest.mark.parametrize(("typed", "answer", "left"), [("YES\n", "YES", ""), ("", "", "\n")])
def test_after_a_question_without_an_answer_the_next_words_have_a_line_of_their_own(
    monkeypatch: pytest.MonkeyPatch, typed: str, answer: str, left: str
) -> None:
    err = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    ask = Console(stderr=err).ask()
    assert ask is not None
    assert ask("Type YES: ") == answer
    assert err.getvalue() == f"Type YES: {left}"
