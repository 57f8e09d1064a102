"""Build the image and push it, if the registry does not have it yet."""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from launcher.aws.refusals import IAM_POLICY, advice
from launcher.errors import AwsError, ImageError, ProgramNotFoundError
from launcher.image.tag import DOCKERFILE
from launcher.machine.process import Completed, Runner, uncoloured
from launcher.machine.redaction import Redactor
from launcher.machine.untrusted_text import UnreadableError, parse_json, read_text

if TYPE_CHECKING:
    from launcher.aws.client import Aws

_PUSHED = re.compile(r"digest: (sha256:[0-9a-f]{64})")
_PUSHING = re.compile(r"pushing layers|failed to push")
# A registry that does not know who asks says 401 or "unauthorized"; one that knows, and refuses, 403 or "denied".
_NO_LOGIN = re.compile(
    r"\bunauthorized\b|authentication required|no basic auth credentials|authorization token has expired", re.IGNORECASE
)
_DENIED = re.compile(r"(?<!permission )denied|403 Forbidden", re.IGNORECASE)  # a file says "permission denied"
_NOT_KEPT = re.compile("storing credentials", re.IGNORECASE)
_NO_ACCESS = re.compile("permission denied while trying to connect", re.IGNORECASE)
_LEGACY = re.compile(r"legacy builder is deprecated|Install the buildx component|docs\.docker\.com/go/buildx")
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class _Cause:
    """A known cause of failure, as worded by the engine, BuildKit and registries.

    Attributes:
        words: matches the message.
        means: the rest of a sentence that begins with what failed; `{platform}` and groups of `words` are filled in.
        hint: what to do; `{by_hand}` is the command to try it by hand.
    """

    words: re.Pattern[str]
    means: str
    hint: str


_CAUSES = (
    _Cause(
        re.compile("no space left on device", re.IGNORECASE),
        "the disk is full",
        "See what Docker keeps, and remove what nobody needs: docker system df; docker system prune",
    ),
    _Cause(
        re.compile(
            "exec format error|does not match the specified platform|no match for platform|no matching manifest"
        ),
        "this Docker engine can't build for {platform}",
        "Build on a machine of that kind, or teach this one with QEMU and buildx; or name an image with --image.",
    ),
    _Cause(  # before causes that a step's own program may quote: it has a base image
        re.compile("did not complete successfully|returned a non-zero code"),
        "a step of the Dockerfile failed",
        "Try it by hand: {by_hand}",
    ),
    _Cause(
        re.compile(
            "manifest unknown|pull access denied|failed to resolve source metadata|registry-1.docker.io|toomanyrequests"
            "|no basic auth credentials|authorization token has expired|unauthorized: authentication required"
        ),
        "the base image can't be had",
        "Log in to its registry, or build on a copy of it from a mirror: launcher ecs-migrate --base MIRROR/IMAGE",
    ),
)
_UNKEPT = _Cause(
    _NOT_KEPT,
    "the credential helper that its settings name can't keep the login",
    "Take the helper out of credsStore or credHelpers in Docker's config.json, or have another folder of settings:"
    " DOCKER_CONFIG=$(mktemp -d)",
)
_CAUSES_OF_THE_REGISTRY = (
    _UNKEPT,
    _Cause(
        re.compile(r"saving credentials: (?P<why>.*[^\s.])", re.IGNORECASE),
        "the login can't be saved ({why})",
        "Have another folder of settings: export DOCKER_CONFIG=$(mktemp -d)",
    ),
    _Cause(
        _NO_LOGIN,
        "the registry got no valid login",
        "Run the same command again, which logs in anew; if that does not help, by hand: {by_hand}",
    ),
    _Cause(_DENIED, "the registry refused it", IAM_POLICY),
    _Cause(
        re.compile(r"no such host|dial tcp|no route to host|TLS handshake timeout|Client\.Timeout|deadline exceeded"),
        "the registry can't be reached",
        "Check the network, the engine's proxy and the region (--region); then run the same command again.",
    ),
    _Cause(
        re.compile(
            "EOF|connection|broken pipe|timeout|retrying|received unexpected HTTP status|server error", re.IGNORECASE
        ),
        "the registry stopped answering",
        "Run the same command again: the layers that have arrived are not sent twice.",
    ),
)


class _NotPushedError(ImageError):
    """The image was built, but not pushed."""


