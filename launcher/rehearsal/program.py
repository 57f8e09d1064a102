"""What runs inside a container: a real process, or a script that simulates one."""

from __future__ import annotations

import json
import queue
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from launcher.machine.process import start
from launcher.task import command_line

_MOVING = frozenset({"downgrade", "reset", "stamp", "upgrade"})
"""The commands that take a database to a revision: their report has a `target`."""

Lines = list[tuple[float, str]]
"""Lines of output with their times, in seconds since the epoch."""


@dataclass(frozen=True)
class Container:
    """What ECS gives a container at its start.

    Attributes:
        task_arn: its task's ARN.
        command: the image's or definition's command, or the override's.
        environment: the complete environment: the definition's, with secrets resolved, the overrides', and ECS's own.
        started: seconds since the epoch.
        definition: the container's part of the task definition, with the whole task's `cpu` and `memory`.
    """

    task_arn: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    started: float
    definition: Mapping[str, Any] = field(default_factory=dict)


class Program(Protocol):
    """A running container's main process. Times are seconds since the epoch."""

    def lines(self, now: float) -> Lines:
        """Return the lines printed since the last call."""
        ...

    def ended(self, now: float) -> tuple[float, int | None] | None:
        """Return the end time and the exit code, if any; None while it runs or has unread lines."""
        ...

    def terminate(self, now: float) -> None:
        """Send SIGTERM."""
        ...

    def kill(self, now: float) -> None:
        """Send SIGKILL."""
        ...


Start = Callable[[Container], Program]
"""Starts a container; raises PullError if its image can't be pulled."""


class PullError(Exception):
    """A container's image can't be pulled; the message says why."""


class ProcessProgram:
    """A real process, with only the image's and the container's environment."""

    def __init__(
        self, container: Container, directory: Path, image: Mapping[str, str], now: Callable[[], float]
    ) -> None:
        environment = {**image, **container.environment}
        self._process = start(container.command, cwd=directory, environment=environment)
        self._now = now
        self._queue: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self._end: float | None = None
        self._reader = threading.Thread(target=self._read, name=f"container {container.task_arn}", daemon=True)
        self._reader.start()

    def lines(self, now: float) -> Lines:
        """Return the lines printed since the last call."""
        lines: Lines = []
        while not self._queue.empty():
            lines.append(self._queue.get())
        return lines

    def ended(self, now: float) -> tuple[float, int | None] | None:
        """Return the end time and the exit code; None while it runs or has unread lines."""
        if self._end is None or not self._queue.empty():
            return None
        code = self._process.returncode
        return self._end, 128 - code if code < 0 else code

    def terminate(self, now: float) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self, now: float) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def _read(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                for line in stream:
                    self._queue.put((self._now(), line.rstrip("\n")))
        self._process.wait()
        self._end = self._now()


@dataclass(frozen=True)
class Script:
    """What a simulated container does.

    Attributes:
        lines: each with its time in seconds after the start.
        seconds: how long it runs.
        exit_code: its exit code; None if its host is lost and the code is never known.
        heeds_sigterm: whether SIGTERM ends it (143); otherwise only SIGKILL does (137).
        error: the error message in its report, if it fails.
        report: fields that differ from the command's usual report; None for no report at all.
        names_target: whether the report has a `target`; older images name none.
    """

    lines: tuple[tuple[float, str], ...] = ()
    seconds: float = 3.0
    exit_code: int | None = 0
    heeds_sigterm: bool = True
    error: str | None = None
    report: Mapping[str, Any] | None = field(default_factory=dict)
    names_target: bool = True


class ScriptedProgram:
    """Plays a `Script`, at the times passed to its methods."""

    def __init__(self, script: Script, started: float, container: Container | None = None) -> None:
        """Without a `container` its command is not known, and it writes no report."""
        self._script = script
        wanted = container is not None and container.environment.get("NEURAKNOT_RESULT") == "json"
        self._asked = container.command if container is not None and wanted else None
        self._end = started + script.seconds
        self._code = script.exit_code
        self._pending = [(started + after, text) for after, text in script.lines]

    def lines(self, now: float) -> Lines:
        """Return the lines printed since the last call."""
        due = [line for line in self._pending if line[0] <= min(now, self._end)]
        self._pending = [line for line in self._pending if line not in due]
        if now >= self._end and self._asked is not None:
            last, self._asked = report(self._script, self._asked, self._code), None
            due += [(self._end, last)] if last is not None else []
        return due

    def ended(self, now: float) -> tuple[float, int | None] | None:
        """Return the end time and the exit code; None while it runs."""
        return (self._end, self._code) if now >= self._end else None

    def terminate(self, now: float) -> None:
        """Send SIGTERM."""
        if self._script.heeds_sigterm:
            self._die(now, 143)

    def kill(self, now: float) -> None:
        """Send SIGKILL."""
        self._die(now, 137)

    def _die(self, now: float, code: int) -> None:
        if now < self._end:
            self._end, self._code = now, code


def report(script: Script, command: Sequence[str], exit_code: int | None) -> str | None:
    """Return the report of a simulated container that ran `command`; None if it was killed or writes none."""
    if script.report is None or exit_code in (None, 137):
        return None
    name, last = command_line.change(command), command[-1]
    to = None if last == "base" else last if last.isdecimal() else "003" if name == "downgrade" else "004"
    good, moves = exit_code == 0, name in _MOVING
    fields: dict[str, Any] = {
        "command": name or next((word for word in command[1:] if word.isidentifier()), None),
        "before": "004" if name == "downgrade" else None,
        "after": (to if good else "002") if moves else None,
        "ran": (["004"] if name == "downgrade" else ["001", "002"]) if moves else [],
        "outcome": "succeeded" if good else "interrupted" if exit_code in (24, 130, 143) else "failed",
        "exit_code": exit_code,
        "error": script.error,
    }
    if moves and script.names_target:
        fields["target"] = to
    return json.dumps({"neuraknot_result": 1, **fields, **script.report})


def scripted(script: Script) -> Start:
    """Play the same script in every container."""
    return lambda container: ScriptedProgram(script, container.started, container)
