"""A real engine, a real registry, and a PostgreSQL 15 that lets nobody in without TLS."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from launcher.aws.client import Aws
from launcher.image.build import Builder
from launcher.image.context import files
from launcher.image.tag import DOCKERFILE, content_tag
from launcher.machine.process import run
from launcher.rehearsal.cloud import LocalAws
from tests.projects import PROJECT, ROOT

POSTGRES = Path("/usr/lib/postgresql/15/bin")
BASE = "python:3.13-slim-bookworm"
REGISTRY = "127.0.0.1:5000"
REPOSITORY = f"{REGISTRY}/neuraknot-test-migrate"
PLATFORM = "linux/amd64"
PASSWORD = "p@ss/wörd % 'quoted' \\ $HOME"

_numbers = count()


def docker(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=300, **options)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done


def _missing() -> str | None:
    """Why containers can't be tested here, if they can't."""
    if shutil.which("docker") is None or docker("version", check=False).returncode != 0:
        return "no Docker engine answers"
    if docker("image", "inspect", BASE, check=False).returncode != 0:
        return f"the engine does not have the base image {BASE}"
    try:
        urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=5).close()
    except OSError as error:
        return f"no registry answers at {REGISTRY}: {error}"
    if not (POSTGRES / "initdb").exists():
        return f"PostgreSQL 15 is not installed in {POSTGRES}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.docker)
    if mine and (reason := _missing()):
        for item in mine:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def docker_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Logins to registries are kept here, and not in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(tmp_path_factory.mktemp("docker")))
        yield


@pytest.fixture(scope="session")
def aws() -> Iterator[Aws]:
    """The launcher's clients of a local AWS, whose ECR hands out the registry's password."""
    with LocalAws() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        made = Aws(region=cloud.server.region)
        made.registry_login()  # it looks for credentials now: each test clears the environment
        yield made


@pytest.fixture
def builder(aws: Aws, sources: Path) -> Callable[..., Builder]:
    """Makes the launcher's own builder."""

    def make(root: Path = sources, lines: list[str] | None = None) -> Builder:
        return Builder(
            run=run,
            aws=aws,
            root=root,
            docker_config=Path(os.environ["DOCKER_CONFIG"]),
            on_line=(lines if lines is not None else []).append,
            base=BASE,
        )

    return make