def require_engine(run: Runner) -> None:
    """Check that Docker is available.

    Raises:
        ImageError: Docker is not installed, not running, or not for this user.
    """
    try:
        answer = run(["docker", "version", "--format", "{{.Server.Version}}"])
    except ProgramNotFoundError as error:
        raise ImageError(error.message, hint=error.hint) from error
    if _NO_ACCESS.search(answer.stderr):
        raise ImageError(
            "This user may not use Docker, and the image has to be built.",
            hint="Join Docker's group, then sign in anew (or name an image that exists with --image):"
            " sudo usermod -aG docker $(id -un)",
            details=answer.tail[-2:],
        )
    if answer.exit_code != 0:
        raise ImageError(
            "Docker is not running, and the image has to be built.",
            hint="Start Docker, or name an image that exists with --image.",
            details=answer.tail[-2:],
        )


@dataclass(frozen=True)
class Builder:
    """Builds an image and pushes it.

    Attributes:
        run: starts `docker`.
        aws: provides the registry's password.
        root: the build context.
        docker_config: the folder with the user's Docker logins.
        on_line: called with each line that Docker prints.
        git_commit: for the image's labels.
        base: the base image, if it is another than the Dockerfile's.
    """

    run: Runner
    aws: Aws
    root: Path
    docker_config: Path
    on_line: Callable[[str], None]
    git_commit: str | None = None
    base: str | None = None

    def build_and_push(self, repository: str, tag: str, platform: str) -> str:
        """Build for `platform`, without a provenance attestation, and push.

        Returns:
            The digest in the registry.

        Raises:
            ImageError: Docker is not installed or not running, or the build, login or push failed.
        """
        reference = f"{repository}:{tag}"
        require_engine(self.run)
        buildx = self.run(["docker", "buildx", "version"]).exit_code == 0
        try:
            return self._with_buildx(reference, platform) if buildx else self._without_buildx(reference, platform)
        except _NotPushedError:
            # Another job may have pushed the same content meanwhile, and an immutable tag takes no second push.
            with contextlib.suppress(AwsError):
                digest = self.aws.image_digest(repository.split("/", 1)[1], tag=tag)
                if digest is not None:
                    return digest
            raise

    def _with_buildx(self, reference: str, platform: str) -> str:
        with tempfile.TemporaryDirectory() as folder, self._logged_in(reference) as kept:
            metadata = Path(folder) / "metadata.json"
            completed = self._docker(
                "buildx",
                "build",
                f"--file={self.root / DOCKERFILE}",
                f"--platform={platform}",
                "--provenance=false",  # an attestation turns the image into an index, which scanOnPush can't scan
                "--build-arg=SOURCE_DATE_EPOCH=0",  # the image's creation time, so that its digest is reproducible
                "--push",
                f"--metadata-file={metadata}",
                *self._build_arguments(),
                f"--tag={reference}",
                str(self.root),
            )
            if completed.exit_code != 0:
                what: Literal["build", "push"] = "push" if _PUSHING.search(completed.stderr) else "build"
                raise self._failed(what, reference, completed, platform, kept=kept)
            digest = _field(metadata, "containerimage.digest")
        if not isinstance(digest, str):
            raise ImageError(f"buildx does not say which digest {reference} has.", hint="Update Docker's buildx.")
        return digest

    def _without_buildx(self, reference: str, platform: str) -> str:
        built = self._docker(
            "build",
            f"--file={self.root / DOCKERFILE}",
            "--force-rm",  # else the container of a failed step is kept
            f"--platform={platform}",
            *self._build_arguments(),
            f"--tag={reference}",
            str(self.root),
        )
        if built.exit_code != 0:
            raise self._failed("build", reference, built, platform)
        with self._logged_in(reference) as kept:  # after the build, which may outlast the token
            pushed = self._docker("push", reference)
        if pushed.exit_code != 0:
            raise self._failed("push", reference, pushed, kept=kept)
        found = _PUSHED.search(pushed.stdout)
        if found is None:
            raise ImageError(
                f"`docker push` does not say which digest {reference} has.",
                hint=f"Push it by hand, then name its digest with --image: {self._push_by_hand(reference, pushed)}",
                details=pushed.tail,
            )
        return found[1]

    @contextlib.contextmanager
    def _logged_in(self, reference: str) -> Iterator[bool]:
        """Log Docker in to the registry; log out afterwards unless the user was logged in before.

        Some credential helpers keep no login, as they serve the registry by themselves: then that is enough. Yields
        whether the login was kept; if not, the helper's own may be an old one.
        """
        registry, login = _registry(reference), self.aws.registry_login()
        config = _docker_config(self.docker_config)
        helper = _helper(config, registry)
        completed = self.run(
            ["docker", "login", "--username", login.username, "--password-stdin", registry],
            stdin=login.password.reveal(),
        )
        refused = completed.exit_code != 0
        served = refused and _NOT_KEPT.search(completed.stderr) and helper and self._serves(helper, registry)
        try:
            if refused and not served:
                # A credential helper may print its input.
                redactor = Redactor()
                redactor.hide(login.password.reveal())
                said = redactor.value({"stdout": completed.stdout, "stderr": completed.stderr})
                raise self._failed("login", reference, replace(completed, **said))
            yield not served
        finally:
            if not served and not _knows(config, registry):
                self.run(["docker", "logout", registry])

    def _serves(self, helper: str, registry: str) -> bool:
        """Whether a credential helper has a login for the registry."""
        try:
            return self.run([f"docker-credential-{helper}", "get"], stdin=registry).exit_code == 0
        except ProgramNotFoundError:
            return False

    def _docker(self, *arguments: str) -> Completed:
        return self.run(["docker", *arguments], on_line=self.on_line)

    def _build_arguments(self) -> tuple[str, ...]:
        """Return the base image if it is given, and the values of the image's labels, which are not part of its tag."""
        declared = self.root / "neuraknot_db" / "__init__.py"
        version = (
            _VERSION.search(declared.read_text(encoding="utf-8", errors="replace")) if declared.is_file() else None
        )
        known = {"BASE": self.base, "VERSION": version and version[1], "REVISION": self.git_commit}
        return tuple(f"--build-arg={name}={value}" for name, value in known.items() if value)

    def _failed(
        self,
        what: Literal["build", "login", "push"],
        reference: str,
        completed: Completed,
        platform: str = "",
        kept: bool = True,
    ) -> ImageError:
        # The engine's message may be on either stream, colored, with an advertisement in it.
        output = uncoloured(completed.stdout.rstrip() + "\n" + completed.stderr)
        details = tuple(line for line in output.splitlines() if line.strip() and not _LEGACY.search(line))[-10:]
        sentence, by_hand = {
            "build": ("The image could not be built", _command(completed, "--push", "--metadata-file")),
            "login": (f"Docker could not log in to {_registry(reference)}", self._login_by_hand(reference)),
            "push": (f"The image {reference} was built, but not pushed", self._push_by_hand(reference, completed)),
        }[what]
        kind = _NotPushedError if what == "push" else ImageError
        if what == "push" and (pushing := _PUSHING.search(output)):
            output = output[pushing.start() :]  # not what a step before it said
        causes = _CAUSES if what == "build" else (*_CAUSES_OF_THE_REGISTRY, _CAUSES[0])
        for cause in causes:
            if found := cause.words.search(output):
                if not kept and cause.words in (_NO_LOGIN, _DENIED):
                    cause = _UNKEPT
                means = cause.means.format(platform=platform, **found.groupdict())
                hint = advice(output) or cause.hint.format(by_hand=by_hand)
                return kind(f"{sentence}: {means}.", hint=hint, details=details)
        return kind(f"{sentence}.", hint=f"Try it by hand: {by_hand}", details=details)

    def _login_by_hand(self, reference: str) -> str:
        password = f"aws ecr get-login-password --region {self.aws.region}"
        return f"{password} | docker login --username AWS --password-stdin {_registry(reference)}"

    def _push_by_hand(self, reference: str, completed: Completed) -> str:
        return f"{self._login_by_hand(reference)} && {_command(completed, '--metadata-file')}"


