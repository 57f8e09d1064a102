"""Docker is let into the registry for one push, and what keeps it out is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.rehearsal.stand_in_docker import StandInDocker
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Stage, make_stage


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return make_stage(make_cloud(script=GOOD), clock, tmp_path, pushed=False)


@pytest.fixture
def docker(stage: Stage) -> StandInDocker:
    assert isinstance(stage.runner, StandInDocker)
    return stage.runner


def registry(stage: Stage) -> str:
    return f"{stage.cloud.stack.account}.dkr.ecr.{stage.cloud.stack.region}.amazonaws.com"


@pytest.mark.slow
@pytest.mark.parametrize("fails", [None, "push", "login"])
def test_the_token_does_not_outlast_the_push(stage: Stage, docker: StandInDocker, fails: str | None) -> None:
    docker.push_refused = fails == "push"
    docker.login_fails = "unauthorized" if fails == "login" else ""
    assert stage.launch("ecs-migrate").code == (22 if fails else 0)
    assert docker.asked.count("login") == docker.asked.count("logout") == 1
    assert not docker.logins


@pytest.mark.parametrize(
    ("config", "stays"),
    [
        ({"auths": {"REGISTRY": {"auth": "QVdTOng="}}}, True),
        ({"auths": {"https://REGISTRY/": {}}, "credsStore": "pass"}, True),
        ({"auths": {"registry.example": {}}}, False),
        ({"auths": {}}, False),
        ("no object", True),
    ],
)
def test_who_was_logged_in_before_stays_so(
    stage: Stage, docker: StandInDocker, tmp_path: Path, config: object, stays: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config).replace("REGISTRY", registry(stage)))
    assert stage.launch("ecs-migrate").code == 0
    assert bool(docker.logins) == stays


UNKNOWN_HOST = 'Get "https://1.dkr.ecr.example/v2/": dial tcp: lookup 1.dkr.ecr.example on 10.0.0.2:53: no such host'
REFUSED = 'Get "https://1.dkr.ecr.example/v2/": dial tcp 127.0.0.1:9: connect: connection refused'
NO_ANSWER = 'Get "https://1.dkr.ecr.example/v2/": net/http: request canceled (Client.Timeout exceeded)'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (UNKNOWN_HOST, "the registry can't be reached", "Check the network"),
        (REFUSED, "the registry can't be reached", "Check the network"),
        (NO_ANSWER, "the registry can't be reached", "Check the network"),
        ("unexpected EOF", "the registry stopped answering", "Run the same command again"),
        ("denied: not authorized", "the registry refused it", "launcher iam-policy"),
        ("something new", "Docker could not log in to ", "aws ecr get-login-password --region ap-northeast-1 | docker"),
    ],
)
def test_a_login_that_fails_says_why(stage: Stage, docker: StandInDocker, words: str, sentence: str, hint: str) -> None:
    docker.login_fails = words
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22
    assert f"Docker could not log in to {registry(stage)}" in outcome.err
    assert sentence in outcome.err
    assert hint in outcome.err.split("Hint: ")[1]
    assert words in outcome.err
