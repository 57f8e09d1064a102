"""The network comes and goes: before a task is started that is an error, and after that it is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as errors
from botocore.httpsession import URLLib3Session

from launcher.local.api import Call, Refusal
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
