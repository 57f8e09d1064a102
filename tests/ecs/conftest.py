"""The local AWS for tests: no test can reach a real account, and none waits."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import boto3
import botocore.loaders
import botocore.session
import pytest
from botocore.hooks import EventAliaser
from botocore.retries.adaptive import ClientRateLimiter

from launcher.aws.client import Aws
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.program import Script, Start, scripted
from launcher.rehearsal.stack import StackOptions


class FakeClock:
    """A clock that moves only when somebody sleeps; it begins at the real time, since moto looks at that one."""

    def __init__(self) -> None:
        self.time = time.time()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.time += seconds


@pytest.fixture(autouse=True)
def no_real_account(no_ambient_configuration: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of AWS's configuration leads nowhere; tests/conftest.py has cleared the machine's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "DEADDEADDEADDEADDEAD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "dead")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nothing listens
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would remember the last test's credentials
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "/dev/null")


@pytest.fixture(autouse=True, scope="session")
def heeded_hangup() -> Iterator[None]:
    """Whoever starts the tests with nohup has it ignored, and a signal that is ignored is so for programs as well."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True, scope="session")
def quick_botocore() -> Iterator[None]:
    """AWS's service descriptions are read once for all tests, and after a throttled call nothing waits in real time.

    Each session would read its own descriptions otherwise, and work out the names of all its events; and its adaptive
    mode slows itself down by the real clock.
    """
    loader = botocore.loaders.create_loader()
    alias: Callable[[EventAliaser, str], str] = EventAliaser._alias_event_name  # type: ignore[attr-defined]
    names: dict[str, str] = {}

    def known(events: EventAliaser, name: str) -> str:
        return names[name] if name in names else names.setdefault(name, alias(events, name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientRateLimiter, "on_sending_request", lambda *_, **__: None)
        patch.setattr(EventAliaser, "_alias_event_name", known)
        patch.setattr(botocore.session, "create_loader", lambda _: loader)
        yield


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


MakeCloud = Callable[..., LocalAws]


@pytest.fixture
def make_cloud(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeCloud]:
    """Makes a local AWS on the fake clock, and has the environment's variables lead to it.

    Keyword arguments: `script` or `start` for what containers do, `region`, and those of `StackOptions`.
    """
    with ExitStack() as clouds:

        def make(
            *, script: Script | None = None, start: Start | None = None, region: str = "ap-northeast-1", **options: str
        ) -> LocalAws:
            start = start or scripted(script or Script())
            cloud = LocalAws(StackOptions(**options), start=start, now=clock.now, region=region)  # type: ignore[arg-type]
            clouds.enter_context(cloud)
            for name, value in cloud.environment.items():
                monkeypatch.setenv(name, value)
            boto3.setup_default_session()
            return cloud

        yield make


@pytest.fixture
def cloud(make_cloud: MakeCloud) -> LocalAws:
    """The `dev` stack, where every task prints nothing and ends well after three seconds."""
    return make_cloud()


@pytest.fixture
def aws(cloud: LocalAws) -> Aws:
    """The launcher's own clients, which give up at the first throttled call instead of waiting in real time."""
    return Aws(region=cloud.server.region, attempts=1)
