"""Guards against an unwanted reset or way back, and against a second task."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

from launcher.environment.options import is_production
from launcher.errors import AlreadyRunningError, RefusedError, UsageError
from launcher.launch.plan import Plan, is_own
from launcher.models import Stack, Task
from launcher.task.command_line import confirmation, is_plain_upgrade

DELETE = "DELETE ALL DATA"


def confirm_reset(stack: Stack, given: str | None, ask: Callable[[str], str] | None, *, yes: bool = False) -> None:
    """Require confirmation for the reset of a database: of production always, elsewhere if there is somebody to ask.

    Args:
        stack: the stack whose database would be emptied.
        given: the value of `--confirm-reset`; must be the environment's name.
        ask: asks a question on the terminal; None if there is no terminal, or nothing is to be asked.
        yes: whether `--yes` is given.

    Raises:
        RefusedError: the reset was not confirmed.
        UsageError: `yes` is to confirm a reset of production.
    """
    if given is not None:
        if given != stack.environment:
            raise RefusedError(
                f"--confirm-reset names {given!r}, but the environment is {stack.environment}.",
                hint=f"To delete all data of {stack.environment}: --confirm-reset {stack.environment}",
            )
        return
    where = f"{stack.db_name.value} on {stack.db_host.value}"
    this = f"This deletes ALL DATA of the database {where}."
    if not stack.production:
        if ask is not None and ask(f"{this} Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            raise RefusedError("That is no yes.", hint="To do without the question, give --yes")
        return
    if yes:
        raise UsageError(
            f"--yes is not enough for a reset of {stack.environment}.",
            hint=f"Leave it out to be asked, or give --confirm-reset {stack.environment}",
        )
    if ask is None:
        raise RefusedError(
            f"A reset of {stack.environment} has to be confirmed, and there is no terminal to ask on.",
            hint=f"Where nobody can type, give --confirm-reset {stack.environment}",
        )
    questions = (
        (f"{this} Type YES to go on: ", "YES"),
        ("Type the environment's name: ", stack.environment),
        (f"Type {DELETE}: ", DELETE),
    )
    for question, expected in questions:
        if ask(question) != expected:
            raise RefusedError(f"That is not {expected}.", hint="Run the same command again to be asked anew.")


def confirm_rollback(stack: Stack, typed: str | None) -> None:
    """Refuse a rollback of production without the database's name, and a wrong name anywhere.

    Raises:
        RefusedError: it is missing or wrong.
    """
    name = stack.db_name.value
    if typed != name and (stack.production or typed is not None):
        raise RefusedError(
            f"The confirmation of the rollback is {'missing' if typed is None else repr(typed)}, and the database is"
            f" {name!r}.",
            hint=f"To confirm it where nobody can type: --confirm-rollback {shlex.quote(name)}",
        )


def demand_confirmation(stack: Stack, command: Sequence[str]) -> None:
    """Refuse what the container would refuse in production, before anything is made: going back unconfirmed.

    Raises:
        RefusedError: the database's name is missing or wrong.
    """
    wanted, name = confirmation(command), stack.db_name.value
    # The container goes by the environment's name, not by whose the database is.
    if wanted is None or wanted[1] == name or not is_production(stack.environment):
        return
    option, given = wanted
    what = next(word for word in command if word in ("downgrade", "mark"))
    if given is not None:
        raise RefusedError(
            f"The confirmation of the {what} is {given!r}, and the database is {name!r}.",
            hint=f"To confirm it: {option}{shlex.quote(name)}",
        )
    confirmed = [*command[1:], "--confirm", name] if what == "mark" else ["-x", f"confirm={name}", *command[1:]]
    raise RefusedError(
        f"In {stack.environment}, a {what} wants the database's name as its confirmation.",
        hint=f"To confirm it: launcher ecs-run -- {shlex.join(confirmed)}",
    )


def task_instead(plan: Plan) -> Task | None:
    """Return the task to follow instead of starting one; no task is started while another is alive.

    Returns:
        This run's own task, if an earlier try started it from the same definition, and it still runs, or it is a plain
        upgrade that was the last task and succeeded, so that a new one would have nothing to do. With `attach`, a
        running task with the same command and definition. None if a task is to be started.

    Raises:
        AlreadyRunningError: another task is alive.
        RefusedError: an earlier try of this run is over, and the command is not a plain upgrade.
    """
    request, survey = plan.request, plan.survey

    def is_same(task: Task) -> bool:
        """Whether it is this run's own task, and not from another image used under the same token."""
        return is_own(request, task) and is_alike(task)

    def is_alike(task: Task) -> bool:
        """Whether it does the same to the same database: its definition names the database and the image."""
        alike = not (plan.builds or plan.registers) and task.definition == plan.registered
        return alike and task.command == request.command

    if survey.running:
        task = survey.running[0]
        if is_same(task) or (request.attach and is_alike(task)):
            return task
        runs = f", with `{shlex.join(task.command)}`" if task.command else ""
        if request.attach and task.command == request.command:
            runs += ", but on another database or from another image"
        attach = ", or --attach" if is_alike(task) and not request.attach else ""
        raise AlreadyRunningError(
            f"Another migration task of {plan.stack.environment} is alive: {task.id} ({task.status}), started by"
            f" {task.started_by or 'somebody'}{runs}.",
            hint=f"Follow it: launcher logs --follow {task.id}{attach}. End it: launcher stop {task.id}",
        )
    if is_plain_upgrade(request.command):
        last = survey.ended[0] if survey.ended else None
        # A failed task may be retried; one followed by others says nothing about the database's present state.
        return last if last and last.exit_code == 0 and is_same(last) else None
    for task in survey.ended:
        if is_own(request, task) and (task.started is not None or task.exit_code is not None):
            raise ran_already(task)
    return None


def ran_already(task: Task) -> RefusedError:
    """Return the error for a command, other than a plain upgrade, that already ran under this token."""
    ended = f"ended with {task.exit_code}" if task.exit_code is not None else "ended without an exit code"
    return RefusedError(
        f"Under this name it ran already as {task.id}, which {ended}.",
        hint="Give `--client-token NEW` to run it again. What that one did: launcher ecs-run -- log",
    )
