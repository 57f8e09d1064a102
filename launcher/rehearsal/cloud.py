"""The whole local AWS: a server, a stack in it, and an ECS that runs tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from launcher.rehearsal.ecr import LocalEcr
from launcher.rehearsal.ecs import LocalEcs
from launcher.rehearsal.iam import LocalIam
from launcher.rehearsal.listing import send_pages
from launcher.rehearsal.program import Script, Start, scripted
from launcher.rehearsal.rds import refuse_snapshots
from launcher.rehearsal.server import LocalServer
from launcher.rehearsal.stack import LocalStack, StackOptions
from launcher.rehearsal.task import Pace

_TICK = 0.05  # seconds between two checks for due events, with the real clock


class LocalAws:
    """An AWS account on loopback with one environment's stack.

    Use it as a context manager. Its clock is `now`: with a test's clock, due events happen only when a call comes in;
    with the real one, a thread triggers them between calls too.

    Attributes:
        server: the API; `server.calls` records the calls.
        stack: the resources and their names.
        ecr: the archived images.
        ecs: the tasks.
        iam: policy simulation and, if enabled, enforcement.
    """

    def __init__(
        self,
        options: StackOptions | None = None,
        *,
        start: Start | None = None,
        pace: Pace | None = None,
        now: Callable[[], float] = time.time,
        region: str = "ap-northeast-1",
    ) -> None:
        """Create an account with nothing running yet.

        Args:
            options: the variant of the stack.
            start: runs the containers; by default each is a script that prints nothing and succeeds after 3 s.
            pace: how fast tasks progress.
            now: the time, in seconds since the epoch.
            region: the stack's region.
        """
        self.server = LocalServer(region=region, now=now)
        self._options = options or StackOptions()
        self._start = start or scripted(Script())
        self._pace = pace or Pace()
        self._stopped = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="local-ecs", daemon=True)
        self._real_time = now is time.time

    def __enter__(self) -> Self:
        self.server.__enter__()
        self.stack = LocalStack(self.server.account, self.server.region, self._options)
        self.iam = LocalIam(self.server, self.stack)
        self.ecr = LocalEcr(self.server, self.stack)
        refuse_snapshots(self.server, self.stack)
        send_pages(self.server)
        self.ecs = LocalEcs(self.server, self.stack, self._start, self._pace)
        self.credentials = self.stack.sign_in()
        self.server.know(self.credentials.access_key)
        if self._real_time:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._ticker.is_alive():
            self._ticker.join()
        self.ecs.close()
        self.server.__exit__()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that make any AWS program use this account and no other."""
        return {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_key,
            "AWS_SESSION_TOKEN": self.credentials.session_token,
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_REGION": self.server.region,
            "AWS_DEFAULT_REGION": self.server.region,
            # No other source: no file and no metadata service.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            # A proxy can't reach this machine's loopback.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def _tick(self) -> None:
        while not self._stopped.wait(_TICK):
            self.server.tick()
