"""A replacement for `docker`: it builds nothing, but the local registry knows what it "pushes"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher.machine.process import Completed, Runner
from launcher.rehearsal.stack import LocalStack


def digest_of(tag: str) -> str:
    """Return the digest of an image with this tag in the local AWS."""
    return f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}"


class StandInDocker:
    """A `Runner` that simulates `docker` and starts every other program.

    It accepts the arguments that the launcher gives buildx, and refuses others as the real one would.

    Attributes:
        engine: whether the Docker engine runs.
        push_refused: whether the registry refuses pushes.
        login_fails: the error message of a failing login; if empty, logins succeed.
        logins: the registries that it is logged in to.
        asked: the first argument of each of its command lines.
    """

    def __init__(self, stack: LocalStack, run: Runner) -> None:
        self.engine = True
        self.push_refused = False
        self.login_fails = ""
        self.logins: set[str] = set()
        self.asked: list[str] = []
        self._stack = stack
        self._run = run

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a program to its end; `docker` is only simulated."""
        if arguments[0] != "docker":
            return self._run(arguments, cwd=cwd, stdin=stdin, environment=environment, on_line=on_line)
        self.asked.append(arguments[1])
        code, output = self._docker(tuple(arguments[1:]), stdin)
        if on_line is not None:
            for line in output.splitlines():
                on_line(line)
        return Completed(tuple(arguments), code, output if code == 0 else "", "" if code == 0 else output)

    def _docker(self, arguments: tuple[str, ...], stdin: str | None) -> tuple[int, str]:
        if arguments[:1] == ("version",):
            if self.engine:
                return 0, "28.0.0\n"
            return (
                1,
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n",
            )
        if arguments[:2] == ("buildx", "version"):
            return 0, "github.com/docker/buildx v0.20.0\n"
        if arguments[:1] == ("login",):
            if self.login_fails:
                return 1, f"Error response from daemon: {self.login_fails}\n"
            if "--password-stdin" in arguments and stdin:
                self.logins.add(arguments[-1])
                return 0, "Login Succeeded\n"
            return 1, "Error: Must provide --password-stdin\n"
        if arguments[:1] == ("logout",):
            self.logins.discard(arguments[-1])
            return 0, f"Removing login credentials for {arguments[-1]}\n"
        if arguments[:2] == ("buildx", "build"):
            return self._build(arguments[2:])
        return 125, f"docker: {' '.join(arguments)} is not played here\n"

    def _build(self, arguments: tuple[str, ...]) -> tuple[int, str]:
        options = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments if argument.startswith("--"))
        reference = options["tag"]
        if reference.split("/", 1)[0] not in self.logins:
            return 1, f"#9 pushing layers\nERROR: failed to push {reference}: no basic auth credentials\n"
        if self.push_refused:
            return 1, f"#9 pushing layers\nERROR: failed to push {reference}: denied: User is not authorized\n"
        name, _, tag = reference.rpartition(":")
        digest = digest_of(tag)
        self._stack.put_image(tag, digest, name.split("/", 1)[1])
        Path(options["metadata-file"]).write_text(json.dumps({"containerimage.digest": digest}), encoding="utf-8")
        return 0, f"played: nothing is built\npushed {reference}\n"
