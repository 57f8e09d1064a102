"""Pin the base image of a Dockerfile by the digest that its registry has now: `make base`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_BASE = re.compile(r"^ARG BASE=([^@\s]+)\S*$", re.MULTILINE)


def pin(dockerfile: Path) -> str:
    """Write the digest behind the tag in `ARG BASE=IMAGE:TAG`, in place of the one there; return the whole.

    Raises:
        SystemExit: there is no such line, or Docker can't pull the image.
    """
    text = dockerfile.read_text(encoding="utf-8")
    found = _BASE.search(text)
    if found is None:
        raise SystemExit(f"{dockerfile} has no line ARG BASE=IMAGE:TAG.")
    image = found[1]
    repository = image[: image.rindex(":")] if ":" in image.rpartition("/")[2] else image
    _docker("pull", "--quiet", image)
    digests = _docker("image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', image).split()
    pinned = f"{image}@{next(each for each in digests if each.startswith(f'{repository}@')).partition('@')[2]}"
    dockerfile.write_text(_BASE.sub(f"ARG BASE={pinned}", text, count=1), encoding="utf-8")
    return pinned


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603, S607
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(pin(Path(sys.argv[1] if len(sys.argv) > 1 else "Dockerfile.migrate")) + "\n")
