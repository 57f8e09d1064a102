"""The verdict on a task that has ended."""

from __future__ import annotations

import signal
from dataclasses import replace

from launcher.errors import ExitCode
from launcher.models import STARTING, TIMEOUT, ContainerReport, Place, Task, TaskResult, Verdict
from launcher.task import command_line
from launcher.task.causes import cause
from launcher.task.logs import OVER, LogFollower
from launcher.task.watch import WatchResult

_NEXT = {
    3: "See what differs: launcher ecs-run -- verify",
    4: "A lock was not free in time, or the database was moved meanwhile. See: launcher ecs-run -- plan",
    5: "The log says what was refused, and what to do.",
    6: "See whether the task can reach the database with the right password: launcher doctor",
    7: "What had begun was rolled back, unless the log says otherwise. What was run: launcher ecs-run -- log",
    137: "It was killed, perhaps because it needed more memory than the task has.",
    143: "Somebody stopped the task.",
}
_NEXT_BACK = {
    2: "Is the image older than --rollback? Name a newer one with --image, or leave that out.",
    4: "A migration runs, or ran meanwhile. Look again: launcher ecs-migrate --rollback --dry-run",
}
_WHERE = (
    "What was committed stays; what was not is rolled back. See at which revision the database is:"
    " launcher ecs-run -- current."
)
_RESUMABLE = frozenset({137, 143})
"""The exit codes after which the same command may succeed."""
_NO_MEMORY = "The container was killed (137): it needed more memory than the task has."
_LESS_MEMORY = (
    "The revision after it needs too much memory, and the launcher can't give it more. Change that revision's file: let"
    " SQL do the work, and read no rows into Python. Then build the new image and go on with: {}"
)


def judge(watched: WatchResult, log: LogFollower, place: Place, timeout: float) -> TaskResult:
    """Judge a task; a missing exit code is never success, and what was not read of its log is told.

    Args:
        watched: the ended task.
        log: its log.
        place: where it ran.
        timeout: the task's time limit in seconds.
    """
    result = _judge(watched, log, place, timeout)
    rest = unread(watched, log)
    if rest is None:
        return result
    return replace(result, hint=f"{result.hint.rstrip('.')}. {rest}" if result.hint else rest, unread=rest)


def lacks_report(watched: WatchResult, log: LogFollower) -> bool:
    """Whether the container ran, and its last line has not arrived and may still come."""
    task = watched.task
    if watched.over_for > OVER:
        return False
    ran = task.started is not None or task.exit_code is not None or log.found
    return ran and log.report is None and command_line.reports(task.command)


def _judge(watched: WatchResult, log: LogFollower, place: Place, timeout: float) -> TaskResult:
    task, report = watched.task, log.report
    details = _said(task)
    if task.exit_code == 0:
        doubt = _doubt(task, log)
        if doubt is not None:
            message = f"The container ended with 0, but {doubt}"
            return TaskResult(
                Verdict.UNKNOWN,
                ExitCode.UNKNOWN,
                message,
                hint=_resume(task, report),
                details=details,
                task=task,
                report=report,
            )
        message = _success(task, report, place)
        if watched.timed_out or watched.interrupted_by is not None:
            message += " It had finished before it could be stopped."
        return TaskResult(Verdict.SUCCEEDED, 0, message, task=task, report=report)
    if watched.interrupted_by is not None:
        name = signal.Signals(watched.interrupted_by).name
        ended = f"ended with {task.exit_code}" if task.exit_code is not None else "was stopped"
        return TaskResult(
            Verdict.INTERRUPTED,
            128 + watched.interrupted_by,
            f"Interrupted by {name}: the container {ended}.",
            hint=_resume(task, report),
            details=details,
            task=task,
            report=report,
        )
    if watched.timed_out:
        return TaskResult(
            Verdict.TIMED_OUT,
            ExitCode.TIMED_OUT,
            f"The task was stopped: it had not ended after {timeout:.0f} s.",
            hint=f"{_at(report) or _WHERE} The log shows what it waited for. {_longer(task, timeout)}",
            details=details,
            task=task,
            report=report,
        )
    unknown = report is not None and report.outcome == "unknown"
    if task.exit_code == ExitCode.TIMED_OUT and not unknown:
        return TaskResult(
            Verdict.TIMED_OUT,
            ExitCode.TIMED_OUT,
            (report and report.error) or "The container ended by itself: its deadline had come.",
            hint=f"{_at(report) or _WHERE} What was run: launcher ecs-run -- log. {_longer(task, _limit(task))}",
            details=details,
            task=task,
            report=report,
        )
    if task.exit_code is not None:
        said = f": {report.error}" if report is not None and report.error else "."
        message = f"The container ended with {task.exit_code}{said}"
        hint = _architecture(log)
        if "OutOfMemory" in (task.container_reason or ""):
            message, hint = _NO_MEMORY, f"{_at(report) or _WHERE} {_LESS_MEMORY.format(_rest(task)[1].format(''))}"
        elif hint is None and unknown:
            hint = _resume(task, report)
        elif hint is None:
            hint = _next(task, task.exit_code, report)
        return TaskResult(
            Verdict.UNKNOWN if unknown else Verdict.FAILED,
            task.exit_code,
            message,
            hint=hint,
            details=details,
            task=task,
            report=report,
        )
    if task.started is None and not log.found:
        why = cause(" ".join(filter(None, (task.stopped_reason, task.container_reason))), place)
        return TaskResult(
            Verdict.NOT_STARTED,
            ExitCode.NOT_STARTED,
            f"The container never started, so the database was not touched. {why.message}",
            hint=why.hint,
            details=details,
            task=task,
        )
    return TaskResult(
        Verdict.UNKNOWN,
        ExitCode.UNKNOWN,
        "The task was lost: it ended without an exit code, so how far it came is not known.",
        hint=_resume(task, report),
        details=details,
        task=task,
        report=report,
    )


