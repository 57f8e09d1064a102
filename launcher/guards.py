"""What stands between a caller and a reset of production."""

from __future__ import annotations

from collections.abc import Callable

from launcher.errors import AlreadyRunningError, RefusedError
from launcher.models import Request, Stack, Task
from launcher.plan import Plan

DELETE = "DELETE ALL DATA"


def confirm_reset(stack: Stack, given: str | None, ask: Callable[[str], str] | None) -> None:
    """Have the reset of a production database confirmed.

    Args:
        stack: whose database would be emptied.
        given: what `--confirm-reset` says; it must be the environment's name.
        ask: asks a question on the terminal; None where there is none.

    Raises:
        RefusedError: it was not confirmed.
    """
    if given is not None:
        if given != stack.environment:
            raise RefusedError(
                f"--confirm-reset names {given!r}, but the environment is {stack.environment}. Nothing was changed.",
                hint=f"To delete all data of {stack.environment}: --confirm-reset {stack.environment}",
            )
        return
    if not stack.production:
        return
    if ask is None:
        raise RefusedError(
            f"A reset of {stack.environment} has to be confirmed, and there is no terminal to ask on."
            " Nothing was changed.",
            hint=f"Where nobody can type, give --confirm-reset {stack.environment}",
        )
    where = f"{stack.db_name.value} on {stack.db_host.value}"
    questions = (
        (f"This deletes ALL DATA of the database {where}. Type YES to go on: ", "YES"),
        ("Type the environment's name: ", stack.environment),
        (f"Type {DELETE}: ", DELETE),
    )
    for question, expected in questions:
        if ask(question) != expected:
            raise RefusedError(
                f"That is not {expected}. Nothing was changed.", hint="Run the same command again to be asked anew."
            )


def refuse_second(plan: Plan) -> Task | None:
    """Refuse to start a task beside one that is alive, unless it is this very run's, or to be attached to.

    Returns:
        The task to attach to; None where one is to be started.

    Raises:
        AlreadyRunningError: another launcher's task is alive.
    """
    others = [task for task in plan.survey.alive if not is_own(plan.request, task.started_by)]
    if not others:
        return None
    task = others[0]
    if plan.request.attach:
        return task
    raise AlreadyRunningError(
        f"A migration task of {plan.stack.environment} is alive: {task.id} ({task.status}), started by"
        f" {task.started_by or 'somebody'}. No other was started.",
        hint=f"Follow it: launcher logs --follow {task.id}, or --attach. End it: launcher stop {task.id}",
    )


def is_own(request: Request, started_by: str | None) -> bool:
    """Whether a task was started by an earlier try of this very run, which CI has started again."""
    return request.repeatable and started_by == request.started_by_tag
