"""The launcher's interfaces to the outside, built once and passed in, so that tests can pass their own."""

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
    """The real clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds; signal handlers run meanwhile."""
        time.sleep(seconds)


def make_aws(profile: str | None, region: str | None) -> Aws:
    """Return the real clients; boto3 is imported here because that takes longer than the rest of the command line."""
    from launcher.aws.client import Aws

    return Aws(profile=profile, region=region)


@dataclass(frozen=True)
class Dependencies:
    """The collaborators of every command.

    Attributes:
        aws: clients for a profile and a region.
        run: starts programs.
        clock: the time.
        environ: the environment variables.
        console: makes the console; its argument is whether standard output is reserved for JSON.
        ask: asks a question on the terminal; if None, the console detects whether there is one.
        interrupts: the signals received.
    """

    aws: Callable[[str | None, str | None], Aws] = make_aws
    run: process.Runner = process.run
    clock: Clock = field(default_factory=SystemClock)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    console: Callable[[bool], Console] | None = None
    ask: Callable[[str], str] | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)

    def make_console(self, json: bool) -> Console:
        """Make the console for one command."""
        return self.console(json) if self.console else Console(json=json, environ=self.environ)
