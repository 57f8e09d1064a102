"""One ECS task: find those alive, start it, watch it to its end, stop it, and say how it went."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from launcher.errors import AwsError, OutcomeUnknownError, RefusedError, TaskNotStartedError, TransientAwsError
from launcher.machine.signals import Interrupts
from launcher.models import Clock, FamilyTasks, Task
from launcher.task import command_line
from launcher.task.logs import PATIENCE, QUIET, LogFollower, LogLine

if TYPE_CHECKING:
    from launcher.aws.client import Aws

POLL = 1.0
"""Seconds between two looks at a task."""
STOP_GRACE = 120.0
"""Seconds that a task may take to end after StopTask: SIGTERM, 30 s, SIGKILL, and Fargate's own clearing up."""
_MISSING_GRACE = 60.0
_START_PAUSES = (2.0, 4.0, 8.0, 16.0, 30.0)
_LOST = "The task may have been started or not: first AWS did not answer,"
_BEFORE_LOGS = {"PROVISIONING", "PENDING", "ACTIVATING"}


@dataclass(frozen=True)
class Watched:
    """A task at the end of being watched.

    Attributes:
        task: as it was seen last.
        timed_out: whether it was stopped since its time was over.
        interrupted_by: the signal for which it was stopped.
    """

    task: Task
    timed_out: bool = False
    interrupted_by: int | None = None


def read_task(described: Mapping[str, Any], container: str) -> Task:
    """A task as DescribeTasks gives it; the verdict is `container`'s, whatever was injected beside it.

    What can be no exit code is none.
    """
    containers = {entry.get("name", ""): entry for entry in _objects(described.get("containers"))}
    own = containers.pop(container, {})
    overrides = _objects(described.get("overrides", {}).get("containerOverrides"))
    command: list[str] = next((entry.get("command", []) for entry in overrides if entry.get("name") == container), [])
    status = described.get("lastStatus", "")
    code = own.get("exitCode")
    exit_code = code if type(code) is int and 0 <= code <= 255 else None
    return Task(
        arn=described.get("taskArn", ""),
        status=status,
        exit_code=exit_code,
        container_reason=own.get("reason"),
        other_reasons={name: entry["reason"] for name, entry in containers.items() if entry.get("reason")},
        stop_code=described.get("stopCode"),
        stopped_reason=described.get("stoppedReason"),
        container_ended=status == "STOPPED" or (own.get("lastStatus") == "STOPPED" and exit_code is not None),
        created=_seconds(described.get("createdAt")),
        started=_seconds(described.get("startedAt")),
        stopped=_seconds(described.get("stoppedAt")),
        started_by=described.get("startedBy"),
        definition=described.get("taskDefinitionArn"),
        command=tuple(command),
    )


def find_tasks(aws: Aws, cluster: str, family: str, container: str) -> FamilyTasks:
    """The family's tasks. Alive is what is not STOPPED, and nothing else is; one that is not described is MISSING.

    ListTasks goes by what a task is to be: its RUNNING names some that have stopped, its STOPPED some that were told
    to and run on. So both are described.
    """
    running = aws.task_arns(cluster, family, stopped=False)  # first, since tasks move from here to there only
    arns = list(dict.fromkeys((*running, *aws.task_arns(cluster, family, stopped=True))))
    described, _ = aws.tasks(cluster, arns)
    found = [read_task(entry, container) for entry in described]
    known = {task.arn for task in found}
    # What was started this very moment is listed before it can be described; and no answer says that one is over.
    found += [Task(arn, "MISSING") for arn in arns if arn not in known]
    found.sort(key=lambda task: task.created or math.inf, reverse=True)
    return FamilyTasks(tuple(task for task in found if task.alive), tuple(task for task in found if not task.alive))


def attach_hint(task: Task) -> str:
    """How to follow a task that the launcher lets go."""
    return f"Attach again: launcher logs --follow {task.id}"


