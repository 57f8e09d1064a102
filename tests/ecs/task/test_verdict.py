"""What is said of a task that has ended."""

from __future__ import annotations

import math
from typing import Any

import pytest

from launcher.models import ContainerReport, Place, Task
from launcher.task.causes import cause
from launcher.task.logs import LogFollower
from launcher.task.verdict import judge
from launcher.task.watch import WatchResult

PLACE = Place("prod", "ap-northeast-1", "c", "neuraKnot-prod-migrate", "migrate", "r", "/ecs/g")


class Nothing:
    def log_events(self, group: str, stream: str, token: str | None = None) -> Any:
        return None


@pytest.mark.parametrize(
    ("command", "after", "ran", "says"),
    [
        ("upgrade", "004", ("003", "004"), "prod is at revision 004; 003, 004 ran."),
        ("upgrade", "004", (), "prod is at revision 004; nothing had to be done."),
        ("downgrade", "003", ("004",), "prod is at revision 003; 004 taken back."),
        ("downgrade", None, ("001",), "prod is at no revision; 001 taken back."),
        ("plan", "003", (), "prod is at revision 003."),
        ("list_templates", None, (), "The container ended with 0."),
    ],
)
def test_success_in_a_sentence(command: str, after: str | None, ran: tuple[str, ...], says: str) -> None:
    log = LogFollower(Nothing(), "g", "s")
    log.report = ContainerReport(command, "002", after, ran, 0, target=after, has_target=command != "plan")
    task = Task("arn:task/1", "STOPPED", exit_code=0, command=("alembic", command))
    assert judge(WatchResult(task), log, PLACE, 60.0).message == says


@pytest.mark.parametrize(("after", "code"), [("004", 0), ("002", 25)])
def test_what_an_image_runs_by_itself_is_held_against_its_own_report(after: str, code: int) -> None:
    log = LogFollower(Nothing(), "g", "s")
    log.report = ContainerReport("upgrade", None, after, (), 0, target="004", has_target=True)
    assert judge(WatchResult(Task("arn:task/1", "STOPPED", exit_code=0)), log, PLACE, 60.0).exit_code == code


@pytest.mark.parametrize(
    ("reason", "message", "hint"),
    [
        (
            "from asm: service call has been retried 1 time(s): unexpected ARN format with parameters when trying to "
            "retrieve ASM secret",
            "does not understand the ARN",
            "ARN:KEY::",
        ),
        (
            "from asm: service call has been retried 1 time(s): failed to fetch secret arn:x from secrets manager: "
            "AccessDeniedException: Access to KMS is not allowed",
            "may not use it (kms:Decrypt)",
            "Allow kms:Decrypt on that key",
        ),
        (
            "from ssm: service call has been retried 1 time(s): AccessDeniedException: The ciphertext refers to a "
            "customer master key that does not exist, does not exist in this region, or you are not allowed to access.",
            "may not use it (kms:Decrypt)",
            "Allow kms:Decrypt on that key",
        ),
        (
            "from asm: failed to fetch secret arn:aws:secretsmanager:r-1:123456789012:secret:db-1 from secrets manager:"
            " InvalidRequestException: You can't perform this operation on the secret because it was marked for"
            " deletion.",
            "is to be deleted",
            "--secret-id arn:aws:secretsmanager:r-1:123456789012:secret:db-1",
        ),
        (
            "from ssm: service call has been retried 5 time(s): RequestError: send request failed caused by: Post "
            '"https://ssm.ap-northeast-1.amazonaws.com/": dial tcp 10.0.0.9:443: i/o timeout',
            "no way out to ssm.ap-northeast-1.amazonaws.com",
            "(ssm where a parameter holds the password)",
        ),
    ],
)
def test_why_the_password_can_t_be_had(reason: str, message: str, hint: str) -> None:
    found = cause(f"ResourceInitializationError: unable to pull secrets: unable to retrieve secret {reason}", PLACE)
    assert message in found.message
    assert hint in found.hint
    assert "run the same command again" not in found.hint


@pytest.mark.parametrize(
    ("code", "before", "ran", "outcome", "says"),
    [
        (7, "003", ("004",), "failed", "The database is at 004."),
        (4, "004", (), "failed", "The database is still at 004."),
        (143, "003", ("004",), "interrupted", "The database is at 004. An upgrade goes on from there:"),
        (143, "003", (), "unknown", "See at which revision the database is: launcher ecs-run -- current"),
    ],
)
def test_a_failure_tells_where_the_database_is(
    code: int, before: str, ran: tuple[str, ...], outcome: str, says: str
) -> None:
    log = LogFollower(Nothing(), "g", "s")
    log.report = ContainerReport("upgrade", before, "004", ran, code, "no", outcome, "005", has_target=True)
    task = Task("arn:task/1", "STOPPED", exit_code=code, command=("alembic", "upgrade", "head"))
    assert says in (judge(WatchResult(task), log, PLACE, 60.0).hint or "")


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize(
    ("command", "limit", "says"),
    [
        ("", 90, "To give an upgrade more time: launcher ecs-migrate --timeout 3m"),
        ("alembic upgrade head", 90, "To give an upgrade more time: launcher ecs-migrate --timeout 3m"),
        (
            "alembic -x from=004 downgrade 002",
            90,
            "To give a rollback more time: launcher ecs-migrate --rollback --timeout 3m",
        ),
        ("neuraknot-db verify", 90, "To give it more time, run the same command with --timeout 3m"),
        (
            "neuraknot-db plan --rollback",
            90,
            "To give a rollback more time: launcher ecs-migrate --rollback --timeout 3m",
        ),
        ("alembic upgrade head", -60, "launcher ecs-migrate --timeout 1m"),  # by a clock that was slow
    ],
)
def test_more_time_is_given_by_a_whole_command_that_goes_the_same_way(
    command: str, limit: int, says: str, stopped: bool
) -> None:
    more = {"created": 1000.0, "deadline": 1000 + limit + 120, "command": tuple(command.split())}
    task = Task("arn:task/1", "STOPPED", exit_code=143 if stopped else 24, **more)  # type: ignore[arg-type]
    hint = judge(WatchResult(task, timed_out=stopped), LogFollower(Nothing(), "g", "s"), PLACE, limit).hint
    assert says in (hint or "")


