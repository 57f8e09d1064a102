"""Start one task, and never a second one: retry after a lost response and a lack of capacity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launcher.aws.refusals import failure_text
from launcher.errors import AwsError, OutcomeUnknownError, RefusedError, TaskNotStartedError, TransientAwsError
from launcher.machine.signals import Interrupts
from launcher.models import Clock, Task
from launcher.task.causes import NO_CAPACITY
from launcher.task.find import attach_hint, read_task

if TYPE_CHECKING:
    from launcher.aws.client import Aws

_START_PAUSES = (2.0, 4.0, 8.0, 16.0, 30.0)
_LOST = "The task may have been started or not: first AWS did not answer,"


def start_task(
    aws: Aws,
    request: Mapping[str, Any],
    container: str,
    clock: Clock,
    interrupts: Interrupts,
    notice: Callable[[str], None],
) -> tuple[Task, bool]:
    """Start the task; retry for a minute if there is no capacity or no response.

    The request's clientToken prevents a retry from starting a second task. A signal ends the pauses; if no task can
    have been started, it also ends the launcher.

    Returns:
        The task as RunTask describes it, and whether a response was lost before. The description says nothing about
        the outcome: the task does not count as ended even if a retry returns it as STOPPED. After a lost response, an
        ended task may be this launcher's own.

    Raises:
        TaskNotStartedError: ECS did not start the task and says why.
        OutcomeUnknownError: a response was lost or names neither a task nor a failure; the task may have been started.
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
            if error.code == "ConflictException":  # so no try of this launcher has started one
                raise RefusedError(
                    "Under this name a task was started already: by an earlier try of this run, or to do something"
                    " else.",
                    hint="See whether it runs: launcher status. Once that lists it, the same command follows its own."
                    " To start another one all the same: --client-token NEW",
                ) from error
            if lost:  # an earlier try may have started it
                raise _unknown(f"{_LOST} then it refused. {error.message}") from error
            raise
        if started:
            task = replace(read_task(started[0], container), container_ended=False)
            interrupts.hint, interrupts.fate = attach_hint(task), None
            return task, lost
        reason = "; ".join(map(failure_text, failures))
        pause = next(pauses, None)
        if "capacity" not in reason.lower() or pause is None:
            if not failures:
                raise _unknown("The task may have been started or not: ECS names neither a task nor a failure.")
            if lost:
                raise _unknown(f"{_LOST} then it did not start it: {reason}")
            raise TaskNotStartedError(
                f"ECS did not start the task: {reason}",
                hint=NO_CAPACITY
                if "capacity" in reason.lower()
                else "Is Fargate among the cluster's capacity providers? Look with: launcher doctor",
            )
        notice(f"Fargate has no capacity now; trying again in {pause:.0f} s.")
        _pause(pause, clock, interrupts)
        if interrupts.pending and not lost:
            interrupts.end()


def _unknown(message: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(message, hint="Look with `launcher status` before you run it again.")


def _pause(seconds: float, clock: Clock, interrupts: Interrupts) -> None:
    interrupts.cut_short(lambda: clock.sleep(seconds))