def start_task(
    aws: Aws,
    request: Mapping[str, Any],
    container: str,
    clock: Clock,
    interrupts: Interrupts,
    notice: Callable[[str], None],
) -> tuple[Task, bool]:
    """Start the task; a lack of capacity, or of an answer, is tried again for a minute.

    The request's clientToken sees to it that no try starts a second task. A signal ends the pauses; where no task
    can have been started, it ends the launcher as well.

    Returns:
        The task as RunTask names it, which says nothing about how it ends: it is not taken for ended, even where the
        answer to a second try has it STOPPED. And whether an answer was lost before that, so that it may be this
        launcher's own although it is over.

    Raises:
        TaskNotStartedError: ECS did not start it, and says why.
        OutcomeUnknownError: an answer was lost, or says neither, so that it may have been started.
        RefusedError: the clientToken was used for another request.
    """
    pauses, lost = iter(_START_PAUSES), False
    interrupts.hint, interrupts.fate = "See whether there is one: launcher status", "a task may have been started"
    while True:
        try:
            started, failures = aws.run_task(request)
        except TransientAwsError as error:
            pause, lost = next(pauses, None), True
            if pause is not None:
                notice(f"{error.message} Trying again in {pause:.0f} s.")
                _pause(pause, clock, interrupts)
                continue
            raise _unknown(f"AWS did not answer, so the task may have been started or not. {error.message}") from error
        except AwsError as error:
            if lost:  # an earlier try may have started it all the same
                raise _unknown(f"{_LOST} then it refused. {error.message}") from error
            if error.code != "ConflictException":
                raise
            raise RefusedError(
                "A task was started under this client token already, and it was to do something else.",
                hint="Give every run a name of its own: --client-token",
            ) from error
        if started:
            task = replace(read_task(started[0], container), container_ended=False)
            interrupts.hint, interrupts.fate = attach_hint(task), None
            return task, lost
        reason = "; ".join(
            " ".join(filter(None, (failure.get("reason"), failure.get("detail")))) for failure in failures
        )
        pause = next(pauses, None)
        if "capacity" not in reason.lower() or pause is None:
            if not failures:
                raise _unknown("The task may have been started or not: ECS names neither a task nor a failure.")
            if lost:
                raise _unknown(f"{_LOST} then it did not start it: {reason or 'it gives no reason'}.")
            raise TaskNotStartedError(
                f"ECS did not start the task: {reason or 'it gives no reason'}.",
                hint="Run the same command again in some minutes, or give subnets of another zone with --subnets."
                if "capacity" in reason.lower()
                else "Is Fargate among the cluster's capacity providers? Look with: launcher doctor",
            )
        notice(f"Fargate has no capacity now; trying again in {pause:.0f} s.")
        _pause(pause, clock, interrupts)
        if interrupts.pending and not lost:
            interrupts.end()


def stop_task(aws: Aws, cluster: str, task: Task, reason: str, interrupts: Interrupts) -> None:
    """Tell a task to stop; whoever interrupts the launcher from now on is told that it was.

    Raises:
        AwsError: AWS refused, or did not answer.
    """
    interrupts.hint, interrupts.fate = f"Make sure: launcher stop {task.id}", "the task may have been told to stop"
    aws.stop_task(cluster, task.arn, reason)
    interrupts.hint, interrupts.fate = attach_hint(task), "the task was told to stop, and has not ended yet"


