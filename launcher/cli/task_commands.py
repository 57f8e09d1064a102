"""`status`, `logs` and `stop` for tasks that were started before."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from launcher.cli import commands, report
from launcher.cli.shared_options import Common
from launcher.environment.names import log_stream
from launcher.environment.stack import place_for
from launcher.errors import AccessDeniedError, AwsError, ConfigurationError, LauncherError, RefusedError, UsageError
from launcher.launch.execute import Launch
from launcher.models import Place, Task, TaskRun, Verdict
from launcher.task.find import find_tasks, read_task, untagged
from launcher.task.logs import LogFollower
from launcher.task.verdict import unread
from launcher.task.watch import WatchResult, quiet, seconds_over, stop_task
from launcher.terraform.secrets import written_passwords

if TYPE_CHECKING:
    from launcher.aws.client import Aws

# Old tasks have hyphens in their ids, and no cluster in their ARNs.
_TASK = re.compile(r"(?:arn:[^\s/]+:task/(?:[^\s/]+/)?)?(?:[0-9a-f]{32}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})")


def status(common: Common) -> int:
    """List the tasks that are alive, and those that stopped in the last hour."""
    place, aws = _place(common)
    found = find_tasks(aws, place.cluster, place.family, place.container)
    alive, over = found.alive, found.over
    if common.console.json:
        tasks = {"alive": [report.task_object(task) for task in alive], "over": [report.task_object(t) for t in over]}
        common.console.result({"environment": place.environment, **tasks})
        return 0
    width = max((len(_ended(task)) for task in (*alive, *over)), default=0)
    for task in (*alive, *over):
        common.console.row(_task_line(task, width), indent=4)
    if not alive and not over:
        common.console.say(f"No migration task of {place.environment} is alive, and none stopped in the last hour.")
    return 0


def logs(common: Common, task_id: str | None, *, follow: bool) -> int:
    """Print a task's log; with `follow`, until the task ends, and return its exit code."""
    task_id = _named(task_id)
    place, aws = _place(common)
    refused = None
    try:
        task = _find(aws, place, task_id)
    except AccessDeniedError as error:
        if follow or task_id is None:
            raise
        task, refused = None, error  # the log may be there to read all the same, as of a task that ECS has forgotten
    if task is None and task_id is None:
        raise ConfigurationError(
            f"No migration task of {place.environment} is alive, and none stopped in the last hour.",
            hint=f"Older logs: aws logs tail {place.log_group} --region {place.region}",
        )
    stream = log_stream(place, task.id if task else str(task_id).rsplit("/", 1)[-1])
    _hide_password(common)
    if task is None or not follow:
        _print_log(common, LogFollower(aws, place.log_group, stream), task, refused)
        return 0
    known = Launch()
    run = TaskRun(task, task.definition, None, place.log_group, stream)
    result = commands.executor(common, aws, known).follow(place, run)
    commands.report_result(common, known, result, "logs")
    return result.exit_code


def stop(common: Common, task_id: str | None) -> int:
    """Stop a task and read its log to the end; return 0 once it is over.

    Raises:
        RefusedError: it is not a migration task of this environment.
        ConfigurationError: ECS does not know it.
    """
    task_id = _named(task_id)
    place, aws = _place(common)
    console = common.console
    task = _find(aws, place, task_id, alive=True)
    if task is None and task_id:
        raise ConfigurationError(
            f"ECS knows no task {task_id} in {place.cluster}: it is another's, or was over an hour ago.",
            hint="See what there is: launcher status",
        )
    if task is not None and task.family not in (None, place.family):
        raise RefusedError(
            f"The task {task.id} is not a migration of {place.environment}: it is of {task.family}. It goes on.",
            hint="See what there is: launcher status",
        )
    _hide_password(common)
    if task is None or not task.alive:
        which = f"The task {task.id}" if task else f"No migration task of {place.environment}"
        which += " is over already" if task else " is alive"
        console.verdict(f"{which}; there is nothing to stop.", None, good=True)
        if console.json:
            console.result({"stopped": False, "task": report.task_object(task) if task else None})
        return 0
    stop_task(aws, place.cluster, task, "launcher stop", common.dependencies.interrupts)
    known = Launch()
    run = TaskRun(task, task.definition, None, place.log_group, log_stream(place, task.id))
    result = commands.executor(common, aws, known).follow(place, run)
    over = result.task or task
    ended = f"its container ended with {over.exit_code}"
    if over.exit_code is None:
        never = result.verdict is Verdict.NOT_STARTED
        ended = "its container never ran" if never else "how its container ended is not known"
    console.verdict(f"The task {task.id} is over; {ended}.", result.unread, good=True)
    if console.json:
        console.result({"stopped": True, "task": report.task_object(over), "complete": result.unread is None})
    return 0


