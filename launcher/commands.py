"""What each command does, between the command line and the modules that know how."""

from __future__ import annotations

import contextlib
import getpass
import importlib
import socket
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from launcher import guards, lint, report
from launcher.errors import ConfigurationError, LauncherError, ProgramNotFoundError, RefusedError, UsageError
from launcher.execute import Executor, Launch, Steps
from launcher.image import require_engine
from launcher.logs import LogFollower, LogLine
from launcher.models import Place, Request, Stack, Task, TaskResult, TaskRun, Verdict
from launcher.options import Common
from launcher.plan import Plan, Work, log_stream, make_plan
from launcher.snapshot import require_instance
from launcher.stack import identify, outputs_for, place_for, region_for, resolve
from launcher.survey import survey
from launcher.tasks import find_tasks, read_task, stop_task
from launcher.terraform import read_password

if TYPE_CHECKING:
    from launcher.aws import Aws
    from launcher.terraform import Outputs


@dataclass(frozen=True)
class How:
    """How a task is to be run, whatever it does.

    Attributes:
        timeout: seconds.
        image: a reference, in place of the content-addressed one.
        dry_run: plan only.
        detach: return once it was started.
        attach: follow one that is alive.
        client_token: names this run.
    """

    timeout: float
    image: str | None
    dry_run: bool
    detach: bool
    attach: bool
    client_token: str | None


def launch(
    common: Common,
    name: str,
    work: Work,
    how: How,
    *,
    confirm_reset: str | None = None,
    snapshot: bool | None = None,
    lint_to: str | None = None,
) -> int:
    """`ecs-migrate` and `ecs-run`: plan, ask where that is due, execute, and say how it went.

    Args:
        common: options and collaborators.
        name: the command, for the result.
        work: what the container is to do.
        how: how it is to be run.
        confirm_reset: the environment's name, where a reset was confirmed by an option.
        snapshot: whether to make a snapshot first; None leaves it to what the work is.
        lint_to: lint the revisions after the database's own up to this one, on this machine.

    Returns:
        The exit code.
    """
    console, known = common.console, Launch()
    title = f"{name} {common.options.environment}"
    try:
        with common.world.interrupts.handled():
            plan, aws = _planned(common, work, how, snapshot, known)
            if how.dry_run:
                if console.json:
                    console.result({"verdict": Verdict.DRY_RUN.value, "exit_code": 0, **report.plan_object(plan)})
                else:
                    for line in report.plan_lines(plan):
                        console.data(line)
                return 0
            if guards.refuse_second(plan) is None and plan.builds:
                require_engine(common.world.run)  # before anybody is asked, or anything made
            if work.resets:
                guards.confirm_reset(plan.stack, confirm_reset, common.world.ask or console.ask())
            result = _executor(common, aws, known).execute(plan)
    except LauncherError as error:
        for line in report.result_lines(known):
            console.say(f"   {line}")
        console.failure(error)
        hint = console.with_options(error.hint)
        console.summary(report.summary(known, title, message=error.message, hint=hint, good=False))
        if console.json:
            console.result(report.result_object(known, command=name, error=error))
        return error.exit_code
    if lint_to is not None and result.exit_code == 0:
        known.lint = lint.pending(common.world.run, common.options.root, result, lint_to)
        for line in known.lint.lines:
            console.say(f"   {line}")
    _tell(common, known, result, title)
    if console.json:
        console.result(report.result_object(known, command=name))
    return result.exit_code


def refuse_with_plan(**options: bool) -> None:
    """Refuse options that change something, beside `--plan`, which changes nothing.

    Raises:
        UsageError: there is one.
    """
    for name, given in options.items():
        if given:
            raise UsageError(
                f"--plan and --{name.replace('_', '-')} exclude each other.",
                hint="A plan is told of an upgrade, by a task that is followed to its end.",
            )


def status(common: Common) -> int:
    """The tasks that are alive, and those that stopped in the last hour."""
    place, aws = _place(common)
    alive = find_tasks(aws, place.cluster, place.family, place.container)
    over = find_tasks(aws, place.cluster, place.family, place.container, stopped=True)
    if common.console.json:
        tasks = {"alive": [report.task_object(task) for task in alive], "over": [report.task_object(t) for t in over]}
        common.console.result({"environment": place.environment, **tasks})
        return 0
    width = max((len(_ended(task)) for task in (*alive, *over)), default=0)
    for task in (*alive, *over):
        common.console.data(_task_line(task, width))
    if not alive and not over:
        common.console.say(f"No migration task of {place.environment} is alive, and none stopped in the last hour.")
    return 0