@dataclass
class Watcher:
    """Watches one task to its end.

    Attributes:
        aws: the API.
        cluster: where the task is.
        container: whose verdict counts.
        clock: the time.
        interrupts: a signal stops the task, at once.
        on_line: called with each line of the log.
        on_task: called with the task each time that it was seen alive.
        notice: called with a sentence for the reader.
    """

    aws: Aws
    cluster: str
    container: str
    clock: Clock
    interrupts: Interrupts
    on_line: Callable[[LogLine], None]
    on_task: Callable[[Task], None]
    notice: Callable[[str], None]
    _unreachable: bool = field(default=False, init=False)

    def watch(self, task: Task, log: LogFollower, *, timeout: float) -> Watched:
        """Follow the task and its log until the container is over and its log is read to the end.

        The task is never waited for to be RUNNING: it may be over between two looks. Throttling, and AWS not
        answering, are no reason to give up while there is time left.

        Args:
            task: as RunTask gave it.
            log: its log.
            timeout: seconds from now, on the wall clock, after which the task is stopped.

        Raises:
            OutcomeUnknownError: nothing can be learned about the task any more.
        """
        begun = seen = self.clock.now()
        stopped_at: float | None = None
        timed_out = told = False
        while not task.container_ended:
            now = self.clock.now()
            if stopped_at is None:
                timed_out = now - begun >= timeout
                if timed_out or self.interrupts.signal_number is not None:
                    stopped_at = now
            if stopped_at is not None and not told:
                told = self._stop(task, timed_out=timed_out, timeout=timeout)
            if stopped_at is not None and now - stopped_at > STOP_GRACE:
                was = "was told" if told else "was to be told, but AWS does not answer,"
                raise OutcomeUnknownError(
                    f"The task {task.id} {was} to stop {STOP_GRACE:.0f} s ago, and is still {task.status}.",
                    hint=f"Look with `launcher status`, follow it with: launcher logs --follow {task.id}",
                )
            _pause(POLL, self.clock, self.interrupts)
            now = self.clock.now()
            found = self._look(task)
            if found is not None:
                task, seen = found, now
                if not task.container_ended:
                    self.on_task(task)
            elif now - seen > _MISSING_GRACE and not self._unreachable and not self.interrupts.pending:
                raise OutcomeUnknownError(
                    f"ECS does not know the task {task.id}.",
                    hint="Look with `launcher status`; the database's own record: launcher ecs-run -- log",
                )
            if task.status not in _BEFORE_LOGS:
                self._show(log)
        self.interrupts.heeded = True  # there is nothing left to stop, and the log is read to its end
        if task.started is not None or task.exit_code is not None or log.found:
            decides = task.exit_code == 0 and command_line.move(task.command) is not None
            for line in log.drain(self.clock, PATIENCE if decides else QUIET):
                self.on_line(line)
        return Watched(task, timed_out=timed_out, interrupted_by=self.interrupts.signal_number)

    def _look(self, task: Task) -> Task | None:
        """The task as it is now; None while AWS does not know it or does not answer, or if a signal came first."""
        try:
            answer = self.interrupts.cut_short(lambda: self.aws.tasks(self.cluster, [task.arn]))
        except TransientAwsError:
            self._unreachable = True
            return None
        except AwsError as error:  # whatever it is, it says nothing about how the task ends
            raise OutcomeUnknownError(
                f"The task {task.id} runs, but can't be watched any more. {error.message}",
                hint=f"Once that is put right: launcher logs --follow {task.id}",
            ) from error
        if answer is None:
            return None
        self._unreachable = False
        described, _ = answer
        return read_task(described[0], self.container) if described else None

    def _show(self, log: LogFollower) -> None:
        before = log.refused
        for line in log.read():
            self.on_line(line)
        if log.refused is not before and log.refused is not None:
            self.notice(f"The log can't be read: {log.refused.message} The task's exit code still tells how it went.")

    def _stop(self, task: Task, *, timed_out: bool, timeout: float) -> bool:
        """Tell it to stop; False if no answer came, so that it has to be told again, which does no harm."""
        reason = f"out of time after {timeout:.0f} s" if timed_out else "interrupted"
        self.interrupts.heeded = True
        try:
            stop_task(self.aws, self.cluster, task, f"launcher: {reason}", self.interrupts)
        except TransientAwsError:
            return False
        except AwsError as error:
            raise OutcomeUnknownError(
                f"The task {task.id} is to be stopped ({reason}), but AWS refused that. {error.message}",
                hint=f"It may still run. Stop it with: launcher stop {task.id}",
            ) from error
        self.notice(f"Stopping the task: {reason}.")  # only now: nothing may come between a signal and the stop
        return True


def _unknown(message: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(message, hint="Look with `launcher status` before you run it again.")


def _pause(seconds: float, clock: Clock, interrupts: Interrupts) -> None:
    interrupts.cut_short(lambda: clock.sleep(seconds))


def _objects(values: Any) -> list[Mapping[str, Any]]:
    """Those of a list that are objects."""
    return [value for value in values or () if isinstance(value, dict)]


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value.timestamp())