def _named(task: str | None) -> str | None:
    """Return the id or ARN of the task that is named, as a person pastes it; None if none is.

    Raises:
        UsageError: it can be no task's.
    """
    if task is None:
        return None
    name = task.strip() if task.strip().startswith("arn:") else task.strip().rsplit("/", 1)[-1]
    if not _TASK.fullmatch(name):
        raise UsageError(f"{task!r} is no task's id or ARN.", hint="See what there is: launcher status")
    return name


def _place(common: Common) -> tuple[Place, Aws]:
    outputs = commands.read_terraform(common, frozenset({"cluster"}))
    place = place_for(common.options, outputs)
    return place, common.aws(place.region)


def _find(aws: Aws, place: Place, task_id: str | None, *, alive: bool = False) -> Task | None:
    """Return the named task, or the newest; None if there is none, or ECS no longer knows it."""
    if task_id is not None:
        try:
            described = aws.tasks(place.cluster, [task_id])
        except AccessDeniedError as error:
            raise untagged(error, place.cluster) from error
        if described:
            return read_task(described[0], place.container)
        alive = True  # a task that is listed but not described counts as alive
    tasks = find_tasks(aws, place.cluster, place.family, place.container)
    known = (*tasks.alive, *(() if alive else tasks.over))
    return next((task for task in known if task_id is None or task.id == task_id.rsplit("/", 1)[-1]), None)


def _print_log(common: Common, log: LogFollower, task: Task | None, refused: AccessDeniedError | None) -> None:
    """Print the lines so far, or with `--json` all in the end, and say whether more may come.

    Args:
        common: for the console and the clock.
        log: the log; if the container has just ended, its last lines are waited for.
        task: its task; None if ECS does not know it any more, or the caller may not look.
        refused: why the caller may not look.

    Raises:
        AwsError: AWS refused to give the lines, or the rest of them.
        ConfigurationError: there is no such log.
    """
    console, clock = common.console, common.dependencies.clock
    over_for = seconds_over(task, clock.now()) if task else 0.0
    lines = []
    for line in log.drain(clock, quiet(task, over_for) if task and task.container_ended else 0.0):
        lines.append(line)
        if not console.json:
            console.log_line(line)
    error: LauncherError | None = log.unread
    rest = unread(WatchResult(task, over_for=over_for), log) if task else None
    if log.missing is not None:
        error = error or AwsError(
            f"The log could not be read to its end. {log.missing}", hint="Run the same command again."
        )
    elif task and not task.container_ended:
        rest = f"The task is {task.status}, and more lines may come. Follow it: launcher logs --follow {task.id}"
    elif not log.found:
        error = ConfigurationError(
            f"There is no log stream {log.stream} in {log.group}.", hint=rest or "See what there is: launcher status"
        )
    elif refused is not None:
        rest = f"Whether more lines may come is not known. {refused.message}"
    if console.json:
        failed = report.result_object(Launch(), command="logs", error=error) if error else {}
        console.result(
            {
                **failed,
                "log": {"group": log.group, "stream": log.stream},
                "task": report.task_object(task) if task else None,
                "lines": [{"at": line.at, "text": line.text} for line in lines],
                "complete": None if refused else rest is None and error is None,
            }
        )
    if error is not None:
        raise error
    if rest and not console.json:
        console.notice(rest)


def _hide_password(common: Common) -> None:
    """Hide the password: a container may have printed it."""
    for password in written_passwords(common.options.directory):
        common.console.redactor.hide(password.reveal())


def _ended(task: Task) -> str:
    return f"exit {task.exit_code}" if task.exit_code is not None else task.stop_code or ""


def _task_line(task: Task, width: int) -> str:
    when = report.clock_time(task.created) if task.created else "?"
    when += f" until {report.clock_time(task.deadline)}" if task.deadline and not task.container_ended else ""
    ended = f"{_ended(task):<{width}}"
    words = f"{task.id}  {task.status:<14} {ended}  {when}  {task.started_by or '?'}  {' '.join(task.command)}"
    return words.rstrip()
