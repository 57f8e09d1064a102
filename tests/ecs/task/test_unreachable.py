"""The network comes and goes: before a task is started that is an error, and after that it is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import exceptions as errors
from botocore.httpsession import URLLib3Session

from launcher.rehearsal.api import Call, Refusal
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, SHOWN, Stage, make_stage

AWS = {"endpoint_url": "https://ecs.ap-northeast-1.amazonaws.com/"}
LOST: Mapping[str, Exception] = {
    "no name, no route, or refused": errors.EndpointConnectionError(**AWS, error=OSError("Name or service not known")),
    "no connection in time": errors.ConnectTimeoutError(**AWS),
    "no proxy": errors.ProxyConnectionError(proxy_url="http://proxy:3128"),
    "a portal in between": errors.SSLError(**AWS, error=OSError("certificate verify failed")),
    "no answer in time": errors.ReadTimeoutError(**AWS),
    "closed": errors.ConnectionClosedError(**AWS),
}


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


def lose(monkeypatch: pytest.MonkeyPatch, operation: str, error: Exception, times: int) -> None:
    """Have the network fail so many times for an operation, as botocore's own HTTP session tells it."""
    real, left = URLLib3Session.send, iter(range(times))

    def send(session: Any, request: Any) -> Any:
        target = str(request.headers.get("X-Amz-Target", ""))
        if operation in target and next(left, None) is not None:
            raise error
        return real(session, request)

    monkeypatch.setattr(URLLib3Session, "send", send)


@pytest.mark.slow
@pytest.mark.parametrize("error", LOST.values(), ids=LOST.keys())
def test_a_lost_network_ends_neither_the_start_nor_the_watch(
    error: Exception, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, "RunTask", error, 2)
    lose(monkeypatch, "DescribeTasks", error, 120)
    lose(monkeypatch, "GetLogEvents", error, 3)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == SHOWN
    assert len(stage.cloud.ecs.tasks) == 1


@pytest.mark.parametrize("error", LOST.values(), ids=LOST.keys())
def test_no_network_before_the_start_is_told_with_what_to_check(
    error: Exception, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, "DescribeServices", error, 100)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 21
    assert "AWS does not answer ecs:DescribeServices" in outcome.err
    assert "Hint: Check the network" in outcome.err
    assert not stage.cloud.ecs.tasks


def test_whatever_else_keeps_a_task_from_being_watched_leaves_its_outcome_unknown(stage: Stage) -> None:
    def look(call: Call) -> None:
        if call.action == "ecs:DescribeTasks":
            raise Refusal("InvalidParameterException", "something new")

    stage.cloud.server.faults.append(look)
    outcome = stage.launch("ecs-migrate", "--json")
    [task] = stage.cloud.ecs.tasks.values()
    assert (outcome.code, outcome.json["verdict"]) == (25, "unknown")
    assert f"launcher logs --environment dev --follow {task.id}" in outcome.json["hint"]


ROLE = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/x"}
SETTINGS: dict[str, dict[str, str]] = {
    "a token that is gone": {**ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/gone"},
    "a token that is a folder": {**ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/"},
    "a container's token that is gone": {**CONTAINER, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/gone"},
    "a container's token that is a folder": {**CONTAINER, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/"},
    "a program that is gone": {"AWS_CONFIG_FILE": "credential_process = /gone\n"},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_credentials_that_a_setting_leads_nowhere_for_are_a_sentence(
    stage: Stage, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        if name == "AWS_CONFIG_FILE":
            (tmp_path / "config").write_text(f"[default]\n{value}")
        monkeypatch.setenv(name, str(tmp_path / "config") if name == "AWS_CONFIG_FILE" else value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 21
    assert "Error: The AWS credentials can't be read: " in outcome.err
    named = {
        "AWS_ROLE_ARN": "AWS_WEB_IDENTITY_TOKEN_FILE and",
        "AWS_CONFIG_FILE": "credential_process --profile default",
    }
    assert (
        named.get(next(iter(settings)), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") in outcome.err.partition("Hint: ")[2]
    )