def logs(common: Common, task_id: str | None, *, follow: bool) -> int:
    """A task's log; with `follow` to the end, and with its exit code."""
    place, aws = _place(common)
    console = common.console
    task = _find(aws, place, task_id)
    if task is None and task_id is None:
        raise ConfigurationError(
            f"No migration task of {place.environment} is alive, and none stopped in the last hour.",
            hint=f"Older logs: aws logs tail {place.log_group} --region {place.region}",
        )
    stream = log_stream(place, task.id if task else str(task_id).rsplit("/", 1)[-1])
    _hide_password(common)
    if task is None or not follow:
        lines = _print_log(common, aws, place, stream)
        if lines is None:
            raise ConfigurationError(
                f"There is no log stream {stream} in {place.log_group}.", hint="See what there is: launcher status"
            )
        if console.json:
            console.result(
                {
                    "log": {"group": place.log_group, "stream": stream},
                    "task": report.task_object(task) if task else None,
                    "lines": [{"at": line.at, "text": line.text} for line in lines],
                }
            )
        return 0
    known = Launch()
    run = TaskRun(task, task.definition, None, place.log_group, stream, attached=True)
    result = _executor(common, aws, known).follow(place, run)
    _tell(common, known, result, f"logs {place.environment}")
    if console.json:
        console.result(report.result_object(known, command="logs"))
    return result.exit_code


def stop(common: Common, task_id: str | None) -> int:
    """Stop a task, and read its log to the end; 0 once it is over.

    Raises:
        RefusedError: it is no migration task of this environment.
        ConfigurationError: ECS does not know it.
    """
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
            f"The task {task.id} is no migration of {place.environment}: it is of {task.family}. It goes on.",
            hint="See what there is: launcher status",
        )
    _hide_password(common)
    if task is None or task.container_ended:
        which = f"The task {task.id}" if task else f"No migration task of {place.environment}"
        which += " is over already" if task else " is alive"
        console.verdict(f"{which}; there is nothing to stop.", None, good=True)
        if console.json:
            console.result({"stopped": False, "task": report.task_object(task) if task else None})
        return 0
    stop_task(aws, place.cluster, task, "launcher stop", common.world.interrupts)
    known = Launch()
    run = TaskRun(task, task.definition, None, place.log_group, log_stream(place, task.id), attached=True)
    result = _executor(common, aws, known).follow(place, run)
    over = result.task or task
    console.verdict(f"The task {task.id} is over; its container ended with {over.exit_code}.", None, good=True)
    if console.json:
        console.result({"stopped": True, "task": report.task_object(over)})
    return 0


def doctor(common: Common) -> int:
    """Every check, as a tree."""
    import shutil

    from launcher.doctor import examine, lines

    world, console = common.world, common.console
    found = examine(
        common.options,
        lambda: _outputs(common),
        lambda region: world.aws(common.profile, region),
        world.environ,
        common.shown,
    )
    if console.json:
        console.result(found.as_json())
    else:
        for style, line in lines(found, shutil.get_terminal_size((100, 24)).columns):
            console.styled(style, line)
    return found.exit_code


def _planned(common: Common, work: Work, how: How, snapshot: bool | None, known: Launch) -> tuple[Plan, Aws]:
    """The two steps that only read."""
    world, console = common.world, common.console
    # boto3 takes a while to import, and so does Terraform to answer.
    threading.Thread(target=importlib.import_module, args=("launcher.aws",), daemon=True).start()
    steps = Steps(world.clock, console, known.timings)
    with steps.step("terraform") as done:
        outputs = _outputs(common)
        done(f"{len(outputs.values)} values from {outputs.origin}" if outputs.directory else "not needed")
    with steps.step("service") as done:
        aws = world.aws(common.profile, region_for(common.options, outputs).value)
        identity = identify(common.options, outputs, aws)
        stack = resolve(common.options, outputs, aws, identity, world.environ)
        console.redactor.hide(stack.password.value.value)
        request = _request(common, stack, work, how, snapshot)
        plan = make_plan(stack, request, survey(stack, request, aws, common.options.root))
        if request.snapshot:
            require_instance(stack, aws)
        done(f"{stack.service.value if stack.service else 'as given'} in {identity.account}")
    known.plan = plan
    return plan, aws


