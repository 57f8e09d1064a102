"""The steps of a run, timed and shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from launcher.errors import LauncherError
from launcher.models import Clock
from launcher.task.logs import LogLine

STEPS = {
    "terraform": "Terraform",
    "service": "Network and roles",
    "image": "Image",
    "log_group": "Log group",
    "task_definition": "Task definition",
    "task": "Task",
    "log": "Log",
    "verdict": "Verdict",
}
"""The steps of a run in order, with their titles."""


class Done(Protocol):
    """Receives a step's outcome."""

    def __call__(self, words: str, *, good: bool = True) -> None:
        """Report the outcome: a few `words`, and a cross if it is not `good`."""
        ...


class Progress(Protocol):
    """Shows the user the progress of a run."""

    def step(self, label: str, title: str) -> AbstractContextManager[Done]:
        """Return a step: entered when it begins; it yields the function that receives the outcome."""
        ...

    def status(self, text: str) -> None:
        """Show the state of the current step, perhaps only for a moment."""
        ...

    def detail(self, text: str) -> None:
        """Show an output line of a program that the step started."""
        ...

    def notice(self, text: str) -> None:
        """Show a sentence permanently."""
        ...

    def log_line(self, line: LogLine) -> None:
        """Show a line of the container's output."""
        ...


@dataclass(frozen=True)
class Steps:
    """Times the steps of a run, and shows them.

    Attributes:
        clock: the time.
        progress: shows each step.
        timings: filled with seconds by step.
        numbered: whether these are the eight steps of a full run.
    """

    clock: Clock
    progress: Progress
    timings: dict[str, float]
    numbered: bool = True

    @contextmanager
    def step(self, key: str, title: str | None = None) -> Iterator[Done]:
        """Time and show one step; yields the function that receives the outcome."""
        begun = self.clock.now()
        numbered = self.numbered and key in STEPS
        label = f"{list(STEPS).index(key) + 1}/{len(STEPS)}" if numbered else "  +"
        with self.progress.step(label, title or STEPS[key]) as done:
            try:
                yield done
            finally:
                self.timings[key] = round(self.clock.now() - begun, 3)

    @contextmanager
    def refusing(self, key: str) -> Iterator[None]:
        """Show a step as failed if an error comes now, before it has begun; else show nothing."""
        try:
            yield
        except LauncherError:
            with self.step(key):
                raise
