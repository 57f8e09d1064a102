"""The base image that a person names: refused before anything is made, told of where it may move, repeated in hints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import UsageError
from launcher.image.tag import require_base
from launcher.machine.process import Completed
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, make_stage

SHA256 = f"sha256:{'a' * 64}"


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path, pushed=False)


# What Docker itself took, and what it called an invalid reference.
@pytest.mark.parametrize(
    "base",
    [
        *("python", "python:3.13", "library/python", "localhost/x", "a--b", "a__b.c", "mirror/python:3.13"),
        *("localhost:5000/x", "x:123/y", "127.0.0.1:5000/a/b:c", "[::1]:5000/x", "Mirror.example/python:3.13-Slim_1"),
        *(f"python@{SHA256}", f"python:3.13@{SHA256}", f"x@sha512:{'0' * 128}", "a" * 255),
    ],
)
def test_a_base_is_written_as_docker_writes_it(base: str) -> None:
    require_base(base)


@pytest.mark.parametrize(
    "base",
    [
        *(
            "",
            " ",
            "not a ref",
            "UPPER/x",
            "x:tag:tag",
            "a/UPPER",
            "a___b",
            "x..y",
            "x:",
            "x@",
            "/x",
            "x/",
            "-x",
            "x:ä",
        ),
        *("python:3.13\n", " python", "https://x/y", "a:b:5/y", "x:5000/", "x@sha256:abc", f"x@{SHA256.upper()}"),
        *("a" * 64, "a" * 256, f"x:{'t' * 129}", "--file=x", "-.x/y", "x/$(id)", "[::1/x", "user:password@host/x"),
    ],
)
def test_what_is_no_reference_is_refused(base: str) -> None:
    with pytest.raises(UsageError):
        require_base(base)


@pytest.mark.parametrize("option", ["--base", "--image"])
@pytest.mark.parametrize("given", ["not a ref", " ", "UPPER/x", "x:tag:tag"])
def test_a_wrong_reference_is_refused_before_anything_is_made(stage: Stage, option: str, given: str) -> None:
    outcome = stage.launch("ecs-migrate", "--snapshot", option, given)
    assert outcome.code == 2, outcome.err
    assert f"{given!r} is not an image reference" in outcome.err
    assert "Hint: " in outcome.err
    assert not stage.writes


def test_an_empty_one_is_none(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--dry-run", "--json", "--base", "", "--image", "", "--client-token", "")
    assert outcome.code == 0, outcome.err
    assert outcome.json["image"] == stage.launch("ecs-migrate", "--dry-run", "--json").json["image"]


@pytest.mark.parametrize("dry_run", [["--dry-run"], ["--dry-run", "--json"], []])
@pytest.mark.parametrize(
    ("base", "moves"), [("mirror.example/python:3.13", True), ("python", True), (f"python:3.13@{SHA256}", False)]
)
def test_a_base_that_may_move_is_told_of_once(stage: Stage, base: str, moves: bool, dry_run: list[str]) -> None:
    outcome = stage.launch("ecs-migrate", "--base", base, *dry_run)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(f"{base} may move") == moves


@pytest.mark.parametrize("buildx", [True, False])
@pytest.mark.parametrize("fails", ["build", "push"])
def test_the_command_to_paste_is_the_one_that_was_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, buildx: bool, fails: str
) -> None:
    run, ran = stage.runner, list[list[str]]()

    def docker(arguments: Sequence[str], **settings: Any) -> Completed:
        ended = tuple(arguments)
        if ended[:2] == ("docker", "buildx") and not buildx:
            return Completed(ended, 1, "", "unknown command")
        if ended[:2] != ("docker", fails) and (not buildx or ended[1:3] != ("buildx", "build")):
            return Completed(ended, 0, "", "") if ended[:2] == ("docker", "build") else run(arguments, **settings)
        ran.append(list(ended))
        return Completed(ended, 1, "", "something new" if fails == "build" else "pushing layers: something new")

    stage.runner = docker
    monkeypatch.setenv("GITHUB_SHA", "0123abc")
    outcome = stage.launch("ecs-migrate", "--base", "mirror.example/python:3.13")
    assert outcome.code == 22
    dropped = ("--metadata-file", *(["--push"] if fails == "build" else []))
    [command] = ran
    pasted = outcome.err.partition("by hand: ")[2].rpartition("&& ")[2]
    assert shlex.split(pasted) == [each for each in command if not each.startswith(dropped)]
    if buildx or fails == "build":
        assert {"--build-arg=BASE=mirror.example/python:3.13", "--build-arg=REVISION=0123abc"} <= {*command}