def _at(report: ContainerReport | None) -> str | None:
    """Return where the database is, as a sentence; None if the container has not said so."""
    if report is None or report.outcome == "unknown" or not (report.after or report.has_target):
        return None
    still = "still " if report.after == report.before and not report.ran else ""
    return f"The database is {still}at {_named(report.after)}."


def _limit(task: Task) -> float:
    """Return the seconds that a task was given: this launcher may only follow it."""
    return task.deadline - STARTING - task.created if task.deadline and task.created else TIMEOUT


def _rest(task: Task) -> tuple[str, str]:
    """Return what does the rest of a task's work, in words, and its command, in which {} is for further options."""
    if command_line.is_rollback(task.command):
        return "a rollback", "launcher ecs-migrate --rollback{}"
    if command_line.change(task.command) == "downgrade":
        return "a downgrade", "launcher ecs-run{} -- downgrade REVISION"
    return "an upgrade", "launcher ecs-migrate{}"


def _longer(task: Task, limit: float) -> str:
    more = f"--timeout {max(round(limit / 30), 1)}m"
    what, again = _rest(task)
    if what == "an upgrade" and task.command and command_line.change(task.command) != "upgrade":
        return f"To give it more time, run the same command with {more}"
    return f"To give {what} more time: {again.format(f' {more}')}"


def _resume(task: Task, report: ContainerReport | None) -> str:
    """Return how to go on after an end half-way."""
    what, again = _rest(task)
    # A rollback that went all the way would go one run further back.
    go_on = f"{what.capitalize()} goes on from there: {again.format(' --dry-run' * (what == 'a rollback'))}"
    if at := _at(report):
        return f"{at} {go_on}. What was run: launcher ecs-run -- log"
    return f"{_WHERE.rstrip('.')}, and what was run: launcher ecs-run -- log. {go_on}"


def _next(task: Task, code: int, report: ContainerReport | None) -> str | None:
    """Return the hint for the exit code of a container that failed."""
    known = _NEXT | _NEXT_BACK if command_line.is_rollback(task.command) else _NEXT
    usual = known.get(code, "The log says why." if report is not None else None)
    if code in _RESUMABLE:
        return f"{usual} {_resume(task, report)}"
    at = _at(report) or ("Nothing was changed." if code == ExitCode.REFUSED and report is not None else None)
    return " ".join(filter(None, (at, usual))) or None


def unread(watched: WatchResult, log: LogFollower) -> str | None:
    """Return what may be missing of the log, and how to read it; None if it was read to its last line."""
    again = f"launcher logs {watched.task.id}"
    if log.refused is not None:
        return f"Once the log may be read: {again}"
    if log.missing is not None:
        return f"The log could not be read to its end. {log.missing} Read it later: {again}"
    return f"The last lines of the log may still come: {again}" if lacks_report(watched, log) else None


def _doubt(task: Task, log: LogFollower) -> str | None:
    """Return why exit code 0 is not trusted, as the rest of a sentence; None if it is trusted."""
    report, wanted = log.report, command_line.change(task.command)
    if report is not None and report.has_target and not task.command:  # the image's default command
        wanted = report.command
    if report is not None and report.outcome == "unknown":
        return "it says itself that the outcome is not known."
    if wanted is None:
        return None
    if report is None:
        return f"{log.gap} So it is not known what became of the {wanted}."
    if report.command != wanted:
        return f"its report is of {report.command or 'no command'}, not of the {wanted} that it was to do."
    if report.outcome not in (None, "succeeded") or report.exit_code not in (None, 0):
        said = report.outcome if report.outcome not in (None, "succeeded") else f"the exit code {report.exit_code}"
        return f"it reports {said}{f': {report.error}' if report.error else '.'}"
    if not report.has_target:  # from an older image
        nowhere = report.after is None and wanted in ("reset", "upgrade")
        return f"the database is at no revision after the {wanted}." if nowhere else None
    if _heads(report.after) != _heads(report.target):
        return f"the database is at {_named(report.after)}, and the {wanted} was to take it to {_named(report.target)}."
    return None


def _heads(revisions: str | None) -> list[str]:
    return sorted(revisions.replace(",", " ").split()) if revisions else []


def _named(revision: str | None) -> str:
    return revision or "no revision"


def _success(task: Task, report: ContainerReport | None, place: Place) -> str:
    if report is None or (report.after is None and not report.ran):
        return "The container ended with 0."
    where = f"{place.environment} is at {f'revision {report.after}' if report.after else 'no revision'}"
    if report.ran:
        return f"{where}; {', '.join(report.ran)} {'taken back' if report.command == 'downgrade' else 'ran'}."
    return f"{where}; nothing had to be done." if "upgrade" in task.command else f"{where}."


def _said(task: Task) -> tuple[str, ...]:
    """Return ECS's own reasons, the container's last so that it stands out."""
    lines = []
    # Beside an exit code, "the essential container exited" is not news.
    if task.stop_code != "EssentialContainerExited" or task.exit_code is None:
        lines += [f"stopCode: {task.stop_code}"] if task.stop_code else []
        lines += [f"stoppedReason: {task.stopped_reason}"] if task.stopped_reason else []
    lines += [f"{name}: {reason}" for name, reason in task.other_reasons.items()]
    if task.container_reason and task.container_reason != task.stopped_reason:
        lines.append(f"reason: {task.container_reason}")
    return tuple(lines)


def _architecture(log: LogFollower) -> str | None:
    if not log.wrong_architecture:
        return None
    return "The image is for another processor: leave --image out, so that it is built for the service's platform."
