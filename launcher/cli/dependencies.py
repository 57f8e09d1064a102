"""What the launcher reaches the outside through, built once and passed in, so that tests can bring their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.cli.console import Console
from launcher.machine import process
from launcher.machine.signals import Interrupts
from launcher.models import Clock

if TYPE_CHECKING:
    from launcher.aws.client import Aws


class SystemClock:
    """The real time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Return when so many seconds are over; a signal's handler runs meanwhile."""
        time.sleep(seconds)


def make_aws(profile: str | None, region: str | None) -> Aws:
    """The real clients. boto3 is imported here, since that takes longer than all the rest of the command line."""
    from launcher.aws.client import Aws

    return Aws(profile=profile, region=region)


@dataclass(frozen=True)
class Dependencies:
    """The collaborators of every command.

    Attributes:
        aws: clients for a profile and a region.
        run: starts programs.
        clock: the time.
        environ: the environment's variables.
        console: makes the console; told whether standard output is to hold JSON.
        ask: asks a question on the terminal; None has the console find out whether there is one.
        interrupts: what signals say.
    """

    aws: Callable[[str | None, str | None], Aws] = make_aws
    run: process.Runner = process.run
    clock: Clock = field(default_factory=SystemClock)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    console: Callable[[bool], Console] | None = None
    ask: Callable[[str], str] | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)

    def make_console(self, json: bool) -> Console:
        """A console for one command."""
        return self.console(json) if self.console else Console(json=json, environ=self.environ)
