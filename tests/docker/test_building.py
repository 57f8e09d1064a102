"""What the launcher's builder makes of a checkout, and what it says when it can't."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import neuraknot_db
from launcher.errors import ImageError
from launcher.image.build import Builder
from launcher.image.tag import DOCKERFILE, content_tag
from tests.docker.conftest import BASE, PLATFORM, REGISTRY, REPOSITORY, docker, inspect
from tests.projects import ROOT

MakeBuilder = Callable[..., Builder]
EMPTY_LAYER = f"sha256:{hashlib.sha256(bytes(1024)).hexdigest()}"  # BuildKit's for WORKDIR
SECRET = "planted-secret-8d1f"


@pytest.fixture
def checkout(sources: Path, tmp_path: Path) -> Path:
    """The same sources elsewhere, as another machine has them: other times, another umask, and files of one's own."""
    root = tmp_path / "elsewhere"
    shutil.copytree(sources, root)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    for name in (".env", "alembic/.env", "secrets.tfvars", "terraform/environments/prod/secrets.tfvars", "dump.sql"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(SECRET)
    (root / "alembic" / "__pycache__").mkdir()
    (root / "alembic" / "__pycache__" / "env.cpython-311.pyc").write_text(SECRET)
    return root


def layers(image: str) -> list[str]:
    """The digests of an image's layers, uncompressed."""
    found: list[str] = inspect(image)["RootFS"]["Layers"]
    return found


def manifest(tag: str) -> dict[str, Any]:
    """What the registry has under a tag."""
    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    url = f"http://{REGISTRY}/v2/{REPOSITORY.split('/', 1)[1]}/manifests/{tag}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_the_tag_is_the_same_on_every_machine(sources: Path, checkout: Path) -> None:
    assert content_tag(checkout, PLATFORM) == content_tag(sources, PLATFORM)
    (checkout / "alembic.ini").write_text("[alembic]\n")
    assert content_tag(checkout, PLATFORM) != content_tag(sources, PLATFORM)


@pytest.mark.slow
def test_make_base_pins_what_the_registry_has(checkout: Path, builder: MakeBuilder) -> None:
    """In a copy whose base is in a registry that can be reached from here."""
    mirrored = f"{REGISTRY}/{BASE}"
    docker("tag", BASE, mirrored)
    docker("push", "--quiet", mirrored)
    dockerfile = checkout / DOCKERFILE
    dockerfile.write_text(re.sub(r"(?m)^ARG BASE=.*$", f"ARG BASE={mirrored}", dockerfile.read_text()))
    floating = content_tag(checkout, PLATFORM)
    tags = []
    for _ in range(2):  # the second time there is nothing new
        done = subprocess.run([sys.executable, ROOT / "docker" / "base.py", dockerfile], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(rf"{re.escape(mirrored)}@sha256:[0-9a-f]{{64}}\n", done.stdout)
        tags.append(content_tag(checkout, PLATFORM))
    assert f"ARG BASE={done.stdout}" in dockerfile.read_text()
    assert tags[0] == tags[1] != floating
    own = replace(builder(checkout), base=None)
    assert own.build_and_push(REPOSITORY, tags[0], PLATFORM).startswith("sha256:")


def test_the_base_image_is_part_of_the_tag(sources: Path) -> None:
    tags = {content_tag(sources, PLATFORM, base) for base in (None, BASE, "mirror.example/python:3.13")}
    assert len(tags) == 3


@pytest.mark.slow
def test_equal_sources_make_equal_layers(checkout: Path, image: str) -> None:
    on = f"--build-arg=BASE={BASE}"
    # It is not removed: with it would go layers that a build beside this one has found in the cache.
    again = docker("build", "--quiet", "--no-cache", on, f"--file={checkout / DOCKERFILE}", str(checkout)).stdout
    assert layers(again.strip()) == layers(image)


def with_buildkit() -> str | None:
    """A client on this machine that can build with BuildKit, as Debian's own can without a plugin."""
    for folder in os.environ["PATH"].split(os.pathsep):
        client = Path(folder) / "docker"
        if client.exists():
            done = subprocess.run(
                [str(client), "build", "--help"], env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True
            )
            if b"--secret" in done.stdout:
                return str(client)
    return None


@pytest.mark.slow
def test_both_builders_make_equal_layers(checkout: Path, image: str) -> None:
    client = with_buildkit()
    if client is None:
        pytest.skip("no Docker client here has BuildKit")
    command = [client, "build", "--quiet", f"--build-arg=BASE={BASE}", f"--file={checkout / DOCKERFILE}", str(checkout)]
    done = subprocess.run(command, env={**os.environ, "DOCKER_BUILDKIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [layer for layer in layers(done.stdout.strip()) if layer != EMPTY_LAYER] == layers(image)


def test_a_new_revision_makes_the_last_layer_anew_and_no_other(
    checkout: Path, image: str, builder: MakeBuilder
) -> None:
    revision = checkout / "alembic" / "versions" / "005_added.py"
    revision.write_text(
        f'revision = "005"\ndown_revision = "004"\n\n\ndef upgrade():\n    """{os.urandom(999).hex()}."""\n'
    )
    tag = content_tag(checkout, PLATFORM)
    lines: list[str] = []
    builder(checkout, lines).build_and_push(REPOSITORY, tag, PLATFORM)
    before, after = layers(image), layers(f"{REPOSITORY}:{tag}")
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]
    pushed = [line for line in lines if line.endswith(": Pushed")]
    assert len(pushed) == 1
    assert manifest(tag)["layers"][-1]["size"] <= 100_000


def test_no_secret_reaches_a_layer(checkout: Path, builder: MakeBuilder) -> None:
    tag = content_tag(checkout, PLATFORM)
    builder(checkout).build_and_push(REPOSITORY, tag, PLATFORM)
    saved = subprocess.run(["docker", "save", f"{REPOSITORY}:{tag}"], capture_output=True, check=True).stdout
    assert b"alembic/env.py" in saved
    assert SECRET.encode() not in saved


def test_the_registrys_token_stays_nowhere(checkout: Path, builder: MakeBuilder) -> None:
    builder(checkout).build_and_push(REPOSITORY, content_tag(checkout, PLATFORM), PLATFORM)
    kept = json.loads((Path(os.environ["DOCKER_CONFIG"]) / "config.json").read_text())
    assert kept.get("auths", {}) == {}


def test_a_registry_that_is_not_there_can_not_be_reached(checkout: Path, builder: MakeBuilder) -> None:
    with pytest.raises(
        ImageError, match=r"could not log in to 127\.0\.0\.1:9: the registry can't be reached"
    ) as raised:
        builder(checkout).build_and_push("127.0.0.1:9/neuraknot-test-migrate", "never", PLATFORM)
    assert raised.value.exit_code == 22
    assert "Check the network" in str(raised.value.hint)


def test_the_labels_say_version_and_commit(checkout: Path, builder: MakeBuilder) -> None:
    replace(builder(checkout), git_commit="0123abc").build_and_push(REPOSITORY, "labelled", PLATFORM)
    labels = inspect(f"{REPOSITORY}:labelled")["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == neuraknot_db.__version__
    assert labels["org.opencontainers.image.revision"] == "0123abc"


FROM_NOWHERE = f"FROM {REGISTRY}/none\n"
FILLS_THE_DISK = "FROM python:3.13-slim-bookworm\nRUN head --bytes=100M /dev/zero > /dev/shm/full\n"


@pytest.mark.parametrize(
    ("dockerfile", "platform", "sentence", "engine", "hint"),
    [
        (FROM_NOWHERE, PLATFORM, "the base image can't be had", "manifest unknown", "--base MIRROR"),
        (FILLS_THE_DISK, PLATFORM, "the disk is full", "No space left on device", "docker system prune"),
        (None, "linux/arm64", "can't build for linux/arm64", "does not match the specified platform", "--image"),
        ("FROM scratch\nRUN true\n", PLATFORM, "The image could not be built", "", "by hand: docker build --file"),
    ],
)
def test_a_build_that_fails_says_why(
    checkout: Path,
    builder: MakeBuilder,
    dockerfile: str | None,
    platform: str,
    sentence: str,
    engine: str,
    hint: str,
) -> None:
    if dockerfile is not None:
        (checkout / DOCKERFILE).write_text(dockerfile)
    with pytest.raises(ImageError) as raised:
        builder(checkout).build_and_push(REPOSITORY, "never", platform)
    assert raised.value.exit_code == 22
    assert sentence in raised.value.message
    assert engine in "\n".join(raised.value.details)
    assert hint in str(raised.value.hint)


def test_without_an_engine_nothing_is_built(builder: MakeBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(ImageError, match="Docker is not running") as raised:
        builder().build_and_push(REPOSITORY, "never", PLATFORM)
    assert raised.value.exit_code == 22
    assert "Cannot connect" in raised.value.details[-1]


class Registry(http.server.BaseHTTPRequestHandler):
    """Lets everybody in, and then takes no layer: it refuses them, or breaks off in the middle of one."""

    protocol_version = "HTTP/1.1"
    refuses = True
    address = ""

    def do_GET(self) -> None:
        self.answer(200, b"{}")

    def do_HEAD(self) -> None:
        self.answer(404, b"")

    def do_POST(self) -> None:
        if self.refuses:
            error = {"code": "DENIED", "message": "User is not authorized to perform: ecr:InitiateLayerUpload"}
            self.answer(403, json.dumps({"errors": [error]}).encode())
        else:
            self.answer(202, b"", Location=f"{self.path}1")

    def do_PATCH(self) -> None:
        self.rfile.read(1000)
        self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bad_registry() -> Iterator[type[Registry]]:
    """A registry at `address` that takes nothing."""

    class Handler(Registry):
        pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Handler
        server.shutdown()


@pytest.mark.slow  # the engine tries five times
@pytest.mark.parametrize(
    ("refuses", "sentence", "hint"),
    [
        (True, "the registry refused it", "launcher iam-policy"),
        (False, "the registry stopped answering", "Run the same command again"),
    ],
)
def test_a_push_that_fails_says_why(
    builder: MakeBuilder, image: str, bad_registry: type[Registry], refuses: bool, sentence: str, hint: str
) -> None:
    bad_registry.refuses = refuses
    with pytest.raises(ImageError) as raised:
        builder().build_and_push(f"{bad_registry.address}/neuraknot-test-migrate", "never", PLATFORM)
    assert raised.value.exit_code == 22
    assert sentence in raised.value.message
    assert raised.value.details
    assert hint in str(raised.value.hint)