def _command(completed: Completed, *without: str) -> str:
    """Return the command that was run, quoted for a shell, `without` the options that only the launcher needs."""
    return shlex.join(each for each in completed.arguments if not each.startswith(without))


def _registry(reference: str) -> str:
    return reference.split("/", 1)[0]


def _docker_config(folder: Path) -> Mapping[str, Any] | None:
    """Return the user's settings of Docker, empty if there are none; None if they can't be read."""
    file = folder / "config.json"
    try:
        value = parse_json(read_text(file)) if file.exists() else {}
    except UnreadableError:
        return None
    return value if isinstance(value, dict) else None


def _helper(config: Mapping[str, Any] | None, registry: str) -> str | None:
    """Return the name of the credential helper that Docker asks for the registry; None if there is none."""
    helpers = (config or {}).get("credHelpers")
    own = helpers.get(registry) if isinstance(helpers, dict) else None
    name = own or (config or {}).get("credsStore")
    return name if isinstance(name, str) and name else None


def _knows(config: Mapping[str, Any] | None, registry: str) -> bool:
    """Whether the user's Docker has a login there; also True if that is not known, so that no login is lost."""
    logins, helpers = ((config or {}).get(name, {}) for name in ("auths", "credHelpers"))
    if config is None or not isinstance(logins, dict) or not isinstance(helpers, dict):
        return True
    # A login kept by a credential helper has an empty entry, or none.
    return registry in {*helpers, *(login.split("://")[-1].split("/")[0] for login in logins)}


def _field(file: Path, name: str) -> Any:
    """Read a field of a JSON object in a file; None if there is none."""
    try:
        value = parse_json(read_text(file))
    except UnreadableError:
        return None
    return value.get(name) if isinstance(value, dict) else None
