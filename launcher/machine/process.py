"""The only module that starts programs."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from launcher.errors import ProgramNotFoundError
from launcher.machine.signals import put_off

HINTS = {
    "docker": "Install Docker, or name an image that exists with --image.",
    "terraform": "Install Terraform 1.x, or give the values as options: launcher ecs-migrate --help",
    "tofu": "Install OpenTofu, or give the values as options: launcher ecs-migrate --help",
    "git": "Install git.",
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL when the launcher itself is ended


@dataclass(frozen=True)
class Completed:
    """A program that has ended.

    Attributes:
        arguments: the program and its arguments.
        exit_code: the exit code; negative if a signal ended it.
        stdout: the complete standard output, as text.
        stderr: the complete standard error, as text.
    """

    arguments: tuple[str, ...]
    exit_code: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)

    @property
    def tail(self) -> tuple[str, ...]:
        """The last ten non-empty lines of standard error, or of standard output if that is empty."""
        text = self.stderr if self.stderr.strip() else self.stdout
        return tuple(line for line in text.splitlines() if line.strip())[-10:]


class Runner(Protocol):
    """Starts one program and waits until it ends."""

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run `arguments` to the end; a failure is an exit code, not an exception.

        Args:
            arguments: the program and its arguments; never a secret, as every user of the machine can see them.
            cwd: its working directory.
            stdin: text for its standard input; secrets go here.
            environment: its complete environment; None inherits the launcher's.
            on_line: called with each line of either stream as it arrives.

        Raises:
            ProgramNotFoundError: the program is not installed or can't be started.
        """
        ...


def uncoloured(text: str) -> str:
    """Remove the color codes from a program's output."""
    return _COLOUR.sub("", text)


def run(
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program, as the real `Runner`. If the launcher is interrupted meanwhile, the program is ended too."""
    piped = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    process = _started(arguments, cwd, environment, stdin=piped, stderr=subprocess.PIPE)
    try:
        if on_line is None:
            stdout, stderr = process.communicate(stdin)
        else:
            stdout, stderr = _follow(process, stdin, on_line)
    except BaseException:
        _end(process)
        raise
    finally:
        _close(process)
    return Completed(tuple(arguments), process.returncode, stdout, stderr)


def start(
    arguments: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a program and return while it runs; the caller must end it and wait for it.

    Its two streams are merged into one, as text; signals to the launcher's terminal do not reach it.

    Raises:
        ProgramNotFoundError: the program is not installed or can't be started.
    """
    return _started(
        arguments, cwd, environment, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
    )


def _started(
    arguments: Sequence[str], cwd: Path | None, environment: Mapping[str, str] | None, **how: Any
) -> subprocess.Popen[str]:
    process: subprocess.Popen[str] | None = None
    try:
        # A signal that was handled within Popen would leave a program that nobody knows of.
        with put_off():
            process = subprocess.Popen(  # noqa: S603 - a list, never a shell
                list(arguments),
                cwd=cwd,
                env=None if environment is None else dict(environment),
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                **how,
            )
    except OSError as error:
        raise _not_started(arguments[0], cwd, error) from error
    except BaseException:
        if process is not None:
            _end(process)
            _close(process)
        raise
    return process


def _not_started(program: str, cwd: Path | None, error: OSError) -> Exception:
    """Return the error for an OS error; a missing working directory is not the program's fault."""
    if cwd is not None and not cwd.is_dir():
        return error
    if isinstance(error, FileNotFoundError):
        return ProgramNotFoundError(program, hint=HINTS.get(program))
    return ProgramNotFoundError(program, hint=HINTS.get(program), why=f"can't be started: {error.strerror}")


def _follow(process: subprocess.Popen[str], stdin: str | None, on_line: Callable[[str], None]) -> tuple[str, str]:
    """Read both streams in parallel, one thread each, so that neither pipe fills up while the other is read."""
    lines: tuple[list[str], list[str]] = ([], [])

    def read(stream: IO[str], into: list[str]) -> None:
        for line in stream:
            into.append(line)
            on_line(line.rstrip("\n"))

    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=read, args=(stream, into), daemon=True)
        for stream, into in zip((process.stdout, process.stderr), lines, strict=True)
    ]
    for reader in readers:
        reader.start()
    try:
        if process.stdin is not None:
            process.stdin.write(stdin or "")
            process.stdin.close()
        for reader in readers:
            reader.join()
    except BaseException:
        _end(process)
        for reader in readers:
            reader.join(1.0)  # a grandchild may hold the pipe open
        raise
    process.wait()
    return "".join(lines[0]), "".join(lines[1])


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _close(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what it did not read
                pipe.close()
