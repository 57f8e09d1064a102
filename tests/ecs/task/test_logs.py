"""The log is followed by its tokens to the last line, whatever CloudWatch does in between."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.aws.client import Aws, LogPage
from launcher.errors import AccessDeniedError, TransientAwsError
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.delivery import Travel
from launcher.rehearsal.program import Script
from launcher.task.logs import QUIET, LogFollower
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, SHOWN, make_stage

RESULT = json.dumps({"neuraknot_result": 1, "before": "001", "after": "004", "ran": ["002"], "exit_code": 0})


class Pages:
    """Answers of GetLogEvents, each for one call; the last one for ever."""

    def __init__(self, *answers: LogPage | Exception | None) -> None:
        self._answers: Iterator[Any] = iter(answers)
        self._last: Any = None
        self.tokens: list[str | None] = []

    def log_events(self, group: str, stream: str, token: str | None = None) -> LogPage | None:
        self.tokens.append(token)
        self._last = next(self._answers, self._last)
        if isinstance(self._last, Exception):
            raise self._last
        answer: LogPage | None = self._last
        return answer


def page(token: str, *texts: str, at: int = 1000) -> LogPage:
    return LogPage(tuple({"timestamp": at, "message": text, "ingestionTime": at} for text in texts), token)


def drained(pages: Pages, clock: FakeClock) -> list[str]:
    return [line.text for line in LogFollower(pages, "group", "stream").drain(clock)]


def test_it_reads_until_the_token_repeats_and_all_has_been_quiet(clock: FakeClock) -> None:
    begun = clock.now()
    pages = Pages(page("1", "a", "b"), page("1"), page("1"), page("2", "late"), page("2"))
    assert drained(pages, clock) == ["a", "b", "late"]
    assert pages.tokens[:4] == [None, "1", "1", "1"]
    assert clock.now() - begun >= QUIET


def test_the_containers_last_line_ends_the_wait(clock: FakeClock) -> None:
    begun = clock.now()
    pages = Pages(page("1", "a", RESULT), page("1"))
    log = LogFollower(pages, "group", "stream")
    assert [line.text for line in log.drain(clock)] == ["a"]
    assert clock.now() == begun
    assert log.report is not None
    assert (log.report.before, log.report.after, log.report.ran) == ("001", "004", ("002",))


def test_a_line_after_the_result_is_not_lost(clock: FakeClock) -> None:
    pages = Pages(page("1", RESULT), page("2", "from standard error"), page("2"))
    assert drained(pages, clock) == ["from standard error"]


def test_an_empty_page_after_the_result_is_not_the_end_while_its_token_is_new(clock: FakeClock) -> None:
    assert drained(Pages(page("1", RESULT), page("2"), page("3", "late"), page("3")), clock) == ["late"]


def test_events_with_equal_timestamps_are_neither_lost_nor_doubled(clock: FakeClock) -> None:
    pages = Pages(page("1", "a", "a", at=5), page("2", "a", at=5), page("2"))
    assert drained(pages, clock) == ["a", "a", "a"]


def test_an_empty_page_with_a_new_token_is_not_the_end(clock: FakeClock) -> None:
    assert drained(Pages(page("1"), page("2"), page("3", "a"), page("3")), clock) == ["a"]


def test_no_stream_yet_is_no_failure_and_never_is_told(clock: FakeClock) -> None:
    assert drained(Pages(None, None, page("1", "a"), page("1")), clock) == ["a"]
    log = LogFollower(Pages(None), "group", "stream")
    assert list(log.drain(clock)) == []
    assert not log.found


def test_throttling_is_waited_out(clock: FakeClock) -> None:
    throttled = TransientAwsError("Rate exceeded")
    assert drained(Pages(page("1", "a"), throttled, throttled, page("2", "b", RESULT), page("2")), clock) == ["a", "b"]


def test_a_log_that_may_not_be_read_is_asked_for_once(clock: FakeClock) -> None:
    pages = Pages(AccessDeniedError("no"))
    log = LogFollower(pages, "group", "stream")
    assert list(log.read()) == list(log.drain(clock)) == []
    assert log.refused is not None
    assert len(pages.tokens) == 1


FAILING = Script(lines=(*GOOD.lines, (2.9, "Error: the reason")), seconds=3.0, exit_code=7)


@pytest.mark.parametrize("late", [4.0, 14.0])
@pytest.mark.parametrize("command", [["ecs-migrate"], ["ecs-run", "--", "plan"]])
def test_the_last_lines_are_waited_for(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, late: float, command: list[str]
) -> None:
    stage = make_stage(make_cloud(script=FAILING), clock, tmp_path)
    stage.cloud.ecs.logs.travel = Travel(delay=late)
    outcome = stage.launch(*command)
    assert outcome.code == 7
    assert outcome.out.splitlines() == [*SHOWN, "Error: the reason"]
    assert "may still come" not in outcome.err


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (7, 7), (137, 137)])
@pytest.mark.parametrize("travel", [Travel(delay=60.0), Travel(lost=True)], ids=["late", "lost"])
def test_lines_that_have_not_come_are_not_told_as_none(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, travel: Travel, code: int, ends: int
) -> None:
    stage = make_stage(make_cloud(script=replace(FAILING, exit_code=code)), clock, tmp_path)
    stage.cloud.ecs.logs.travel = travel
    outcome = stage.launch("ecs-run", "--", "plan")
    assert outcome.code == ends
    [task] = stage.cloud.ecs.tasks.values()
    assert "no lines so far" in outcome.err
    assert f"The last lines of the log may still come: launcher logs --environment dev {task.id}" in outcome.err
    assert "The log says why" not in outcome.err


@pytest.mark.parametrize("late", [4.0, 14.0])
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_logs_wait_for_the_last_lines_too(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, late: float, arguments: list[str]
) -> None:
    stage = make_stage(make_cloud(script=FAILING), clock, tmp_path)
    stage.cloud.ecs.logs.travel = Travel(delay=late)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    clock.sleep(10)  # its container has just ended
    told = stage.launch("logs", *arguments)
    assert told.code == 0, told.err
    assert "Error: the reason" in told.out
    assert "may still come" not in told.err
    assert not arguments or told.json["complete"]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(("since", "told"), [(10, True), (200, True), (600, False)])
def test_lines_are_told_to_come_as_long_as_they_may(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, since: int, *, told: bool, follow: bool
) -> None:
    stage = make_stage(make_cloud(script=FAILING), clock, tmp_path)
    stage.cloud.ecs.logs.travel = Travel(lost=True)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    clock.sleep(since)
    before = clock.now()
    outcome = stage.launch("logs", *["--follow"] * follow)
    assert ("may still come" in outcome.err) == told, outcome.err
    assert (clock.now() - before > 10) == told


def test_stop_says_what_may_still_come(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = make_stage(make_cloud(script=replace(GOOD, seconds=600.0)), clock, tmp_path)
    stage.cloud.ecs.logs.travel = Travel(lost=True)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    clock.sleep(20)
    told = stage.launch("stop", "--json")
    assert (told.code, told.json["complete"]) == (0, False), told.err
    assert "The last lines of the log may still come: launcher logs --environment dev" in told.err


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_logs_of_a_task_that_may_not_be_seen_say_so(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, arguments: list[str]
) -> None:
    stage = make_stage(make_cloud(script=replace(GOOD, seconds=600.0)), clock, tmp_path)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    clock.sleep(60)
    [task] = stage.cloud.ecs.tasks.values()

    def refuse(call: Call) -> None:
        if call.operation == "DescribeTasks":
            raise Refusal("AccessDeniedException", "no")

    stage.cloud.server.faults.append(refuse)
    told = stage.launch("logs", task.id, *arguments)
    assert told.code == 0, told.err
    if arguments:
        assert told.json["complete"] is None
    else:
        assert "Whether more lines may come is not known. The caller may not do ecs:DescribeTasks." in told.err


@pytest.mark.parametrize(
    ("code", "words"), [("ThrottlingException", "Rate exceeded"), ("ResourceNotFoundException", "no longer there")]
)
def test_lines_that_were_read_are_not_lost_to_those_that_were_not(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, code: str, words: str
) -> None:
    stage = make_stage(make_cloud(script=FAILING), clock, tmp_path)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    clock.sleep(20)

    def refuse(call: Call) -> None:
        if call.operation == "GetLogEvents" and "nextToken" in call.parameters:
            raise Refusal(code, "Rate exceeded")

    stage.cloud.server.faults.append(refuse)
    told = stage.launch("logs", "--json")
    assert (told.code, told.json["exit_code"], told.json["complete"]) == (21, 21, False)
    assert words in told.json["message"]
    assert [line["text"] for line in told.json["lines"]] == [*SHOWN, "Error: the reason"]


def test_logs_of_a_task_that_runs_say_so(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = make_stage(make_cloud(script=replace(GOOD, seconds=600.0)), clock, tmp_path)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    [task] = stage.cloud.ecs.tasks.values()
    follow = f"launcher logs --environment dev --follow {task.id}"
    pending = stage.launch("logs")
    assert (pending.code, pending.out) == (0, ""), pending.err
    assert "and more lines may come. Follow it:" in pending.err
    clock.sleep(60)
    running = stage.launch("logs")
    assert running.out.splitlines() == SHOWN
    assert "The task is RUNNING, and more lines may come." in running.err
    assert follow in " ".join(running.err.split())
    assert stage.launch("logs", "--json").json["complete"] is False


@pytest.mark.parametrize("follow", [False, True])
def test_pages_without_lines_that_have_no_end_are_told(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, follow: bool
) -> None:
    monkeypatch.setattr("launcher.task.logs._PAGES", 3)  # in each of the reads that there is patience for
    stage = make_stage(make_cloud(script=FAILING), clock, tmp_path)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    clock.sleep(20)
    tokens = itertools.count()
    stage.cloud.server.handlers["logs:GetLogEvents"] = lambda _: {
        "events": [], "nextForwardToken": f"f/{next(tokens)}", "nextBackwardToken": "b/0",
    }  # fmt: skip
    outcome = stage.launch("logs", *["--follow"] * follow)
    assert "The log could not be read to its end. AWS went on to give pages without lines." in outcome.err
    assert outcome.code == (7 if follow else 21)


def test_lines_that_could_not_be_read_are_told(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = make_stage(make_cloud(script=FAILING), clock, tmp_path)

    def refuse(call: Call) -> None:
        if call.operation == "GetLogEvents" and "nextToken" in call.parameters:
            raise Refusal("ThrottlingException", "Rate exceeded")

    stage.cloud.server.faults.append(refuse)
    outcome = stage.launch("ecs-run", "--", "plan")
    assert outcome.code == 7
    assert "the rest could not be read" in outcome.err
    assert "The log could not be read to its end. AWS can't serve logs:GetLogEvents now: Rate exceeded" in outcome.err


@pytest.mark.parametrize("text", ['{"neuraknot_result": 2}', '{"neuraknot_result": 1', "neuraknot_result", '{"a": 1}'])
def test_only_the_result_is_taken_for_the_result(clock: FakeClock, text: str) -> None:
    assert drained(Pages(page("1", text), page("1")), clock) == [text]


def test_thousands_of_lines_come_in_pages_and_in_order(cloud: LocalAws, aws: Aws, clock: FakeClock) -> None:
    stack = cloud.stack
    aws.create_log_group(stack.log_group)
    stack.logs.create_log_stream(stack.log_group, "s")
    texts = [f"line {number}" for number in range(12_345)]
    events = [{"timestamp": int(clock.now() * 1000), "message": text} for text in texts]
    stack.logs.put_log_events(stack.log_group, "s", events)
    log = LogFollower(aws, stack.log_group, "s")
    assert [line.text for line in log.read()] == texts


@pytest.mark.parametrize("texts", [(), ("a",) * 1000], ids=["empty", "full"])
def test_one_read_ends_though_the_log_does_not(clock: FakeClock, texts: tuple[str, ...]) -> None:
    pages = Pages(*(page(str(number), *texts) for number in range(200)), page("199"))
    log = LogFollower(pages, "group", "stream")
    assert len(list(log.read())) == 50 * len(texts)
    assert len(list(log.drain(clock))) == 150 * len(texts)
    assert pages.tokens[:200] == [None, *map(str, range(199))]


def test_lines_behind_many_empty_pages_are_shown_to_who_does_not_wait(clock: FakeClock) -> None:
    pages = Pages(*(page(str(number)) for number in range(120)), page("120", "a"), page("120"))
    assert [line.text for line in LogFollower(pages, "group", "stream").drain(clock, quiet=0.0)] == ["a"]
