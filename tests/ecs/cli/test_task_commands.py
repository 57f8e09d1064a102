"""`status`, `logs` and `stop`: what there is, what it said, and how it is ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.plays import start_task
from launcher.rehearsal.program import Script, scripted
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, PASSWORD, SHOWN, Stage, make_stage


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


@pytest.mark.slow
def test_a_log_for_programs_is_one_object(stage: Stage) -> None:
    assert stage.launch("ecs-migrate").code == 0
    (task,) = stage.cloud.ecs.tasks.values()
    told = stage.launch("logs", "--json")
    assert told.code == 0, told.err
    assert [line["text"] for line in told.json["lines"]] == SHOWN
    assert told.json["task"]["arn"] == task.arn
    assert told.json["log"]["stream"].endswith(task.id)
    assert not any(line in told.err for line in SHOWN)


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--follow"]])
def test_a_password_in_secrets_tfvars_is_hidden_in_a_log_too(stage: Stage, arguments: list[str]) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, f"connecting with {PASSWORD}"),), seconds=1.0))
    assert stage.launch("ecs-migrate").code == 0
    told = stage.launch("logs", *arguments)
    assert "connecting with ***" in told.out + told.err
    assert PASSWORD not in told.out + told.err
    assert json.dumps(PASSWORD, ensure_ascii=False)[1:-1] not in told.out


@pytest.mark.parametrize("arguments", [[], ["--json"]])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ThrottlingException", "AWS can't serve logs:GetLogEvents now: in AWS's words"),
        ("ServiceUnavailableException", "logs:GetLogEvents: in AWS's words"),
        ("AccessDeniedException", "may not do logs:GetLogEvents"),
        ("ExpiredTokenException", "have expired"),
        ("InvalidParameterException", "AWS refused logs:GetLogEvents: in AWS's words"),
        ("KeyNotFoundException", "AWS refused logs:GetLogEvents: in AWS's words"),
    ],
)
@pytest.mark.parametrize("pages", [0, 1])
def test_a_log_that_is_refused_is_not_told_as_missing(
    stage: Stage, arguments: list[str], code: str, words: str, pages: int
) -> None:
    assert stage.launch("ecs-migrate", "--detach").code == 0
    stage.clock.sleep(20)
    left = iter(range(pages))

    def refuse(call: Call) -> None:
        if call.operation == "GetLogEvents" and next(left, None) is None:
            raise Refusal(code, "in AWS's words")

    stage.cloud.server.faults.append(refuse)
    told = stage.launch("logs", *arguments)
    assert told.code == 21, told.err
    assert words in told.err
    assert "no log stream" not in told.err
    if not arguments:
        assert told.out.splitlines() == SHOWN * pages


def test_a_stream_that_is_not_there_is_told_as_missing(stage: Stage) -> None:
    told = stage.launch("logs", "0" * 32)
    assert told.code == 20
    assert "There is no log stream migrate/migrate/0000" in told.err


SECRET = "ein Geheimnis: \\ $"
QUOTED = json.dumps(SECRET).encode()
BROKEN: dict[str, bytes] = {
    "a line that is no Terraform": b"db_password = " + QUOTED + b"\nx = [\n",
    "one before it": b"}}\n  db_password=" + QUOTED + b" # mine\n",
    "no quote at its end": b"db_password = " + QUOTED[:-1] + b"\n",
    "single quotes": b"db_password = '" + SECRET.encode() + b"'\n",
    "a colon": b'{"db_password": ' + QUOTED + b"}",
    "twice": b'db_password = "x"\ndb_password = ' + QUOTED,
    "a list": b"db_password = [" + QUOTED + b"]\n",
    "a function": b"db_password = trimspace(" + QUOTED + b")\n",
    "a heredoc": b"db_password = <<EOT\n" + SECRET.encode() + b"\nEOT\n",
    "an indented heredoc without an end": b"db_password = <<-EOT\n  " + SECRET.encode(),
    "over two lines": b'db_password = "first\n' + SECRET.encode().replace(b"\\", rb"\\") + b'"\n',
    "a comment in Latin-1": b"# caf\xe9\ndb_password = " + QUOTED + b"\n",
    "UTF-16": f"db_password = {json.dumps(SECRET)}\n".encode("utf-16"),
    "no character": b'db_password = "\\UFFFFFFFF"\ndb_password = ' + QUOTED,
}


@pytest.mark.slow
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_nor_is_it_shown_where_secrets_tfvars_is_broken(stage: Stage, content: bytes) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, f"connecting with {SECRET}"),), seconds=60.0))
    assert stage.launch("ecs-migrate", "--detach").code == 0
    stage.clock.sleep(20)
    (stage.terraform / "secrets.tfvars").write_bytes(content)
    for arguments in (["logs"], ["logs", "--json"], ["stop"]):
        told = stage.launch(*arguments)
        assert told.code == 0, told.err
        assert "Geheimnis" not in told.out + told.err
        assert "connecting with " in told.out + told.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(seconds=600.0), "its container ended with 143."),
        (Script(lines=((0.1, "begun"),), seconds=30.0, exit_code=None, heeds_sigterm=False), "is not known."),
        (Script(seconds=30.0, exit_code=None, heeds_sigterm=False), "how its container ended is not known."),
    ],
    ids=["by its signal", "without an exit code", "without an exit code or a line"],
)
def test_stop_says_of_the_container_what_is_known(stage: Stage, script: Script, words: str) -> None:
    stage.cloud.ecs.start = scripted(script)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    stage.clock.sleep(20)
    outcome = stage.launch("stop")
    assert outcome.code == 0, outcome.err
    assert words in outcome.err


def test_stop_says_that_a_container_never_ran_only_where_it_never_did(stage: Stage) -> None:
    assert stage.launch("ecs-migrate", "--detach").code == 0
    outcome = stage.launch("stop")
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[-1].endswith("is over; its container never ran.")


def test_only_a_migration_of_this_environment_is_stopped(stage: Stage) -> None:
    task = start_task(stage.cloud, started_by="the service", family="neuraKnot-dev-backend-go")
    outcome = stage.launch("stop", task.id)
    assert outcome.code == 5
    assert "it is of neuraKnot-dev-backend-go" in outcome.err
    assert "StopTask" not in stage.writes


def test_a_mistyped_task_is_not_taken_for_one_that_is_over(stage: Stage) -> None:
    outcome = stage.launch("stop", "0" * 32)
    assert outcome.code == 20
    assert f"ECS knows no task {'0' * 32}" in outcome.err
    assert "launcher status --environment dev" in outcome.err


@pytest.mark.parametrize("command", [["logs"], ["logs", "--follow"], ["logs", "--json"], ["stop"]])
@pytest.mark.parametrize(
    "task", ["abc", "", " ", "0" * 31, "G" * 32, f"migrate/{'0' * 31}", "arn:aws:ecs:r:1:task/c/x"]
)
def test_what_is_no_task_s_id_is_told_before_aws_is_asked(stage: Stage, command: list[str], task: str) -> None:
    outcome = stage.launch(*command, task)
    assert outcome.code == 2
    assert f"{task!r} is no task's id or ARN." in outcome.err
    assert "launcher status --environment dev" in outcome.err
    assert not stage.actions


@pytest.mark.parametrize("identifier", ["2f0b9f3e-4d2b-4ccf-a8c4-d454db0ee121", "2f0b9f3e4d2b4ccfa8c4d454db0ee121"])
@pytest.mark.parametrize("before", ["", " ", "migrate/migrate/", "arn:aws-cn:ecs:r:1:task/", "arn:aws:ecs:r:1:task/c/"])
def test_the_old_form_of_a_task_s_id_is_one_too(stage: Stage, before: str, identifier: str) -> None:
    assert "ECS knows no task" in stage.launch("stop", before + identifier).err


@pytest.mark.slow
def test_status_keeps_its_columns_whatever_ended_the_tasks(stage: Stage) -> None:
    assert stage.launch("ecs-migrate").code == 0
    task = start_task(stage.cloud, started_by="somebody else")
    stage.clock.sleep(60)
    task.exit_code, task.stop_code = None, "ServiceSchedulerInitiated"
    lines = stage.launch("status").out.splitlines()
    assert len(lines) == 2
    assert len({line.index("20", 48) for line in lines}) == 1, lines


@pytest.mark.parametrize("command", [["status"], ["logs", "--follow"], ["stop"]])
@pytest.mark.parametrize(
    ("why", "tags"),
    [
        ("because no identity-based policy allows the ecs:DescribeTasks action", True),
        ("with an explicit deny in a service control policy", False),
        ("because no permissions boundary allows the ecs:DescribeTasks action", False),
    ],
)
def test_tags_are_told_of_only_where_a_policy_may_ask_for_them(
    stage: Stage, command: list[str], why: str, tags: bool
) -> None:
    task = start_task(stage.cloud, started_by="somebody")

    def fault(call: Call) -> None:
        if call.action == "ecs:DescribeTasks":
            who, what = "arn:aws:sts::123456789012:assumed-role/ci/x", f"resource: {task}"
            words = f"User: {who} is not authorized to perform: {call.action} on {what} {why}"
            raise Refusal("AccessDeniedException", words)

    stage.cloud.server.faults.append(fault)
    outcome = stage.launch(*command)
    assert outcome.code == 21
    assert ("launcher's tags" in outcome.err) == tags
