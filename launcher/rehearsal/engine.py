"""A real engine and a real registry on this machine, instead of Fargate and ECR."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import ConfigurationError
from launcher.machine.process import Completed, Runner
from launcher.rehearsal.database import EmbeddedDatabase
from launcher.rehearsal.program import Container, ProcessProgram, PullError, Start
from launcher.rehearsal.stack import LocalStack

REGISTRY = "127.0.0.1:5000"

_SOCKETS = "/run/postgresql"  # where a container finds the database's socket
_SOCKET = ".s.PGSQL.5432"
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Registry:
    """The registry that replaces ECR's, as a `Runner` that tells ECR what was pushed to it.

    Attributes:
        stack: the stack whose repository it holds.
        tag: the tag of the image that may be pushed.
        run: starts programs, `docker` among them.
    """

    stack: LocalStack
    tag: str
    run: Runner

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a program to its end, then look for the image in the registry."""
        completed = self.run(arguments, cwd=cwd, stdin=stdin, environment=environment, on_line=on_line)
        if arguments[0] == "docker" and completed.exit_code == 0:
            self.look()
        return completed

    def look(self) -> None:
        """Tell ECR about the image if the registry has it.

        Raises:
            ConfigurationError: no registry responds.
        """
        repository = self.stack.repository
        url = f"http://{REGISTRY}/v2/{repository}/manifests/{self.tag}"
        asked = urllib.request.Request(url, method="HEAD", headers={"Accept": _MANIFESTS})
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310 - on loopback
                digest = answer.headers["Docker-Content-Digest"]
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError as error:
            raise ConfigurationError(
                f"No image registry answers at {REGISTRY}.",
                hint=f"Start one: docker run --detach --publish {REGISTRY}:5000 registry:2",
                details=(str(error),),
            ) from error
        if digest not in {image.image_digest for image in self.stack.ecr.repositories[repository].images}:
            self.stack.put_image(self.tag, digest)


class DockerProgram(ProcessProgram):
    """A container in the engine. Its process is the `docker` client, which forwards SIGTERM and the exit code."""

    def __init__(self, container: Container, options: Sequence[str], run: Runner) -> None:
        self._name = f"neuraknot-rehearsal-{container.task_arn.rsplit('/', 1)[-1]}"
        self._run = run
        # By name only: the client reads the values from its own environment, which process lists do not show.
        variables = (f"--env={name}" for name in container.environment)
        image = container.definition["image"]
        command = ("docker", "run", "--rm", f"--name={self._name}", *options, *variables, image, *container.command)
        super().__init__(replace(container, command=command), Path.cwd(), os.environ, time.time)

    def kill(self, now: float) -> None:
        """Send SIGKILL, which the client can't forward."""
        self._run(["docker", "kill", self._name])
        super().kill(now)


def in_containers(run: Runner, host: str, database: EmbeddedDatabase) -> Start:
    """Start containers from their own images, pulled by digest, with the size and privileges that Fargate gives them.

    Args:
        run: starts `docker`.
        host: the database's host name inside the VPC.
        database: the replacement for it; a container only gets its socket.
    """

    def start(container: Container) -> DockerProgram:
        definition = container.definition
        pulled = run(["docker", "pull", "--quiet", definition["image"]])
        if pulled.exit_code != 0:
            raise PullError(" ".join(pulled.tail))
        environment = {name: _SOCKETS if value == host else value for name, value in container.environment.items()}
        options = [
            f"--cpus={int(definition['cpu']) / 1024}",
            f"--memory={definition['memory']}m",
            "--network=host",  # the metadata endpoint is on loopback
            f"--volume={database.socket}/{_SOCKET}:{_SOCKETS}/{_SOCKET}",
            *(["--read-only"] if definition.get("readonlyRootFilesystem") else []),
        ]
        dropped = definition.get("linuxParameters", {}).get("capabilities", {}).get("drop", [])
        options += [f"--cap-drop={capability}" for capability in dropped]
        return DockerProgram(replace(container, environment=environment), options, run)

    return start
