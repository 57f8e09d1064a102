"""The local AWS: our server in front of moto, which forwards, refuses, or answers a call itself."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import moto.settings
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.sts.models import sts_backends
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import run_wsgi_app

from launcher.rehearsal.api import JSON_TYPE, Call, Refusal, read_call, refusal_body

Answer = dict[str, Any]
Handler = Callable[[Call], Answer | None]
Change = Callable[[Call, bytes], bytes]
Fault = Callable[[Call], None]
"""Called before each call is executed; raises a `Refusal` to make it fail."""
Observer = Callable[[float], None]
"""Called with the time before each call is executed, to process what is due by then."""

_accounts = itertools.count(123_456_789_012)  # the first is the account in AWS's examples
# One application per process, because moto's state is per process; each server has its own account.
_moto = DomainDispatcherApplication(create_backend_app)
_SERVICES = ("ec2", "ecr", "ecs", "iam", "logs", "rds", "secretsmanager", "ssm", "sts")


class _QuietHandler(MotoRequestHandler):
    """Does not log requests to standard error; they are recorded as `Call`s."""

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Print nothing."""


@functools.cache
def _build_services(region: str) -> None:
    """Have moto build what it would build on a service's first call, which would look like a slow AWS."""
    # The images of EC2 that moto makes up for each account are a thousand, and nobody asks for one.
    moto.settings.ec2_load_default_amis = lambda: False
    for service in _SERVICES:
        scope = f"123456789012/20260101/{region}/{service}/aws4_request"
        _moto.get_application({"HTTP_AUTHORIZATION": f"AWS4-HMAC-SHA256 Credential={scope}", "PATH_INFO": "/"})


class LocalServer:
    """An AWS API on loopback, for one account.

    Every server has its own account, so several can run in one process without seeing each other's resources.

    Attributes:
        account: the account ID, twelve digits.
        region: the stack's region; the others exist but are empty.
        url: the value for `AWS_ENDPOINT_URL`.
        calls: every call received, in order, without those of the local AWS's own parts.
        faults: called in turn before a call is executed.
        observers: called with the time before the faults.
        handlers: the calls answered here instead of by moto, by action: `ecs:RunTask`.
        changes: what becomes of moto's answers, by action.
        pages: the pages served to containers, by path prefix.
        own_keys: the access keys of the local AWS's own parts.
    """

    def __init__(self, *, region: str, now: Callable[[], float] = time.time) -> None:
        self.account = str(next(_accounts))
        self.region = region
        self.now = now
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.observers: list[Observer] = []
        self.handlers: dict[str, Handler] = {}
        self.changes: dict[str, Change] = {}
        self.pages: dict[str, Callable[[str], Answer | None]] = {}
        self.own_keys: set[str] = set()
        self._keys: dict[str, bool] = {}
        self._lock = threading.RLock()
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> LocalServer:
        _build_services(self.region)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", 0, self._application, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="local-aws", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    @property
    def url(self) -> str:
        """The address that it listens on, as `http://127.0.0.1:PORT`."""
        if self._server is None:
            raise RuntimeError("the local AWS is not running")
        return f"http://127.0.0.1:{self._server.server_port}"

    def tick(self) -> None:
        """Process everything that is due, as any call would."""
        with self._lock:
            for observer in self.observers:
                observer(self.now())

    def know(self, access_key: str, *, expired: bool = False) -> None:
        """Accept calls signed by this key or, if `expired`, refuse them as AWS does after a session."""
        self._keys[access_key] = expired

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        page = self._page(environ.get("PATH_INFO", ""))
        if page is not None:
            return _send(start_response, 200, "application/json", json.dumps(page).encode())
        call = read_call(environ, self.now())
        if call is None:
            return _send(start_response, 403, "text/plain", b"unsigned")
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        if call.access_key in self.own_keys:
            return self._forward(environ, start_response)
        try:
            with self._lock:
                self._admit(call)
                handler = self.handlers.get(call.action)
                answer = handler(call) if handler is not None else None
        except Refusal as refusal:
            return _send(start_response, refusal.status, *refusal_body(call.service, refusal))
        if answer is not None:
            return _send(start_response, 200, *_encode(answer))
        if (change := self.changes.get(call.action)) is None:
            return self._forward(environ, start_response)
        body, status, headers = run_wsgi_app(_moto, environ, buffered=True)
        content = b"".join(body)
        if status.startswith("200"):
            content = change(call, content)
        return _send(start_response, int(status.split()[0]), headers["Content-Type"], content)

    def _forward(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        result: Iterable[bytes] = _moto(environ, start_response)
        return result

    def _page(self, path: str) -> Answer | None:
        for prefix, page in self.pages.items():
            if path.startswith(prefix):
                return page(path.removeprefix(prefix))
        return None

    def _admit(self, call: Call) -> None:
        self.calls.append(call)
        for observer in self.observers:
            observer(call.at)
        expired = self._keys.get(call.access_key)
        if expired is None and sts_backends[self.account]["aws"].get_assumed_role_from_access_key(call.access_key):
            expired = False
        if expired is None:
            raise Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
        if expired:
            raise Refusal("ExpiredTokenException", "The security token included in the request is expired")
        for fault in self.faults:
            fault(call)


def _encode(answer: Answer) -> tuple[str, bytes]:
    if "xml" in answer:
        return "text/xml", answer["xml"].encode()
    return JSON_TYPE, json.dumps(answer).encode()


def _send(start_response: StartResponse, status: int, content_type: str, body: bytes) -> Iterable[bytes]:
    start_response(f"{status} Local", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]
