"""Docker is let into the registry for one push, and what keeps it out is told."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.image.tag import content_tag
from launcher.machine.process import Completed
from launcher.rehearsal.stand_in_docker import StandInDocker, digest_of
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, Remembering, Stage, make_stage


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


NOT_IMPLEMENTED = "Error saving credentials: error storing credentials - err: exit status 1, out: `not implemented`"
NOT_FOUND = (
    'Error saving credentials: error storing credentials - err: exec: "docker-credential-desktop": executable file not'
    " found in $PATH, out: ``"
)


@pytest.mark.parametrize(
    "config", [{"credHelpers": {"REGISTRY": "ecr-login"}}, {"credsStore": "ecr-login", "auths": {}}], ids=["own", "all"]
)
@pytest.mark.parametrize(
    ("serves", "said", "words"),
    [
        (True, NOT_IMPLEMENTED, None),
        (False, NOT_IMPLEMENTED, "the credential helper that its settings name can't keep the login"),
        (True, "denied: not authorized", "Docker could not log in to "),  # the registry's no, not the helper's
    ],
)
def test_a_helper_that_serves_the_registry_need_not_keep_a_login(
    stage: Stage,
    docker: StandInDocker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: object,
    serves: bool,
    said: str,
    words: str | None,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config).replace("REGISTRY", registry(stage)))
    helper = tmp_path / "docker-credential-ecr-login"
    get = f'read host; [ "$host" = {registry(stage)} ] && echo "{{}}"' if serves else "exit 1"
    helper.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 1\n{get}\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    docker.login_fails = said
    docker.logins.add(registry(stage))  # by the helper
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == (22 if words else 0), outcome.err
    assert (words or "") in outcome.err
    assert words or "logout" not in docker.asked


class _Failing(StandInDocker):
    """The engine says why it can't push."""

    why = ""

    def _build(self, arguments: tuple[str, ...]) -> tuple[int, str]:
        return 1, self.why


@pytest.mark.parametrize(
    ("why", "sentence", "hint"),
    [
        ("failed to push r: denied: Your authorization token has expired.", "can't keep the login", "Take the helper"),
        ("failed to push r: 401 Unauthorized", "can't keep the login", "Take the helper"),
        ("failed to push r: 403 Forbidden", "can't keep the login", "Take the helper"),
        ("failed to push r: dial tcp: no such host", "the registry can't be reached", "Check the network"),
        ("pull: unauthorized: authentication required", "the base image can't be had", "Log in to its registry"),
    ],
)
def test_an_old_login_that_a_helper_still_has_is_told_as_the_helper_s(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str, sentence: str, hint: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "desktop.exe"}))
    (tmp_path / "docker-credential-desktop.exe").write_text("#!/bin/sh\n")
    (tmp_path / "docker-credential-desktop.exe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    failing = _Failing(stage.cloud.stack, Remembering())
    failing.login_fails = "error storing credentials - err: exit status 1, out: `The stub received bad data.`"
    failing.why, stage.runner = f"ERROR: {why}\n", failing
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22
    assert sentence in outcome.err
    assert hint in outcome.err.split("Hint: ")[1]


def test_a_helper_that_is_not_installed_is_told_as_such(stage: Stage, docker: StandInDocker, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "desktop"}))
    docker.login_fails = NOT_FOUND
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22
    assert "docker-credential-desktop" in outcome.err
    assert "Take the helper out of credsStore" in outcome.err


class _Raced(StandInDocker):
    """Another job pushes the same content first, unless the registry loses it."""

    lost = False

    def _build(self, arguments: tuple[str, ...]) -> tuple[int, str]:
        [reference] = [each.partition("=")[2] for each in arguments if each.startswith("--tag=")]
        name, _, tag = reference.rpartition(":")
        if not self.lost:
            self._stack.put_image(tag, digest_of(tag), name.split("/", 1)[1])
        why = f"The image tag '{tag}' already exists in the 'r' repository and cannot be overwritten because the tag is"
        return 1, f"#9 pushing layers\nERROR: failed to push {reference}: tag invalid: {why} immutable.\n"


@pytest.mark.parametrize("lost", [False, True])
def test_the_same_content_pushed_by_another_job_is_taken(stage: Stage, lost: bool) -> None:
    raced = _Raced(stage.cloud.stack, Remembering())
    raced.lost, stage.runner = lost, raced
    outcome = stage.launch("ecs-migrate", "--json")
    assert outcome.code == (22 if lost else 0), outcome.err
    if not lost:
        assert outcome.json["image_digest"] == digest_of(content_tag(stage.root, "linux/amd64"))


