"""Draw a run of `launcher rehearse` as the README shows it: `make picture`."""

from __future__ import annotations

import io
import os
import pty
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 120
"""The width of the terminal; the longest line has some 115 characters."""

# GitHub shows no font but those of the reader's machine.
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
text {{ font: {char_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}{matrix}
</g>
</svg>
"""


def ran(*command: str) -> str:
    """Run a program on a terminal of its own, and return what it has printed.

    Raises:
        SystemExit: it failed.
    """
    os.environ |= {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "TTY_INTERACTIVE": "0"}  # no moving line
    printed = io.BytesIO()

    def read(terminal: int) -> bytes:
        part = os.read(terminal, 4096)
        printed.write(part)
        return part

    code = os.waitstatus_to_exitcode(pty.spawn(command, read))
    if code != 0:
        raise SystemExit(code)
    return printed.getvalue().decode().replace("\r\n", "\n")


def drawn(printed: str, title: str) -> str:
    """Return a terminal's text as an SVG picture.

    Args:
        printed: the text, with its escape sequences for colors.
        title: what stands above it.
    """
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(printed.rstrip()))
    return console.export_svg(title=title, code_format=_SVG, font_aspect_ratio=0.6, unique_id="rehearsal")


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    picture = drawn(ran("launcher", "rehearse"), "launcher rehearse")
    Path(__file__).with_name("rehearse.svg").write_text(picture, encoding="utf-8")
