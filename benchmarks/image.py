"""The image: what it adds to its base, and a migration in it with a quarter of a core, as Fargate gives it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.peers import PROJECT, ROOT, Cost, Server, compared, plain_project, server
from launcher.image.context import files
from launcher.image.tag import DOCKERFILE

REGISTRY = "127.0.0.1:5000"
REPOSITORY = f"{REGISTRY}/neuraknot-benchmark"
BASE = "python:3.13-slim-bookworm"
ROUNDS = 9
FARGATE = ("--cpus=0.25", "--memory=512m", "--network=none")
SOCKETS = "/run/postgresql"

PLAIN_DOCKERFILE = f"""
FROM {BASE}
COPY requirements.lock /
RUN pip install --no-cache-dir --require-hashes --requirement /requirements.lock
COPY project /app
WORKDIR /app
"""

PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def run() -> Iterator[str]:
    """Yield a line for each figure."""
    if shutil.which("docker") is None or subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
        yield "not measured: no Docker engine answers"
        return
    with tempfile.TemporaryDirectory() as name, server() as database:
        checkout, plain = Path(name) / "ours", Path(name) / "plain"
        for file in (DOCKERFILE, ".dockerignore", *files(ROOT, DOCKERFILE)):
            (checkout / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, checkout / file)
        shutil.rmtree(checkout / "alembic")
        shutil.copytree(PROJECT / "alembic", checkout / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
        plain.mkdir()
        plain_project(plain / "project")
        shutil.copy(ROOT / "requirements.lock", plain)
        (plain / DOCKERFILE).write_text(PLAIN_DOCKERFILE)
        ours, peer = _built(checkout, "ours"), _built(plain, "plain")
        yield _size("the image adds to its base", ours, "at most 13 and 42 MB")
        yield _size("a plain pip install adds", peer, "for comparison")
        yield _revision(checkout, ours)
        yield from _pair("empty to head, at 0.25 CPU", database, ours, peer, empty=True)
        yield from _pair("nothing to do, at 0.25 CPU", database, ours, peer, empty=False)


def _docker(*arguments: str, **variables: str) -> str:
    done = subprocess.run(["docker", *arguments], env={**os.environ, **variables}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"docker {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def _built(context: Path, tag: str) -> str:
    image = f"{REPOSITORY}:{tag}"
    _docker("build", f"--file={context / DOCKERFILE}", f"--tag={image}", str(context))
    _docker("push", "--quiet", image)
    return image


def _inspect(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_docker("image", "inspect", image))[0]
    return found


def _layers(image: str) -> dict[str, int]:
    """The compressed layers above the base, by digest, with their sizes in bytes."""
    name, _, tag = image.rpartition(":")
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    url = f"http://{REGISTRY}/v2/{name.split('/', 1)[1]}/manifests/{tag}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
        layers = json.load(answer)["layers"][len(_inspect(BASE)["RootFS"]["Layers"]) :]
    return {layer["digest"]: layer["size"] for layer in layers}


def _size(name: str, image: str, bound: str) -> str:
    compressed = sum(_layers(image).values()) / 1e6
    unpacked = (_inspect(image)["Size"] - _inspect(BASE)["Size"]) / 1e6
    return f"{name:<44} {compressed:5.1f} MB compressed, {unpacked:.1f} MB unpacked   ({bound})"


def _revision(checkout: Path, before: str) -> str:
    """What a push carries after a revision file was changed."""
    revision = next((checkout / "alembic" / "versions").glob("002_*.py"))
    revision.write_text(revision.read_text() + "\n# Changed.\n")
    after = _built(checkout, "changed")
    known = _layers(before)
    new = sum(size for digest, size in _layers(after).items() if digest not in known)
    return f"{'a push after a change in a revision':<44} {new / 1000:5.1f} kB   (at most 100)"


def _pair(name: str, database: Server, ours: str, plain: str, *, empty: bool) -> Iterator[str]:
    costs: dict[str, list[Cost]] = {ours: [], plain: []}
    for number in range(ROUNDS + 1):
        # In turns, and each first every other time; the first round only warms up.
        for image in (ours, plain) if number % 2 else (plain, ours):
            place = "ours" if image == ours else "plain"
            if empty:
                database.empty(place)
            seconds = _timed(image, database, place)
            if number:
                costs[image].append(Cost(seconds, 0.0))
    peaks = {}
    for image in (ours, plain):
        place = "ours" if image == ours else "plain"
        if empty:
            database.empty(place)
        peaks[image] = _peak(image, database, place)
    costs = {image: [Cost(cost.seconds, peaks[image]) for cost in found] for image, found in costs.items()}
    yield compared(name, costs[ours], costs[plain])
    yield f"{'':<44} peak memory {peaks[ours]:.0f} MiB (at most 80), plain Alembic's {peaks[plain]:.0f} MiB"


def _options(database: Server) -> tuple[str, ...]:
    """As Fargate runs it; of the server it sees the socket only, since the folder is the server's own."""
    socket = f"--volume={database.host}/.s.PGSQL.5432:{SOCKETS}/.s.PGSQL.5432"
    return (*FARGATE, "--env=DATABASE_URL", "--env=NEURAKNOT_ENV=test", socket)


def _url(database: Server, place: str) -> str:
    return database.url(place).replace(database.host, SOCKETS)


def _timed(image: str, database: Server, place: str) -> float:
    """Seconds from the container's start to its end, as the engine has them."""
    command = ("alembic", "upgrade", "head")
    container = _docker("create", *_options(database), image, *command, DATABASE_URL=_url(database, place))
    try:
        _docker("start", container)
        if _docker("wait", container) != "0":
            logs = subprocess.run(
                ["docker", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            raise RuntimeError(logs.stdout)
        state = json.loads(_docker("inspect", container))[0]["State"]
    finally:
        _docker("rm", "--force", container)
    # To the microsecond: datetime reads no nanoseconds.
    begun, ended = (datetime.fromisoformat(state[key][:26]) for key in ("StartedAt", "FinishedAt"))
    return (ended - begun).total_seconds()


def _peak(image: str, database: Server, place: str) -> float:
    """The most memory that the process held, in MiB."""
    command = ("/usr/local/bin/python", "-c", PEAK, "alembic", "upgrade", "head")
    printed = _docker("run", "--rm", *_options(database), image, *command, DATABASE_URL=_url(database, place))
    return float(printed.splitlines()[-1])


def main() -> None:
    """Print the figures."""
    for line in run():
        print(line, flush=True)


if __name__ == "__main__":
    main()
