"""Each way to go wrong, played on the local AWS: the launcher ends with the right code and the right words."""

from __future__ import annotations

import io
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.aws.client import Aws
from launcher.cli import commands
from launcher.cli.console import Console
from launcher.cli.dependencies import Dependencies
from launcher.cli.run_options import RunOptions
from launcher.cli.shared_options import Common
from launcher.environment.options import Options
from launcher.image.tag import content_tag
from launcher.launch.work import Migration
from launcher.machine.process import run
from launcher.models import Sourced
from launcher.rehearsal import plays
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.failures import FAILURES, Failure
from launcher.rehearsal.plays import Scene
from launcher.rehearsal.program import Script
from launcher.rehearsal.stack import DATABASE_PASSWORD
from launcher.rehearsal.stand_in_docker import StandInDocker, digest_of
from launcher.rehearsal.task import Pace
from launcher.rehearsal.terraform import write_root
from tests.ecs.conftest import FakeClock, MakeCloud

GOOD = Script(lines=plays.BEGINNING, seconds=3.0)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As little of a checkout as makes an image's tag."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "Dockerfile.migrate").write_text("FROM scratch\n")
    return root


@dataclass
class Outcome:
    code: int
    said: str
    printed: str


def migrate(clock: FakeClock, scene: Scene, root: Path, timeout: float | None) -> Outcome:
    """`launcher ecs-migrate`, with the scene's dependencies."""
    out, err = io.StringIO(), io.StringIO()
    console = Console(stdout=out, stderr=err)
    dependencies = Dependencies(
        aws=lambda profile, region: Aws(profile=profile, region=region, attempts=1),
        run=scene.run,
        clock=clock,
        environ=os.environ,
    )
    options = Options("dev", root=root, terraform_dir=Sourced(scene.directory, "--terraform-dir"))
    common = Common(options, dependencies, console, "--environment dev", RunOptions(timeout=timeout or 1800.0))
    with dependencies.interrupts.handled():
        code = commands.launch(common, "ecs-migrate", Migration())
    return Outcome(code, err.getvalue(), out.getvalue())


def scene_for(failure: Failure | None, make_cloud: MakeCloud, folder: Path, root: Path) -> Scene:
    options = failure.stack if failure else None
    settings = {"way_out": options.way_out, "login": options.login} if options else {}
    cloud = make_cloud(script=GOOD, **settings)
    directory = folder / "terraform"
    write_root(directory, cloud.stack.outputs, DATABASE_PASSWORD)
    if failure is None or failure.image_known:
        tag = content_tag(root, "linux/amd64")
        cloud.stack.put_image(tag, digest_of(tag))
    docker = StandInDocker(cloud.stack, run)
    return Scene(cloud, directory, docker, docker)


def started(cloud: LocalAws) -> int:
    """How many tasks this launcher started."""
    return sum(task.request.get("startedBy") != "somebody else" for task in cloud.ecs.tasks.values())


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_it_ends_with_the_right_code_and_words(
    failure: Failure, make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, checkout: Path
) -> None:
    scene = scene_for(failure, make_cloud, tmp_path, checkout)
    failure.play(scene)
    outcome = migrate(clock, scene, checkout, failure.timeout)
    assert outcome.code == failure.exit_code, outcome.said
    assert re.search(failure.says, outcome.said), outcome.said
    assert "Traceback" not in outcome.said
    assert ("Hint:" in outcome.said) == (failure.exit_code != 0), outcome.said
    steps = [line.split()[0] for line in outcome.said.splitlines() if line[:3] in (" ✓ ", " ✗ ")]
    assert (steps[-1] == "✗") == (failure.exit_code != 0), outcome.said
    assert started(scene.cloud) == (1 if failure.starts_a_task else 0)
    if failure.log_is_whole:
        assert outcome.printed.splitlines() == [text for _, text in plays.BEGINNING]
    assert DATABASE_PASSWORD not in outcome.said + outcome.printed


def test_nothing_goes_wrong_where_nothing_is_broken(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, checkout: Path
) -> None:
    scene = scene_for(None, make_cloud, tmp_path, checkout)
    outcome = migrate(clock, scene, checkout, None)
    assert outcome.code == 0, outcome.said
    assert outcome.printed.splitlines() == [text for _, text in plays.BEGINNING]


def test_the_twenty_ways_of_the_design_are_all_in_the_table() -> None:
    numbers = {failure.number for failure in FAILURES.values()}
    assert numbers == set(range(1, 21)) - {18}, "18, registering the same again, is no failure: see test_run_twice"


@pytest.mark.slow
def test_run_twice_nothing_is_registered_or_pushed_and_little_is_asked(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, checkout: Path
) -> None:
    scene = scene_for(None, make_cloud, tmp_path, checkout)
    scene.cloud.ecs.pace = Pace(provisioning=0.2, pulling=0.3, deprovisioning=0.2)
    assert migrate(clock, scene, checkout, None).code == 0
    first = len(scene.cloud.server.calls)
    assert migrate(clock, scene, checkout, None).code == 0
    again = scene.cloud.server.calls[first:]
    writes = [call.operation for call in again if not call.operation.startswith(("Describe", "Get", "List"))]
    assert writes == ["RunTask"]
    assert len(again) <= 21, [call.action for call in again]
    looks = [call.at for call in again if call.operation == "DescribeTasks"]
    assert all(after - before >= 1.0 for before, after in itertools.pairwise(looks))


@pytest.mark.slow
def test_a_definition_in_another_order_is_the_same(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, checkout: Path
) -> None:
    scene = scene_for(None, make_cloud, tmp_path, checkout)
    stack = scene.cloud.stack
    assert migrate(clock, scene, checkout, None).code == 0
    registered: Any = stack.ecs.task_definitions[stack.family][1]
    for container in registered.container_definitions:
        container["environment"].reverse()  # AWS keeps no order
    assert migrate(clock, scene, checkout, None).code == 0
    assert list(stack.ecs.task_definitions[stack.family]) == [1]
