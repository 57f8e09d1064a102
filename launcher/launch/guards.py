"""What stands between a caller and a reset of production, or a second task."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from launcher.errors import AlreadyRunningError, RefusedError
from launcher.launch.plan import Plan, is_own
from launcher.models import Stack, Task
from launcher.task.command_line import is_plain_upgrade

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


def task_instead(plan: Plan) -> Task | None:
    """The task to follow instead of starting one; no other is started beside one that is alive.

    Returns:
        This very run's task, if an earlier try has started it of the same definition, and it runs; or if it is a plain
        upgrade, was the last one and went well, so that another would find nothing to do. One with the same command, if
        the request is to attach. None where a task is to be started.

    Raises:
        AlreadyRunningError: another task is alive.
        RefusedError: an earlier try of this very run is over, and another would do more than that one did.
    """
    request, survey = plan.request, plan.survey

    def is_same(task: Task) -> bool:
        """Not of an image that another run by the same name had."""
        return is_own(request, task) and not (plan.builds or plan.registers) and task.definition == plan.registered

    if survey.running:
        task = survey.running[0]
        if is_same(task) or (request.attach and task.command == request.command):
            return task
        runs = f", with `{shlex.join(task.command)}`" if task.command else ""
        attach = "" if request.attach or task.command != request.command else ", or --attach"
        raise AlreadyRunningError(
            f"A migration task of {plan.stack.environment} is alive: {task.id} ({task.status}), started by"
            f" {task.started_by or 'somebody'}{runs}. No other was started.",
            hint=f"Follow it: launcher logs --follow {task.id}{attach}. End it: launcher stop {task.id}",
        )
    if is_plain_upgrade(request.command):
        last = survey.ended[0] if survey.ended else None
        # One that failed is worth another try, and one that others came after says nothing about the database now.
        return last if last and last.exit_code == 0 and is_same(last) else None
    for task in survey.ended:
        if is_own(request, task) and (task.started is not None or task.exit_code is not None):
            raise ran_already(task)
    return None


def ran_already(task: Task) -> RefusedError:
    """Why what is no plain upgrade is not run a second time under one name."""
    ended = f"ended with {task.exit_code}" if task.exit_code is not None else "ended without an exit code"
    return RefusedError(
        f"Under this name it ran already as {task.id}, which {ended}. No other task was started.",
        hint="Give `--client-token NEW` to run it again. What that one did: launcher ecs-run -- log",
    )
