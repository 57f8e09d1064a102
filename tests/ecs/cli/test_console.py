"""What a container's line may do to a terminal, and what a question leaves behind."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli.console import Console
from launcher.errors import LauncherError
from launcher.task.logs import LogLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m and\ttabs", "\x1b[31mred\x1b[0m and\ttabs"),
        ("\x1b[2J\x1b[Hgone", "[2J[Hgone"),
        ("\x1b]0;title\x07x\x1b[1Ay\rz", "]0;titlex[1Ayz"),
        ("日本\u3000語", "日本\u3000語"),
    ],
)
def test_a_line_may_be_coloured_and_nothing_more(text: str, shown: str) -> None:
    err = io.StringIO()
    Console(stdout=io.StringIO(), stderr=err, json=True).log_line(LogLine(0.0, text))
    assert err.getvalue() == f"   │ {shown}\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::no", ": :error::no"),
        ("  ::add-mask::a", "  : :add-mask::a"),
        (":\x00:group::a", ": :group::a"),
        ("a ##[add-mask]b", "a ## [add-mask]b"),
        ("a::b, c::d", "a::b, c::d"),
        ("::jsonb", "::jsonb"),
        ("## [a] ##[", "## [a] ## ["),
    ],
)
def test_in_github_a_line_is_no_command_and_otherwise_as_it_is(text: str, shown: str) -> None:
    for github in (True, False):
        out = io.StringIO()
        console = Console(stdout=out, stderr=io.StringIO(), environ={"GITHUB_ACTIONS": "true"} if github else {})
        console.log_line(LogLine(0.0, text))
        assert out.getvalue() == f"{shown if github else text}\n".replace("\x00", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[8mhidden", "\x1b[8mhidden\x1b[0m"),
        ("\x1b[32mok\x1b[0m", "\x1b[32mok\x1b[0m"),
        ("\x1b[1m\x1b[mok", "\x1b[1m\x1b[mok"),
        ("plain", "plain"),
    ],
)
def test_between_our_lines_a_lines_colors_end_with_it(text: str, shown: str) -> None:
    err = io.StringIO()
    Console(stdout=io.StringIO(), stderr=err, json=True).log_line(LogLine(0.0, text))
    assert err.getvalue() == f"   │ {shown}\n"


def test_a_row_is_one_line() -> None:
    out = io.StringIO()
    Console(stdout=out, stderr=io.StringIO()).row("abc  STOPPED  alembic\nforged", indent=4)
    assert out.getvalue() == "abc  STOPPED  alembic forged\n"


_HARMFUL, _HARMLESS = "a\r::stop-commands::b\x1b[2J\n ::add-mask::c", "a::stop-commands::b[2J\n : :add-mask::c"


def test_no_sentence_moves_the_cursor_or_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err, summary = io.StringIO(), Terminal(), tmp_path / "summary.md"
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "TERM": "dumb"}
    console = Console(stdout=out, stderr=err, environ=environ)
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    ask = console.ask()
    assert ask is not None
    for say in (console.say, console.notice, console.status, console.data, console.summary, ask):
        say(_HARMFUL)
    console.failure(LauncherError(_HARMFUL, hint=_HARMFUL, details=(_HARMFUL,)))
    with console.step("1/8", "title") as done:
        done(_HARMFUL)
    assert re.sub(r"\s+: :", "\n : :", err.getvalue()).count(_HARMLESS) == 8
    assert not re.search(r"^ ?: :add-mask", err.getvalue().split("::error")[0], re.MULTILINE)
    assert out.getvalue() == f"{_HARMLESS}\n"
    assert not set("\r\x1b") & set(out.getvalue() + err.getvalue() + summary.read_text())
    commands = [line for line in err.getvalue().splitlines() if line.lstrip().startswith("::")]
    assert [line.split("::")[1] for line in commands] == ["error title=launcher", "group", "endgroup"]


def test_json_tells_a_terminal_nothing_and_programs_all() -> None:
    out = io.StringIO()
    Console(stdout=out, stderr=io.StringIO(), json=True).result({"after": "\r\x1b\x9b\u2028 日"})
    assert json.loads(out.getvalue()) == {"after": "\r\x1b\x9b\u2028 日"}
    assert out.getvalue().replace("\n", "").isprintable()


_ENDLESS = """
import io
from launcher.cli.console import Console
from launcher.task.logs import LogLine

console = Console(stdout=io.StringIO(), stderr=io.StringIO(), environ={"GITHUB_ACTIONS": "true"})
for text in ("##[", "\\n", " ", "::", ":", "\\x1b[", "\\x1b[0m", "\\n::"):
    console.log_line(LogLine(0.0, text * 300_000))
    console.say(text * 300_000)
"""


@pytest.mark.slow
def test_in_github_a_line_takes_as_long_as_it_is() -> None:
    # Minutes if each of its parts were read to the line's end.
    subprocess.run([sys.executable, "-c", _ENDLESS], check=True, timeout=60)


_TO_NOBODY = """
from launcher.cli.console import Console

console = Console()
for number in range(3):
    console.say(f"narration {number}")
    console.data(f"data {number}")
"""


@pytest.mark.parametrize("gone", ["stdout", "stderr", "both"])
def test_a_reader_that_goes_away_is_no_news(gone: str) -> None:
    read, write = os.pipe()
    os.close(read)
    streams = {name: write if gone in (name, "both") else subprocess.PIPE for name in ("stdout", "stderr")}
    ended = subprocess.run([sys.executable, "-c", _TO_NOBODY], text=True, check=False, **streams)  # type: ignore[call-overload]
    os.close(write)
    assert ended.returncode == 0  # 120 if Python could not write what was left at its end
    assert ended.stdout == (None if gone != "stderr" else "data 0\ndata 1\ndata 2\n")
    assert ended.stderr == (None if gone != "stdout" else "narration 0\nnarration 1\nnarration 2\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_once() -> None:
    with Path("/dev/full").open("w") as full:
        err = io.StringIO()
        console = Console(stdout=full, stderr=err)
        for _ in range(3):
            console.data("data")
    assert err.getvalue() == "   Standard output can't be written any more: [Errno 28] No space left on device.\n"


@pytest.mark.parametrize(("encoding", "written"), [("ascii", r"\u65e5\xe9"), ("utf-8", "日é"), ("latin-1", r"\u65e5é")])
def test_a_character_that_a_stream_lacks_is_escaped(encoding: str, written: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(stdout=out, stderr=io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    console.data("日é")
    console.say("✓")
    assert out.buffer.getvalue().decode(encoding) == f"{written}\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_json_is_json_in_any_encoding(encoding: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(stdout=out, stderr=io.StringIO(), json=True).result({"message": "日é✓😀"})
    assert json.loads(out.buffer.getvalue().decode(encoding)) == {"message": "日é✓😀"}


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
