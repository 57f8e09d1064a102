"""Text that strangers wrote is read by one parser: whatever a line holds is a line, and a file a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from launcher.aws.client import LogPage
from launcher.cli.report import summary
from launcher.errors import ConfigurationError
from launcher.image import build, context
from launcher.launch.execute import Launch
from launcher.launch.task_definition import compare
from launcher.machine.process import Completed
from launcher.machine.untrusted_text import UnreadableError, parse_json
from launcher.models import ContainerReport, TaskResult, Verdict
from launcher.rehearsal.api import JSON_TYPE, Call
from launcher.rehearsal.program import Script, scripted
from launcher.task.logs import LogFollower
from launcher.terraform.outputs import read_outputs
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, SHOWN, Stage, make_stage
from tests.ecs.task.test_logs import Pages, page
from tests.ecs.terraform.test_terraform import GOOD as GOOD_OUTPUT
from tests.ecs.terraform.test_terraform import no_s3, printing
from tests.projects import ROOT

WHOLE: dict[str, Any] = {
    "neuraknot_result": 1,
    "command": "upgrade",
    "before": None,
    "after": "004",
    "target": "004",
    "ran": ["004"],
    "outcome": "succeeded",
    "exit_code": 0,
    "error": None,
}


def line(**changes: Any) -> str:
    return json.dumps({**WHOLE, **changes})


LINES = {
    "as deep as a well": '{"neuraknot_result": 1, "x": ' + "[" * 100_000,
    "deep and closed": '{"neuraknot_result": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep objects": '{"neuraknot_result": 1, "x": ' * 20_000,
    "a revision that is null": line(ran=[None]),
    "revisions in a list of their own": line(ran=[["004"]]),
    "revisions as a string": line(ran="004"),
    "revisions as an object": line(ran={"004": 1}),
    "an exit code as a string": line(exit_code="0"),
    "an exit code that is true": line(exit_code=True),
    "an exit code that is false": line(exit_code=False),
    "an exit code with a point": line(exit_code=0.0),
    "an exit code of 5,000 digits": line()[:-1] + ', "exit_code2": ' + "9" * 5000 + "}",
    "no number": line()[:-1] + ', "x": NaN}',
    "infinity": line()[:-1] + ', "x": -Infinity}',
    "a revision that is an object": line(after={"revision": "004"}),
    "a command that is a list": line(command=["upgrade"]),
    "an error that is a number": line(error=7),
    "an outcome that is a number": line(outcome=1),
    "a target that is a list": line(target=["004"]),
    "a key that comes twice": line()[:-1] + ', "after": "005"}',
    "half a character": line(error="\ud800"),
    "half a character as a revision": line(ran=["\udfff"]),
    "half a character as it is": '{"neuraknot_result": 1, "error": "\ud800"}',
    "NUL": line(error="\0"),
    "NUL as it is": '{"neuraknot_result": 1, "error": "\0"}',
    "another format": line(neuraknot_result=2),
    "a format that is true": line(neuraknot_result=True),
    "a format with a point": line(neuraknot_result=1.0),
    "a format in a list": line(neuraknot_result=[1]),
    "two in one line": line() + line(),
    "cut off": line()[:-1],
    "a list": f"[{line()}]",
    "a word": '"neuraknot_result"',
}


@pytest.mark.parametrize("text", LINES.values(), ids=LINES.keys())
def test_whatever_a_line_holds_it_is_a_line(clock: FakeClock, text: str) -> None:
    log = LogFollower(Pages(page("1", text, line()), page("1")), "group", "stream")
    assert [shown.text for shown in log.drain(clock)] == [text]
    assert log.report == ContainerReport("upgrade", None, "004", ("004",), 0, None, "succeeded", "004", True)


def test_a_field_that_is_not_known_is_no_matter() -> None:
    assert ContainerReport.parse(line(more={"deep": [1, {"er": None}]})) is not None


def test_a_line_without_text_or_time_is_an_empty_one(clock: FakeClock) -> None:
    odd = LogPage(({"ingestionTime": 1},), "1")
    assert [shown.text for shown in LogFollower(Pages(odd, page("1")), "g", "s").drain(clock)] == [""]


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--json"]])
@pytest.mark.parametrize("name", ["as deep as a well", "half a character", "NUL", "a revision that is null"])
def test_and_ends_no_launcher(stage: Stage, name: str, arguments: list[str]) -> None:
    script = Script(lines=(*GOOD.lines, (0.6, LINES[name])), seconds=1.0)
    stage.cloud.ecs.start = scripted(script)
    outcome = stage.launch("ecs-migrate", *arguments)
    assert outcome.code == 0, outcome.err[-2000:]
    if not arguments:
        assert outcome.out.splitlines()[: len(SHOWN)] == SHOWN
    assert stage.launch("logs", *arguments).code == 0
    assert stage.launch("logs", "--follow", *arguments).code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("", "not valid JSON, line 1"),
        ('{\n"a": }', "not valid JSON, line 2"),
        (b"\xff", "not text in UTF-8"),
        ("1" * 5000, "not valid JSON"),
        ('"\\ud800"', "not valid JSON"),
        ('{"a\\u0000": 1}', "not valid JSON"),
        ('{"a": [[["\\udc00"]]]}', "not valid JSON"),
        ('{"secret": "geheimnis"', "not valid JSON"),
    ],
)
def test_the_parser_says_why_and_quotes_nothing(text: str | bytes, words: str) -> None:
    with pytest.raises(UnreadableError, match=words) as caught:
        parse_json(text)
    assert "geheimnis" not in f"{caught.value}{caught.value.__cause__}"


def test_what_is_written_as_an_escape_is_no_half_character() -> None:
    assert parse_json('["\\ud83d\\ude00", "\\\\u0000"]') == ["\U0001f600", "\\u0000"]


def test_nothing_else_in_the_launcher_parses_json() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "launcher").rglob("*.py")
        if "rehearsal" not in path.parts and re.search(r"json\.loads?\(|JSONDecoder|hcl2\.loads", path.read_text())
    }
    assert found == {"launcher/terraform/hcl.py", "launcher/machine/untrusted_text.py"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "printed",
    [
        '{"a":\n' * 3000 + "\n" + GOOD_OUTPUT,
        '{"a": 1' + "0" * 5000 + "}\n" + GOOD_OUTPUT,
        '{"a": {"value": NaN}}\n' + GOOD_OUTPUT,
        '{"a": {"value": 1}, "a": {"value": 2}}\n' + GOOD_OUTPUT,
    ],
    ids=["deep", "thousands of digits", "no number", "a key twice"],
)
def test_outputs_are_found_behind_whatever_is_printed_before(tmp_path: Path, printed: str) -> None:
    assert read_outputs(tmp_path, printing(printed), no_s3).values == {"rds_host": "db"}


def test_outputs_that_can_t_be_read_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read: it is nested too deeply"):
        read_outputs(tmp_path, printing('{"a": ' + "[" * 100_000), no_s3)


@pytest.mark.parametrize("value", ["db\x1b[2Jexample", "db\nexample", "\x7f"])
def test_an_output_that_can_t_be_printed_is_a_sentence(stage: Stage, value: str) -> None:
    stage.outputs({"rds_host": value})
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 20
    assert "The Terraform output rds_host holds a character that can't be printed" in outcome.err


FILES: dict[str, tuple[str, str | bytes]] = {
    "a lock as deep as a well": (".terraform.tfstate.lock.info", "[" * 100_000),
    "a lock that is a list": (".terraform.tfstate.lock.info", '["Who"]'),
    "a lock of lists": (".terraform.tfstate.lock.info", '{"Who": ["a"], "Created": {}, "ID": [1]}'),
    "a lock that is no text": (".terraform.tfstate.lock.info", b"\xff"),
    "a note as deep as a well": (".terraform/terraform.tfstate", "[" * 100_000),
    "a state as deep as a well": ("terraform.tfstate", '{"version": 4, "outputs": ' + "[" * 100_000),
    "a password as deep as a well": ("secrets.tfvars", "db_password = " + "[" * 100_000),
    "a password in brackets": ("secrets.tfvars", "db_password = " + "[" * 2000 + "]" * 2000),
    "a password that is half a character": ("secrets.tfvars", 'db_password = "\\ud800pass"'),
    "a password with NUL": ("secrets.tfvars", 'db_password = "pass\\u0000word"'),
    "a password of no character": ("secrets.tfvars", 'db_password = "\\UFFFFFFFF"'),
    "a password that is no text": ("secrets.tfvars", b'db_password = "\xff"'),
    "a password of 5,000 digits": ("secrets.tfvars", "db_password = " + "1" * 5000),
    "a password that is a list": ("secrets.tfvars", 'db_password = ["x"]'),
}


@pytest.mark.parametrize(("name", "content"), FILES.values(), ids=FILES.keys())
def test_whatever_a_file_holds_it_is_a_sentence(stage: Stage, name: str, content: str | bytes) -> None:
    file = stage.terraform / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (["ecs-migrate"], ["ecs-migrate", "--json"]):
        outcome = stage.launch(*command)
        assert outcome.code == 20, outcome.err
        assert "Hint: " in outcome.err
        assert "Traceback" not in outcome.err
        assert "pass" not in outcome.err.replace("db_password", "").replace("DB_PASSWORD", "")
    assert stage.launch("doctor").code != 0
    assert "RunTask" not in stage.actions


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[]",
        '{"credHelpers": 5}',
        '{"auths": []}',
        '{"auths": ["x"]}',
        '{"auths": 5}',
        '{"auths": {"\\ud800": {}}}',
        b"\xff",
    ],
)
def test_logins_that_can_t_be_read_are_left_as_they_are(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    config = build._docker_config(tmp_path)
    assert build._knows(config, "registry")
    assert build._helper(config, "registry") is None


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "{}", '{"containerimage.digest": ["x"]}', b"\xff"])
def test_a_digest_that_buildx_does_not_write_is_a_sentence(stage: Stage, content: str | bytes) -> None:
    docker = stage.runner

    def run(arguments: list[str], **settings: Any) -> Completed:
        completed = docker(arguments, **settings)
        for argument in arguments:
            if argument.startswith("--metadata-file="):
                text = content if isinstance(content, bytes) else content.encode()
                Path(argument.partition("=")[2]).write_bytes(text)
        return completed

    stage.runner = run  # type: ignore[assignment]
    (stage.root / "changed").write_text("")
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22, outcome.err
    assert "buildx does not say which digest" in outcome.err


@pytest.mark.parametrize("content", [b"\xff\n", b"[z-a]\n"], ids=["no text", "no pattern"])
def test_a_dockerignore_that_can_t_be_read_is_a_sentence(stage: Stage, content: bytes) -> None:
    (stage.root / ".dockerignore").write_bytes(content)
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 20
    assert ".dockerignore can't be read" in outcome.err


def test_a_file_with_a_name_that_is_no_text_is_part_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    bare = context.fingerprint(tmp_path, "Dockerfile", "linux/amd64")
    Path(str(tmp_path).encode().decode() + "/caf\udce9").write_text("x")
    assert context.fingerprint(tmp_path, "Dockerfile", "linux/amd64") != bare


ANSWERS = {
    "as deep as a well": b'{"tasks": ' + b"[" * 100_000,
    "a page of a proxy's": b"<html>Sign in</html>",
    "a list": b"[]",
    "an empty object": b"{}",
    "nothing": b"",
    "other types": b'{"tasks": 5, "taskArns": 5, "failures": {}, "services": 5, "taskDefinition": 5, "events": 5}',
}


@pytest.mark.parametrize("content", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("operation", ["DescribeServices", "ListTasks", "RunTask", "DescribeTasks", "GetLogEvents"])
def test_an_answer_that_is_none_of_aws_s_is_a_sentence(
    stage: Stage, operation: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launcher.rehearsal import server

    encode, broken = server._encode, object()

    def answer(value: Any) -> tuple[str, bytes]:
        return (JSON_TYPE, content) if value.get("broken") is broken else encode(value)

    monkeypatch.setattr(server, "_encode", answer)
    service = "logs" if operation == "GetLogEvents" else "ecs"
    carry_out = stage.cloud.server.handlers[f"{service}:{operation}"]

    def spoil(call: Call) -> Any:
        carry_out(call)
        return {"broken": broken}

    stage.cloud.server.handlers[f"{service}:{operation}"] = spoil
    outcome = stage.launch("ecs-migrate", "--timeout", "60s")
    assert outcome.code in (20, 21, 23, 25), outcome.err
    assert "Traceback" not in outcome.err
    assert "defect" not in outcome.err
    assert "Hint: " in outcome.err


def test_in_a_summary_no_word_of_a_stranger_is_markup() -> None:
    word = "`<h1>x</h1>\n\n# *fine* | &amp;\n"
    known = Launch(result=TaskResult(Verdict.FAILED, 7, word, report=ContainerReport(before=word, after=word)))
    written = summary(known, word, message=word, hint=word, good=False)
    assert written.count("`&lt;h1&gt;x&lt;/h1&gt; # *fine* | &amp;amp;") == 5
    for block in written.strip().split("\n\n"):  # each of HTML, which goes on to the next empty line
        assert re.match(r"<(?:h3|p)>", block)
    assert set(re.findall("<(?!/).*?>", written)) == {"<h3>", "<p>", "<b>", "<code>", "<br>"}


EVIL = "\x1b[2J\x1b[8m\x9b\u202e![i](http://x)\n# heading\n::add-mask::a"


@pytest.mark.parametrize("fields", [{"error": EVIL}, {"ran": [EVIL]}, {"after": EVIL}, {"before": EVIL}], ids=str)
def test_what_a_report_holds_goes_through_the_filter(
    stage: Stage, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    stage.cloud.ecs.start = scripted(Script(seconds=1.0, exit_code=7 if "error" in fields else 0, report=fields))
    for arguments in (["ecs-migrate"], ["ecs-run", "--", "plan"], ["ecs-migrate", "--db-name", EVIL]):
        outcome = stage.launch(*arguments)
        said = outcome.out + outcome.err + page.read_text()
        assert not set("\x1b\x9b\u202e\r") & set(said)
        lines = said.splitlines()
        assert not [line for line in lines if line.lstrip().startswith("::add-mask")]
        assert not [line for line in page.read_text().splitlines() if line.startswith(("#", "!"))]


@pytest.mark.parametrize(
    "fields",
    [
        {"ran": [None]}, {"ran": "004"}, {"ran": {"a": 1}}, {"ran": [["004"]]}, {"error": 5}, {"after": ["004"]},
        {"outcome": True}, {"exit_code": "0"}, {"exit_code": False}, {"command": None}, {"target": 4},
    ],
    ids=str,
)  # fmt: skip
def test_a_report_with_a_field_of_another_type_is_none(stage: Stage, fields: dict[str, Any]) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=1.0, report=fields))
    outcome = stage.launch("ecs-migrate", "--json")
    assert outcome.code == 25, outcome.err
    assert "None" not in outcome.json["message"]


THIN: dict[str, tuple[str, Any, str]] = {
    "a definition without a name": ("ecs:RegisterTaskDefinition", {"taskDefinition": {}}, "it lacks taskDefinitionArn"),
    "a service without a state": ("ecs:DescribeServices", {"services": [{}]}, "it lacks status"),
    "a service that is null": ("ecs:DescribeServices", {"services": [None]}, "services[] is not of type structure"),
    "a service of nothing": ("ecs:DescribeServices", {"services": [{"status": "ACTIVE"}]}, "it lacks taskDefinition"),
    "a state that is a number": ("ecs:DescribeServices", {"services": [{"status": 5}]}, "status is not of type string"),
    "a task that is true": ("ecs:ListTasks", {"taskArns": [True]}, "taskArns[] is not of type string"),
    "a log group without a name": ("logs:DescribeLogGroups", {"logGroups": [{}]}, "it lacks logGroupName"),
    "a log group that is null": (
        "logs:DescribeLogGroups",
        {"logGroups": [None]},
        "logGroups[] is not of type structure",
    ),
}


@pytest.mark.parametrize(("call", "answer", "why"), THIN.values(), ids=THIN.keys())
@pytest.mark.parametrize("command", ["ecs-migrate", "doctor"])
def test_an_answer_of_another_shape_is_a_sentence(stage: Stage, command: str, call: str, answer: Any, why: str) -> None:
    stage.cloud.server.handlers[call] = lambda _: answer
    outcome = stage.launch(command)
    assert "Traceback" not in outcome.err
    if command == "ecs-migrate":
        assert outcome.code == 21
        assert f"The answer to {call} can't be read ({why}): it may not be AWS's." in outcome.err
        assert not stage.cloud.ecs.tasks


@pytest.mark.slow
@pytest.mark.parametrize("event", [None, {"message": 5}, {"message": "x", "timestamp": "x"}], ids=str)
def test_an_event_of_another_shape_leaves_the_log_unread_and_the_task_to_its_end(stage: Stage, event: Any) -> None:
    stage.cloud.server.handlers["logs:GetLogEvents"] = lambda _: {"events": [event], "nextForwardToken": "f/1"}
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 25
    assert "its log, which holds its report, could not be read to the end" in outcome.err


@pytest.mark.slow
def test_a_time_that_no_calendar_has_is_no_defect(stage: Stage) -> None:
    carry_out = stage.cloud.server.handlers["ecs:DescribeTasks"]

    def late(call: Call) -> Any:
        answer: Any = carry_out(call)
        return {**answer, "tasks": [{**task, "startedAt": 1e30} for task in answer["tasks"]]}

    stage.cloud.server.handlers["ecs:DescribeTasks"] = late
    outcome = stage.launch("ecs-migrate", "--timeout", "60s")
    assert outcome.code == 25
    assert "defect" not in outcome.err


def test_a_variable_without_a_value_is_an_empty_one() -> None:
    def definition(**value: str) -> dict[str, Any]:
        return {"containerDefinitions": [{"name": "migrate", "environment": [{"name": "X", **value}]}]}

    assert not list(compare(definition(), definition(value="")))
    assert [(each.before, each.after) for each in compare(definition(), definition(value="y"))] == [("", "y")]
