"""The launcher's interfaces to the outside, built once and passed in, so that tests can pass their own."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
        if self.console:
            return self.console(json)
        return Console(json=json, environ=self.environ, program=called_as(sys.argv[0]))


def called_as(program: str) -> str:
    """Return what calls this program again: `launcher` where the PATH leads to it, else as it was called.

    Args:
        program: `sys.argv[0]`.
    """
    path, found = Path(program), shutil.which("launcher")
    if path.name == "__main__.py":
        beside = Path(sys.executable).parent
        return "launcher" if found and Path(found).parent == beside else f"{shlex.quote(sys.executable)} -m launcher"
    if path.name != "launcher" or not path.exists() or (found and Path(found).samefile(path)):
        return "launcher"
    return shlex.quote(program)