BY_HAND = "aws ecr get-login-password --region ap-northeast-1 | docker login --username AWS --password-stdin "


@pytest.mark.parametrize(
    ("why", "sentence", "hint"),
    [
        ("failed to push r: no basic auth credentials", "the registry got no valid login", BY_HAND),
        (
            "failed to push r: denied: Your authorization token has expired. Reauthenticate and try again.",
            "the registry got no valid login",
            BY_HAND,
        ),
        ("failed to push r: unauthorized: authentication required", "got no valid login", BY_HAND),
        ("#5 a step: access denied\nfailed to push r: TLS handshake timeout", "was built, but not pushed", "network"),
        ("failed to push r: unexpected status from POST request: 401 Unauthorized", "got no valid login", BY_HAND),
        ("failed to push r: unexpected status from POST request: 403 Forbidden", "refused it", "`launcher iam"),
        ("failed to push r: denied: User: x is not authorized to perform: ecr:PutImage", "refused it", "`launcher iam"),
        (
            "failed to push r: denied: User: x is not authorized to perform: ecr:PutImage with an explicit deny",
            "the registry refused it",
            "look for its Deny",
        ),
        ("Head https://r/v2/base: no basic auth credentials", "the base image can't be had", "Log in to its registry"),
        ("pip: 401 Unauthorized", "The image could not be built.", "docker buildx build --file"),
        ("pull: unauthorized: authentication required", "the base image can't be had", "Log in to its registry"),
        (
            'unauthorized: authentication required\nprocess "/bin/sh -c pip" did not complete successfully: 1',
            "a step of the Dockerfile failed",
            "docker buildx build --file",
        ),
        (
            "no basic auth credentials\nThe command '/bin/sh -c pip install .' returned a non-zero code: 1",
            "a step of the Dockerfile failed",
            "docker buildx build --file",
        ),
    ],
)
def test_a_login_that_is_lacking_is_told_from_a_permission(stage: Stage, why: str, sentence: str, hint: str) -> None:
    failing = _Failing(stage.cloud.stack, Remembering())
    failing.why, stage.runner = f"ERROR: {why}\n", failing
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22
    assert sentence in outcome.err
    assert hint in outcome.err.split("Hint: ")[1]


UNKNOWN_HOST = 'Get "https://1.dkr.ecr.example/v2/": dial tcp: lookup 1.dkr.ecr.example on 10.0.0.2:53: no such host'
REFUSED = 'Get "https://1.dkr.ecr.example/v2/": dial tcp 127.0.0.1:9: connect: connection refused'
UNWRITABLE = "saving credentials: mkdir /home/ci/.docker: permission denied"
READ_ONLY = "saving credentials: open /home/ci/.docker/config.json234: read-only file system"
UNREADABLE = (
    "WARNING: Error loading config file: open /home/ci/.docker/config.json: permission denied\n"
    "Error response from daemon: login attempt failed with status: 400 Bad Request"
)
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
        (f"Error {UNWRITABLE}", f"can't be saved ({UNWRITABLE.partition(': ')[2]})", "DOCKER_CONFIG=$(mktemp -d)"),
        (f"Error {READ_ONLY}", f"can't be saved ({READ_ONLY.partition(': ')[2]})", "DOCKER_CONFIG=$(mktemp -d)"),
        (UNREADABLE, "amazonaws.com.", "aws ecr get-login-password --region ap-northeast-1 | docker"),
    ],
)
def test_a_login_that_fails_says_why(stage: Stage, docker: StandInDocker, words: str, sentence: str, hint: str) -> None:
    docker.login_fails = words
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22
    assert f"Docker could not log in to {registry(stage)}" in outcome.err
    assert sentence in outcome.err
    assert hint in outcome.err.split("Hint: ")[1]
    assert all(line in outcome.err for line in words.splitlines())


@pytest.mark.parametrize("words", ["Docker daemon socket at unix:///run/docker.sock", "docker API at unix:///run/d"])
def test_whoever_may_not_use_docker_is_not_told_to_start_it(stage: Stage, docker: StandInDocker, words: str) -> None:
    def run(arguments: Sequence[str], **options: Any) -> Completed:
        if tuple(arguments[:2]) == ("docker", "version"):
            return Completed(tuple(arguments), 1, "", f"permission denied while trying to connect to the {words}\n")
        return docker(arguments, **options)

    stage.runner = run
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22
    assert "This user may not use Docker" in outcome.err
    assert "sudo usermod -aG docker" in outcome.err
