"""Watch a task and its log to the end; stop it on timeout or on a signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.errors import AccessDeniedError, AwsError, CredentialsError, OutcomeUnknownError, TransientAwsError
from launcher.machine.signals import Interrupts
from launcher.models import Clock, Task
from launcher.task import command_line
from launcher.task.find import attach_hint, read_task, untagged
from launcher.task.logs import OVER, PATIENCE, QUIET, REPORT_LATE, LogFollower, LogLine

if TYPE_CHECKING:
    from launcher.aws.client import Aws

POLL = 1.0
"""Seconds between two polls of a task."""
STOP_GRACE = 120.0
"""Seconds that a task may take to end after StopTask: SIGTERM, 30 s, SIGKILL, and Fargate's cleanup."""
_MISSING_GRACE = 60.0
_BEFORE_LOGS = {"PROVISIONING", "PENDING", "ACTIVATING"}


@dataclass(frozen=True)
class WatchResult:
    """A task that has been watched to its end.

    Attributes:
        task: as last seen.
        timed_out: whether it was stopped because of the timeout.
        interrupted_by: the number of the signal that stopped it.
        over_for: seconds that its container had been over when the watch began.
    """

    task: Task
    timed_out: bool = False
    interrupted_by: int | None = None
    over_for: float = 0.0


def stop_task(aws: Aws, cluster: str, task: Task, reason: str, interrupts: Interrupts) -> None:
    """Stop a task; a later interrupt of the launcher reports that it was told to stop.

    Raises:
        AccessDeniedError: perhaps since the task does not have the launcher's tags.
        AwsError: AWS refused or did not respond.
    """
    interrupts.hint, interrupts.fate = f"Make sure: launcher stop {task.id}", "the task may have been told to stop"
    try:
        aws.stop_task(cluster, task.arn, reason)
    except AccessDeniedError as error:
        raise untagged(error, cluster) from error
    interrupts.hint, interrupts.fate = attach_hint(task), "the task was told to stop, and has not ended yet"


@dataclass
class Watcher:
    """Watches one task to its end.

    Attributes:
        aws: the API.
        cluster: where the task is.
        container: the container that decides the verdict.
        clock: the time.
        interrupts: a signal stops the task at once.
        on_line: called with each line of the log.
        on_task: called with the task each time it is seen alive.
        notice: called with a sentence for the user.
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
    _refused: AwsError | None = field(default=None, init=False)

    def watch(self, task: Task, log: LogFollower, *, timeout: float, stops: bool = True) -> WatchResult:
        """Follow the task and its log until the container has ended and the log is read to the end.

        It never waits for RUNNING: the task may end between two polls. While there is time left, throttling and
        missing responses are not a reason to give up.

        Args:
            task: as returned by RunTask.
            log: its log.
            timeout: seconds from now, on the wall clock, after which the task is stopped.
            stops: whether the task is this launcher's own to stop; else it goes on after the timeout.

        Raises:
            OutcomeUnknownError: nothing more can be learned about the task, or it was let go.
        """
        begun = seen = self.clock.now()
        over_for = seconds_over(task, begun)
        stopped_at: float | None = None
        timed_out = told = False
        while not task.container_ended:
            now = self.clock.now()
            if stopped_at is None:
                timed_out = now - begun >= timeout
                if timed_out and not stops:
                    raise OutcomeUnknownError(
                        f"The task {task.id} is {task.status} after {timeout:.0f} s, and goes on by itself.",
                        hint=attach_hint(task),
                    )
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
            self.interrupts.cut_short(lambda: self.clock.sleep(POLL))
            now = self.clock.now()
            found = self._look(task)
            if found is not None:
                task, seen = found, now
                if not task.container_ended:
                    self.on_task(task)
            elif now - seen > _MISSING_GRACE and not self._unreachable and not self.interrupts.pending:
                if self._refused is not None:
                    raise _unwatched(task, self._refused)
                raise OutcomeUnknownError(
                    f"ECS does not know the task {task.id}.",
                    hint="Look with `launcher status`; the database's own record: launcher ecs-run -- log",
                )
            if task.status not in _BEFORE_LOGS:
                self._show(log)
        self.interrupts.being_handled = True  # nothing is left to stop; the log is read to its end
        if task.started is not None or task.exit_code is not None or log.found:
            for line in log.drain(self.clock, quiet(task, over_for)):
                self.on_line(line)
        return WatchResult(task, timed_out, self.interrupts.signal_number, over_for)

    def _look(self, task: Task) -> Task | None:
        """Return the task as it is now; None if AWS does not know it or does not respond, or a signal came first."""
        try:
            described = self.interrupts.cut_short(lambda: self.aws.tasks(self.cluster, [task.arn]))
        except TransientAwsError:
            self._unreachable = True
            return None
        except CredentialsError as error:  # no error here says anything about the task's outcome
            raise _unwatched(task, error) from error
        except AwsError as error:  # it may pass: the policy is bound to tags, which ECS may not know yet
            self._refused = error
            return None
        if described is None:
            return None
        self._unreachable, self._refused = False, None
        return read_task(described[0], self.container) if described else None

    def _show(self, log: LogFollower) -> None:
        before = log.refused
        for line in log.read():
            self.on_line(line)
        if log.refused is not before and log.refused is not None:
            self.notice(f"The log can't be read: {log.refused.message} The task's exit code still tells how it went.")

    def _stop(self, task: Task, *, timed_out: bool, timeout: float) -> bool:
        """Stop the task; False if no response came and the call has to be repeated, which is harmless."""
        reason = f"out of time after {timeout:.0f} s" if timed_out else "interrupted"
        self.interrupts.being_handled = True
        try:
            stop_task(self.aws, self.cluster, task, f"launcher: {reason}", self.interrupts)
        except TransientAwsError:
            return False
        except AwsError as error:
            raise OutcomeUnknownError(
                f"The task {task.id} is to be stopped ({reason}), but AWS refused that. {error.message}",
                hint=f"It may still run. Stop it with: launcher stop {task.id}",
            ) from error
        self.notice(f"Stopping the task: {reason}.")  # last: nothing may delay the stop after a signal
        return True


def seconds_over(task: Task, now: float) -> float:
    """Return for how long a task's container has been over; 0 if it is not, or ECS does not say."""
    return max(0.0, now - task.stopped) if task.container_ended and task.stopped is not None else 0.0


def quiet(task: Task, over_for: float) -> float:
    """Return the seconds without a new line after which the log of an ended task counts as complete."""
    if over_for > OVER:
        return 0.0
    if not command_line.reports(task.command):
        return QUIET
    decides = task.exit_code == 0 and command_line.change(task.command) is not None
    return PATIENCE if decides else REPORT_LATE


def _unwatched(task: Task, error: AwsError) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"The task {task.id} runs, but can't be watched any more. {error.message}",
        hint=f"Once that is put right: launcher logs --follow {task.id}",
    )
