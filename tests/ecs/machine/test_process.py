"""Programs are started in one place, and never outlive the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import InterruptedLaunchError, ProgramNotFoundError
from launcher.machine.process import run, start
from launcher.machine.signals import Interrupts


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_both_streams_and_the_exit_code_come_back() -> None:
    ended = run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (ended.exit_code, ended.stdout, ended.stderr) == (3, "out\n", "err\n")


def test_standard_input_is_given_and_otherwise_empty() -> None:
    assert run(python("print(input()[::-1])"), stdin="secret\n").stdout == "terces\n"
    assert run(python("import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


def test_lines_are_told_as_they_come_and_no_pipe_fills_up() -> None:
    seen: list[str] = []
    code = "import sys\nfor n in range(20000): print('x' * 20, file=[sys.stdout, sys.stderr][n % 2])"
    ended = run(python(code), on_line=seen.append)
    assert len(seen) == 20000
    assert len(ended.stdout) == len(ended.stderr) == 210_000


def test_the_environment_is_what_was_given() -> None:
    assert run(python("import os; print(os.environ['A'])"), environment={"A": "b"}).stdout == "b\n"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProgramNotFoundError, match="no-such-program is not installed"):
        run(["no-such-program"])


def test_a_program_that_may_not_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "terraform").write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    for begin in (run, start):
        with pytest.raises(ProgramNotFoundError, match="terraform can't be started: Permission denied") as caught:
            begin(["terraform", "output"])
        assert caught.value.hint


def test_what_it_printed_last_is_its_tail() -> None:
    assert run(python("for n in range(50): print(n); print()")).tail == tuple(str(n) for n in range(40, 50))


@pytest.mark.parametrize("follows", [True, False])
def test_a_signal_to_the_launcher_ends_the_program_too(follows: bool, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def interrupt() -> None:
        while not pid_file.exists() or not pid_file.read_text():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(InterruptedLaunchError) as caught, Interrupts().handled():
        run(python(code), on_line=(lambda _: None) if follows else None)
    assert caught.value.exit_code == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


@pytest.mark.parametrize("begin", [run, start])
def test_a_signal_while_a_program_starts_ends_it_too(
    begin: Callable[[list[str]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    class Interrupted(subprocess.Popen[str]):
        def __init__(self, *what: Any, **how: Any) -> None:
            super().__init__(*what, **how)
            begun.append(self.pid)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(InterruptedLaunchError), Interrupts().handled():
        begin(python("import time; time.sleep(60)"))
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0], 0)
