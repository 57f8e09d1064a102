"""The stage of a rehearsal: the local AWS with a stack, and containers, either real or processes of a checkout."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.image.build import require_engine
from launcher.image.tag import content_tag
from launcher.machine.process import Runner, run
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.database import EmbeddedDatabase
from launcher.rehearsal.engine import REGISTRY, Registry, in_containers
from launcher.rehearsal.failures import Failure
from launcher.rehearsal.plays import Scene
from launcher.rehearsal.program import Container, ProcessProgram, Program, Start
from launcher.rehearsal.stack import DATABASE_PASSWORD, StackOptions
from launcher.rehearsal.stand_in_docker import StandInDocker, digest_of
from launcher.rehearsal.task import Pace
from launcher.rehearsal.terraform import write_root

# Fargate takes half a minute to start a container; a rehearsal need not wait that long.
PACE = Pace(provisioning=0.4, pulling=0.8, deprovisioning=0.3, grace=5.0)

_PROGRAMS = Path(sys.executable).parent  # where `alembic` and `neuraknot-db` are

_ELSEWHERE = ("AWS_", "DATABASE_URL", "DB_", "NEURAKNOT_", "PG", "TF_")
_PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}


@dataclass(frozen=True)
class Stage:
    """Everything that a launcher uses, on this machine.

    Attributes:
        cloud: the local AWS.
        directory: a Terraform root with its state.
        runner: starts programs; `docker` may be simulated.
    """

    cloud: LocalAws
    directory: Path
    runner: Runner


@contextmanager
def staged(
    root: Path,
    environment: str,
    scratch: Path,
    database: EmbeddedDatabase,
    failure: Failure | None = None,
    *,
    in_docker: bool = False,
    base: str | None = None,
) -> Iterator[Stage]:
    """Set up the stage, and break it according to the failure.

    Meanwhile this process's AWS_* variables point to the local AWS only.

    Args:
        root: a checkout of this project; its migrations are run by the programs of the current Python.
        environment: the stack's environment.
        scratch: an empty folder for the Terraform root.
        database: the replacement for RDS; it may still be starting.
        failure: the failure to play, if any; only without a real engine.
        in_docker: build the image, push it to this machine's registry and run it, instead of simulating that.
        base: the base image to build on.

    Raises:
        ConfigurationError: the database does not start, or there is no registry.
        ImageError: there is no Docker engine.
    """
    options = replace(failure.stack if failure else StackOptions(), environment=environment)
    with ExitStack() as stack:
        start: list[Start] = []  # filled once the database's host name is known
        cloud = stack.enter_context(LocalAws(options, start=lambda container: start[0](container), pace=PACE))
        directory = scratch / "terraform" / "environments" / environment
        write_root(directory, cloud.stack.outputs, DATABASE_PASSWORD if options.login == "tfvars" else None)
        tag, host = content_tag(root, _PLATFORMS[options.architecture], base), cloud.stack.database_host
        if in_docker:
            runner: Runner = _registry(cloud, tag)
            start.append(in_containers(run, host, database))
        else:
            project = root
            if failure is not None:  # which may add a revision
                project = scratch / "project"
                shutil.copytree(root / "alembic", project / "alembic")
                shutil.copy2(root / "alembic.ini", project)
            start.append(_in_checkout(project, host, database))
            runner = _played(cloud, directory, tag, project, failure)
        stack.enter_context(_environment(cloud.environment))
        database.wait()
        yield Stage(cloud, directory, runner)


def _played(cloud: LocalAws, directory: Path, tag: str, project: Path, failure: Failure | None) -> Runner:
    """Return a runner with a `docker` that builds nothing, and play the failure."""
    docker = StandInDocker(cloud.stack, run)
    if failure is None or failure.image_known:
        cloud.stack.put_image(tag, digest_of(tag))
    scene = Scene(cloud, directory, docker, docker, project)
    if failure is not None:
        failure.play(scene)
    return scene.run


def _registry(cloud: LocalAws, tag: str) -> Registry:
    """Use this machine's registry instead of ECR."""
    require_engine(run)
    cloud.stack.use_registry(REGISTRY)
    registry = Registry(cloud.stack, tag, run)
    registry.look()
    return registry


def _in_checkout(root: Path, host: str, database: EmbeddedDatabase) -> Start:
    """Run containers as processes in `root`, with the container's environment and the image's.

    The database's host name only resolves inside the VPC; here the embedded database's socket replaces it.
    """
    image = {
        "PATH": os.pathsep.join((str(_PROGRAMS), os.defpath)),
        "HOME": str(root),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }

    def start(container: Container) -> Program:
        resolved = {name: database.socket if value == host else value for name, value in container.environment.items()}
        return ProcessProgram(replace(container, environment=resolved), root, image, time.time)

    return start


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set these variables, and remove others that would point to an account, a database or another stack."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(_ELSEWHERE):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
