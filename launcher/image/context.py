"""The files of the build context that `docker build` would get, and one hash over all of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import ConfigurationError
from launcher.machine.untrusted_text import UnreadableError, read_text


@dataclass(frozen=True)
class _Rule:
    """A line of a .dockerignore.

    Attributes:
        pattern: matches the named paths and everything below them.
        excludes: False for a line that begins with `!`.
        prefix: the literal beginning of every match.
    """

    pattern: re.Pattern[str]
    excludes: bool
    prefix: str


def fingerprint(root: Path, dockerfile: str, platform: str, base: str | None = None) -> str:
    """Return a hash of everything that goes into the image, as 64 hexadecimal digits.

    It covers the Dockerfile, the platform, the base image by its name, and for each file of the context its path,
    whether it is executable, and its content or link target. It does not cover times and owners.

    Args:
        root: the build context.
        dockerfile: its path, relative to `root`.
        platform: in Docker's notation: `linux/amd64`.
        base: the base image, if it is another than the Dockerfile's.

    Raises:
        ConfigurationError: a file can't be read.
    """
    whole = hashlib.sha256("\0".join(("1", platform, *([base] if base else []), "")).encode())
    try:
        for path in sorted({*files(root, dockerfile), dockerfile}):
            file = root / path
            if file.is_symlink():
                kind, content = "link", os.fsencode(file.readlink())
            else:
                kind = "program" if os.access(file, os.X_OK) else "file"
                content = file.read_bytes()
            whole.update(f"{path}\0{kind}\0{hashlib.sha256(content).hexdigest()}\0".encode(errors="surrogateescape"))
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} can't be read: {error.strerror}.", hint="Give an image that exists with --image."
        ) from error
    return whole.hexdigest()


def files(root: Path, dockerfile: str) -> Iterator[str]:
    """Yield the paths of the context's files, relative to `root`, without those in .dockerignore."""
    rules = _rules(root, dockerfile)
    for directory, folders, names in os.walk(root):
        base = "" if Path(directory) == root else Path(directory).relative_to(root).as_posix() + "/"
        links = [folder for folder in folders if (Path(directory) / folder).is_symlink()]
        for name in [*names, *links]:
            if not _excluded(base + name, rules):
                yield base + name
        folders[:] = [f for f in folders if f not in links and not _prunable(base + f, rules)]


def _rules(root: Path, dockerfile: str) -> tuple[_Rule, ...]:
    """Read the rules: BuildKit prefers DOCKERFILE.dockerignore; the legacy builder only knows .dockerignore."""
    for path in (root / f"{dockerfile}.dockerignore", root / ".dockerignore"):
        if path.is_file():
            try:
                return tuple(rule for line in read_text(path).splitlines() if (rule := _rule(line)) is not None)
            except (UnreadableError, re.error) as error:
                raise ConfigurationError(
                    f"{path} can't be read: {error}.", hint="Give an image that exists with --image."
                ) from None
    return ()


def _rule(line: str) -> _Rule | None:
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    excludes = not text.startswith("!")
    text = os.path.normpath(text.removeprefix("!").strip()).lstrip("/")
    if text in ("", "."):
        return None
    return _Rule(re.compile(_regex(text)), excludes, re.split(r"[*?\[\\]", text, maxsplit=1)[0])


def _regex(pattern: str) -> str:
    """Translate a pattern of Go's filepath.Match, with `**` for any number of folders; it also matches all below."""
    out, rest = "", pattern
    while rest:
        if rest.startswith("**/"):
            out, rest = out + "(?:.*/)?", rest[3:]
        elif rest.startswith("**"):
            out, rest = out + ".*", rest[2:]
        elif rest[0] == "*":
            out, rest = out + "[^/]*", rest[1:]
        elif rest[0] == "?":
            out, rest = out + "[^/]", rest[1:]
        elif rest[0] == "[" and "]" in rest[2:]:
            end = rest.index("]", 2) + 1
            out, rest = out + rest[:end], rest[end:]
        elif rest[0] == "\\" and len(rest) > 1:
            out, rest = out + re.escape(rest[1]), rest[2:]
        else:
            out, rest = out + re.escape(rest[0]), rest[1:]
    return f"^{out}(?:/.*)?$"


def _excluded(path: str, rules: tuple[_Rule, ...]) -> bool:
    verdict = False
    for rule in rules:
        if rule.excludes != verdict and rule.pattern.match(path):
            verdict = rule.excludes
    return verdict


def _prunable(folder: str, rules: tuple[_Rule, ...]) -> bool:
    """Whether a folder is excluded and no rule includes anything below; saves walking through .git and .venv."""
    below = folder + "/"
    return _excluded(folder, rules) and not any(
        not rule.excludes and (rule.prefix.startswith(below) or below.startswith(rule.prefix)) for rule in rules
    )
