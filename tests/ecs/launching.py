"""The launcher's command line, run in this process on the local AWS and the fake clock."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from launcher.aws.client import Aws
from launcher.cli.console import Console
from launcher.cli.dependencies import Dependencies
from launcher.cli.main import main
from launcher.image.tag import content_tag
from launcher.machine.process import Completed, Runner, run
from launcher.machine.signals import Interrupts
from launcher.rehearsal import plays
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.program import Script
from launcher.rehearsal.stand_in_docker import StandInDocker, digest_of
from launcher.rehearsal.terraform import write_root
from tests.ecs.conftest import FakeClock

PASSWORD = 'pl4nted: 100% "quoted" ${x} %{y} \'n @/ pässword\\'
GOOD = Script(lines=plays.BEGINNING, seconds=3.0)
SHOWN = [text for _, text in plays.BEGINNING]


class Remembering:
    """Starts programs, but Terraform only once for the same question to the same files: it takes most of a launch."""

    def __init__(self) -> None:
        self._known: dict[str, Completed] = {}

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        def start() -> Completed:
            return run(arguments, cwd=cwd, stdin=stdin, environment=environment, on_line=on_line)

        folder = next((Path(each.partition("=")[2]) for each in arguments if each.startswith("-chdir=")), None)
        if arguments[0] != "terraform" or folder is None:
            return start()
        files = [(str(path), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
        key = repr((arguments, sorted((environment or os.environ).items()), files))
        if key not in self._known:
            self._known[key] = start()
        return self._known[key]


@dataclass
class Outcome:
    """What a command ended with, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass
class Stage:
    """A local AWS, a Terraform root and a checkout for one launcher.

    `stream` makes its standard output, then its standard error.
    """

    cloud: LocalAws
    clock: FakeClock
    terraform: Path
    root: Path
    runner: Runner = field(default=run)
    interrupts: Interrupts = field(default_factory=Interrupts)
    stream: Callable[[], io.StringIO] = io.StringIO

    def launch(self, *arguments: str, ask: Callable[[str], str] | None = None, terraform: bool = True) -> Outcome:
        """Run a command as a person would, but for the program's own name."""
        out, err = self.stream(), self.stream()
        dependencies = Dependencies(
            aws=lambda profile, region: Aws(profile=profile, region=region, attempts=1),
            run=self.runner,
            clock=self.clock,
            environ=os.environ,
            console=lambda wants_json: Console(json=wants_json, stdout=out, stderr=err, environ=os.environ),
            ask=ask,
            interrupts=self.interrupts,
        )
        command, *rest = arguments
        # By variables, so that commands that are proposed are as short as a person's.
        where = {"NEURAKNOT_ROOT": str(self.root)}
        where |= {"NEURAKNOT_TERRAFORM_DIR": str(self.terraform)} if terraform else {}
        try:
            with patch.dict(os.environ, where):
                main([command, "--environment", self.cloud.stack.options.environment, *rest], dependencies)
        except SystemExit as end:
            return Outcome(end.code if isinstance(end.code, int) else 1, out.getvalue(), err.getvalue())
        raise AssertionError("the launcher did not end")

    def push(self) -> str:
        """Have the registry hold the image of this checkout; gives its tag."""
        tag = content_tag(self.root, "linux/amd64")
        self.cloud.stack.put_image(tag, digest_of(tag))
        return tag

    def outputs(self, changes: Mapping[str, Any]) -> None:
        """Change Terraform's outputs."""
        write_root(self.terraform, {**self.cloud.stack.outputs, **changes})

    @property
    def actions(self) -> list[str]:
        """What was asked of AWS, in order."""
        return [call.operation for call in self.cloud.server.calls]

    @property
    def writes(self) -> list[str]:
        """What of it changes anything."""
        return [name for name in self.actions if not name.startswith(("Describe", "Get", "List"))]

    def run_task(self) -> Mapping[str, Any]:
        """The parameters of the one RunTask."""
        [call] = [call for call in self.cloud.server.calls if call.operation == "RunTask"]
        return call.parameters

    @property
    def command(self) -> list[str]:
        """What the one container ran."""
        command: list[str] = self.run_task()["overrides"]["containerOverrides"][0]["command"]
        return command


def make_stage(cloud: LocalAws, clock: FakeClock, folder: Path, *, pushed: bool = True) -> Stage:
    """Set a sound stage below `folder`."""
    root, terraform = folder / "checkout", folder / "terraform"
    root.mkdir()
    (root / "Dockerfile.migrate").write_text("FROM scratch\n")
    write_root(terraform, cloud.stack.outputs, PASSWORD)
    cloud.ecs.pace = replace(cloud.ecs.pace, provisioning=1.0, pulling=1.0)  # each second is two calls
    stage = Stage(cloud, clock, terraform, root, StandInDocker(cloud.stack, Remembering()))
    if pushed:
        stage.push()
    return stage


def in_terminal(command: list[str], columns: int, answers: Mapping[str, str] | None = None) -> str:
    """What a program writes to a terminal of so many columns; `answers` has what is typed after which words."""
    waiting = dict(answers or {})
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            read = os.read(leader, 65536)
        except OSError:  # the program has closed the terminal
            break
        if not read:
            break
        shown += read
        for words in [words for words in waiting if words.encode() in shown]:
            os.write(leader, waiting.pop(words).encode())
    process.wait()
    os.close(leader)
    return shown.decode()