def _request(common: Common, stack: Stack, work: Work, how: How, snapshot: bool | None) -> Request:
    environ = common.world.environ
    run = "/".join(
        environ.get(f"GITHUB_{part}", "") for part in ("REPOSITORY", "RUN_ID", "RUN_ATTEMPT", "JOB", "ACTION")
    )
    in_ci = bool(environ.get("GITHUB_RUN_ID"))
    who = f"{environ.get('GITHUB_ACTOR', 'nobody')} {run}" if in_ci else f"{getpass.getuser()}@{socket.gethostname()}"
    return Request(
        command=work.command(stack),
        reset=work.resets,
        timeout=how.timeout,
        image=how.image,
        snapshot=(work.resets and stack.production) if snapshot is None else snapshot,
        detach=how.detach,
        attach=how.attach,
        client_token=how.client_token or (run if in_ci else uuid.uuid4().hex),
        repeatable=in_ci or how.client_token is not None,
        git_commit=environ.get("GITHUB_SHA") or _git_commit(common),
        started_by=who,
    )


def _git_commit(common: Common) -> str | None:
    try:
        answer = common.world.run(["git", "-C", str(common.options.root), "rev-parse", "HEAD"])
    except ProgramNotFoundError:
        return None
    return answer.stdout.strip() or None if answer.exit_code == 0 else None


def _outputs(common: Common, needed: frozenset[str] | None = None) -> Outputs:
    world = common.world
    return outputs_for(common.options, world.run, lambda region: world.aws(common.profile, region), needed=needed)


def _place(common: Common) -> tuple[Place, Aws]:
    outputs = _outputs(common, frozenset({"cluster"}))
    place = place_for(common.options, outputs)
    return place, common.world.aws(common.profile, place.region)


def _executor(common: Common, aws: Aws, known: Launch) -> Executor:
    world = common.world
    return Executor(aws, world.run, world.clock, world.interrupts, common.console, known, common.options.root)


def _tell(common: Common, known: Launch, result: TaskResult, title: str) -> None:
    console, good = common.console, result.exit_code == 0
    for line in (*result.details, *report.result_lines(known)):
        console.say(f"   {line}")
    console.verdict(result.message, result.hint, good=good)
    hint = console.with_options(result.hint)
    console.summary(report.summary(known, title, message=result.message, hint=hint, good=good))


def _find(aws: Aws, place: Place, task_id: str | None, *, alive: bool = False) -> Task | None:
    """The task that was named, else the newest; None if there is none, or ECS has forgotten it."""
    if task_id is not None:
        described, _ = aws.tasks(place.cluster, [task_id])
        return read_task(described[0], place.container) if described else None
    running = find_tasks(aws, place.cluster, place.family, place.container)
    if running or alive:
        return running[0] if running else None
    over = find_tasks(aws, place.cluster, place.family, place.container, stopped=True)
    return over[0] if over else None


def _print_log(common: Common, aws: Aws, place: Place, stream: str) -> list[LogLine] | None:
    """The lines so far, shown as they come unless they are to be one JSON object; None if there is no such stream."""
    log = LogFollower(aws, place.log_group, stream)
    lines = []
    for line in log.drain(common.world.clock, quiet=0.0):
        lines.append(line)
        if not common.console.json:
            common.console.log_line(line)
    if log.refused is not None:
        raise log.refused
    return lines if log.found else None


def _hide_password(common: Common) -> None:
    """A container may have printed it; here nothing else needs it."""
    with contextlib.suppress(ConfigurationError):
        found = read_password(common.options.directory)
        common.console.redactor.hide(found.value if found else None)


def _ended(task: Task) -> str:
    return f"exit {task.exit_code}" if task.exit_code is not None else task.stop_code or ""


def _task_line(task: Task, width: int) -> str:
    when = f"{datetime.fromtimestamp(task.created):%Y-%m-%d %H:%M:%S}" if task.created else "?"
    ended = f"{_ended(task):<{width}}"
    words = f"{task.id}  {task.status:<14} {ended}  {when}  {task.started_by or '?'}  {' '.join(task.command)}"
    return words.rstrip()