BACK = "A migration runs, or ran meanwhile. Look again: launcher ecs-migrate --rollback --dry-run"
OLD = "Is the image older than --rollback? Name a newer one with --image, or leave that out."
ON = "A rollback goes on from there: launcher ecs-migrate --rollback --dry-run"


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("neuraknot-db plan --rollback --count", 2, OLD),
        ("neuraknot-db plan --rollback --count", 4, BACK),
        ("alembic -x from=004 downgrade 002", 4, BACK),
        ("alembic -x from=004 downgrade 002", 143, ON),
        (
            "alembic -x from=004 downgrade 002",
            24,
            "a rollback more time: launcher ecs-migrate --rollback --timeout 60m",
        ),
        (
            "alembic -x confirm=a downgrade 002",
            143,
            "A downgrade goes on from there: launcher ecs-run -- downgrade REV",
        ),
        ("alembic downgrade 002", 24, "a downgrade more time: launcher ecs-run --timeout 60m -- downgrade REVISION"),
    ],
)
def test_what_to_paste_after_a_way_back_is_one(command: str, code: int, says: str) -> None:
    task = Task("arn:task/1", "STOPPED", exit_code=code, command=tuple(command.split()))
    hint = judge(WatchResult(task), LogFollower(Nothing(), "g", "s"), PLACE, 60.0).hint or ""
    assert says in hint
    assert "pgrade goes on" not in hint.replace("downgrade", "")
    killed = Task("arn:task/1", "STOPPED", exit_code=137, command=task.command, container_reason="OutOfMemoryError")
    hint = judge(WatchResult(killed), LogFollower(Nothing(), "g", "s"), PLACE, 60.0).hint or ""
    assert "go on with: launcher ecs-migrate --rollback" in hint or "with: launcher ecs-run -- downgrade REV" in hint


@pytest.mark.parametrize(
    ("outcome", "verdict"), [("interrupted", "timed_out"), ("unknown", "unknown"), (None, "timed_out")]
)
@pytest.mark.parametrize("stopped", [False, True])
def test_a_container_that_was_out_of_time_says_so_itself(outcome: str | None, verdict: str, stopped: bool) -> None:
    log = LogFollower(Nothing(), "g", "s")
    error = "Out of time: the deadline of 2026-11-27 17:30:00 UTC passed; revision 004 was rolled back."
    if outcome:
        after = "003" if outcome == "interrupted" else None
        log.report = ContainerReport("upgrade", "002", after, ("003",), 24, error, outcome, "004", has_target=True)
    task = Task("arn:task/1", "STOPPED", exit_code=24, created=1000.0, deadline=1000 + 600 + 120)
    result = judge(WatchResult(task, timed_out=stopped), log, PLACE, 600.0 if stopped else math.inf)
    assert result.exit_code == 24
    assert result.verdict.value == ("timed_out" if stopped else verdict)
    assert stopped or outcome is None or error in result.message
    assert "launcher ecs-run -- log" in (result.hint or "") or stopped
    assert ("launcher ecs-migrate --timeout 20m" in (result.hint or "")) == (stopped or verdict == "timed_out")


def test_what_goes_without_saying_is_not_said() -> None:
    ended = {"stop_code": "EssentialContainerExited", "stopped_reason": "Essential container in task exited"}
    task = Task("arn:task/1", "STOPPED", exit_code=7, started=1.0, **ended)  # type: ignore[arg-type]
    assert judge(WatchResult(task), LogFollower(Nothing(), "g", "s"), PLACE, 60.0).details == ()


@pytest.mark.parametrize(
    ("watched", "code"),
    [
        (WatchResult(Task("arn:task/1", "STOPPED", exit_code=137), timed_out=True), 24),
        (WatchResult(Task("arn:task/1", "STOPPED", exit_code=130), interrupted_by=2), 130),
        (WatchResult(Task("arn:task/1", "STOPPED", exit_code=137)), 137),
        (WatchResult(Task("arn:task/1", "STOPPED", exit_code=143)), 143),
        (WatchResult(Task("arn:task/1", "STOPPED", exit_code=137, container_reason="OutOfMemoryError: killed")), 137),
    ],
)
def test_after_an_end_half_way_the_database_is_to_be_asked(watched: WatchResult, code: int) -> None:
    result = judge(watched, LogFollower(Nothing(), "g", "s"), PLACE, 60.0)
    assert result.exit_code == code
    assert result.hint is not None
    assert "See at which revision the database is: launcher ecs-run -- current" in result.hint
    assert "launcher ecs-migrate" in result.hint  # it goes on from there