@pytest.fixture(scope="session")
def real_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image is made of, as it is now: whoever edits the checkout meanwhile disturbs no test."""
    root = tmp_path_factory.mktemp("real")
    for name in (DOCKERFILE, ".dockerignore", *files(ROOT, DOCKERFILE)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    return root


@pytest.fixture(scope="session")
def sources(real_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the tests' own revisions."""
    root = tmp_path_factory.mktemp("sources") / "checkout"
    shutil.copytree(real_sources, root, ignore=lambda folder, _: ["alembic"] if Path(folder) == real_sources else [])
    shutil.copytree(PROJECT / "alembic", root / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(scope="session")
def image(aws: Aws, sources: Path) -> str:
    """This project's image: built and pushed by the launcher, and pulled by digest as ECS does it."""
    config = Path(os.environ["DOCKER_CONFIG"])
    built = Builder(run=run, aws=aws, root=sources, docker_config=config, on_line=print, base=BASE)
    digest = built.build_and_push(REPOSITORY, content_tag(sources, PLATFORM), PLATFORM)
    reference = f"{REPOSITORY}@{digest}"
    docker("pull", "--quiet", reference)
    return reference


@dataclass(frozen=True)
class Finished:
    """A container that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Fargate:
    """Runs containers as the task definition has it, and with less: nothing may be written, nothing is permitted.

    Attributes:
        image: what is run.
        names: of the containers that were made.
    """

    image: str
    names: list[str] = field(default_factory=list)

    def run(self, *command: str, environment: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> Finished:
        with self.start(*command, environment=environment, options=options, stderr=subprocess.PIPE) as running:
            out, err = running.communicate(timeout=300)
        return Finished(running.returncode, out, err)

    def start(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        stderr: int = subprocess.STDOUT,
    ) -> subprocess.Popen[str]:
        """Leave it running."""
        environment = environment or {}
        name = f"neuraknot-test-{os.getpid()}-{next(_numbers)}"
        self.names.append(name)
        # By name: a value on the command line could be read by anybody.
        variables = [part for variable in environment for part in ("--env", variable)]
        harden = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=20"]
        size = ["--memory=512m", "--network=host"]
        return subprocess.Popen(
            ["docker", "run", f"--name={name}", *harden, *size, *variables, *options, self.image, *command],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def signal(self, name: str) -> None:
        docker("kill", f"--signal={name}", self.names[-1])


@pytest.fixture
def fargate(image: str) -> Iterator[Fargate]:
    running = Fargate(image)
    yield running
    if running.names:
        docker("rm", "--force", *running.names, check=False)


@dataclass(frozen=True)
class TlsServer:
    """A PostgreSQL 15 that demands TLS and a password.

    Attributes:
        port: on 127.0.0.1.
        root: the certificate that its own is signed by.
        stranger: a root certificate that it has nothing to do with.
        socket: the folder of its Unix socket, the one way in without TLS.
    """

    port: int
    root: Path
    stranger: Path
    socket: str

    def environment(self, database: str, **more: str) -> dict[str, str]:
        """What the task definition sets."""
        where = {"DB_HOST": "127.0.0.1", "DB_PORT": str(self.port), "DB_NAME": database, "DB_USER": "postgres"}
        return {**where, "DB_PASSWORD": PASSWORD, "DB_SSLMODE": "require", "NEURAKNOT_ENV": "test", **more}

    def connect(self, database: str) -> psycopg2.extensions.connection:
        """A connection on which each statement commits by itself."""
        connection = psycopg2.connect(host=self.socket, port=self.port, user="postgres", dbname=database)
        connection.autocommit = True
        return connection

    def value(self, database: str, sql: str) -> object:
        """Execute SQL, and return the first column of its first row, if it has one."""
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None


def _certificate(folder: Path, name: str, *, root: Path | None = None) -> None:
    """Makes NAME.crt and NAME.key: a root certificate, or one for 127.0.0.1 and localhost that `root` signs."""
    common = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN=test {name}", "-days", "2"]
    signed = (
        ["-CA", str(root), "-CAkey", str(root.with_suffix(".key")), "-addext", "basicConstraints=CA:FALSE"]
        if root
        else ["-addext", "keyUsage=keyCertSign"]
    )
    extension = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"] if root else []
    openssl = ["openssl", "req", "-x509", *common, *signed, *extension, "-out", f"{name}.crt"]
    subprocess.run(openssl, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def tls_server() -> Iterator[TlsServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="tls-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        _certificate(folder, "root")
        _certificate(folder, "stranger")
        _certificate(folder, "server", root=folder / "root.crt")
        (folder / "server.key").chmod(0o600)
        (folder / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        (folder / "postgres").mkdir()
        if prefix:
            user = pwd.getpwnam("postgres")
            for path in (folder / "postgres", folder / "server.key", folder / "server.crt", folder / "pg_hba.conf"):
                os.chown(path, user.pw_uid, user.pw_gid)
        data = str(folder / "postgres" / "data")
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        initdb = [str(POSTGRES / "initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "-N"]
        subprocess.run([*prefix, *initdb, f"--pwfile={password}"], check=True, capture_output=True, cwd="/")
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": f"{folder}/postgres",
            "hba_file": f"{folder}/pg_hba.conf",
            "ssl": "on",
            "ssl_cert_file": f"{folder}/server.crt",
            "ssl_key_file": f"{folder}/server.key",
            "fsync": "off",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        control = [*prefix, str(POSTGRES / "pg_ctl"), "-D", data, "-w"]
        start = [*control, "-o", f"-p {port} {options}", "-l", f"{folder}/postgres/log", "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield TlsServer(port, folder / "root.crt", folder / "stranger.crt", f"{folder}/postgres")
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture
def database(tls_server: TlsServer) -> Iterator[str]:
    """The name of an empty database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    tls_server.value("postgres", f"CREATE DATABASE {name}")
    yield name
    tls_server.value("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def inspect(reference: str) -> dict[str, Any]:
    """What the engine knows of an image."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", reference).stdout)[0]
    return found
