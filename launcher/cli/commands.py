"""`ecs-migrate`, `ecs-run` and `doctor`, between the command line and the rooms that do the work."""

from __future__ import annotations

import getpass
import importlib
import os
import socket
import threading
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli import report
from launcher.cli.shared_options import Common
from launcher.environment.stack import identify, outputs_for, region_for, resolve
from launcher.errors import LauncherError, OutcomeUnknownError, ProgramNotFoundError
from launcher.image.build import require_engine
from launcher.launch import guards, lint
from launcher.launch.execute import Executor, Launch
from launcher.launch.plan import Plan, make_plan
from launcher.launch.progress import Steps
from launcher.launch.rds_snapshot import require_database
from launcher.launch.survey import survey
from launcher.launch.work import LOOK_BACK, Work, going_back
from launcher.models import Request, Stack, TaskResult, Verdict

if TYPE_CHECKING:
    from launcher.aws.client import Aws
    from launcher.terraform.outputs import Outputs


_BEFORE_PROFILE = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    }
)
"""The variables that AWS's SDK for Go prefers to `AWS_PROFILE`."""

_SIGNALLED = 128
"""Exit codes from here on mean a signal, whose message says itself what may have been started."""


def launch(
    common: Common,
    name: str,
    work: Work,
    *,
    confirm_reset: str | None = None,
    yes: bool = False,
    lint_to: str | None = None,
) -> int:
    """Run `ecs-migrate` or `ecs-run`: plan, confirm if required, execute, and report.

    Args:
        common: options and collaborators.
        name: the command, for the result.
        work: what the container does.
        confirm_reset: the environment's name, if an option confirmed a reset.
        yes: whether an option says not to ask before a reset; not enough for production's.
        lint_to: lint the revisions after the database's own up to this one, on this machine.

    Returns:
        The exit code.
    """
    console, known = common.console, Launch()
    ask = None if yes else common.dependencies.ask or console.ask()
    if work.resets and not common.run.dry_run and (ask is None or confirm_reset is not None):
        console.notice(f"This is a reset: all rows of {common.options.environment} go.")
    try:
        with common.dependencies.interrupts.handled():
            plan, aws = _planned(common, work, known)
            if common.run.dry_run:
                now = common.dependencies.clock.now()
                if console.json:
                    console.result({"verdict": Verdict.DRY_RUN.value, "exit_code": 0, **report.plan_object(plan, now)})
                else:
                    for line in report.plan_lines(plan, now):
                        console.row(line, report.PLAN_INDENT)
                return 0
            _demand_free(common, plan, known)
            if work.resets:
                guards.confirm_reset(plan.stack, confirm_reset, ask, yes=yes)
            guards.demand_confirmation(plan.stack, plan.request.command)
            result = executor(common, aws, known).execute(plan)
    except LauncherError as error:
        return _failed(common, known, name, error)
    if lint_to is not None and result.exit_code == 0:
        known.lint = lint.pending(common.dependencies.run, common.options.root, result, lint_to)
        for line in known.lint.lines:
            console.say(f"   {line}")
    report_result(common, known, result, name)
    return result.exit_code


def roll_back(common: Common, name: str, confirm: str | None) -> int:
    """Take the last run back: one task finds it and only reads, another one goes back.

    Args:
        common: options and collaborators.
        name: the command, for the result.
        confirm: the database's name, if an option confirmed it.

    Returns:
        The exit code.
    """
    console, known, dependencies = common.console, Launch(), common.dependencies
    ask, dry_run, interrupts = dependencies.ask or console.ask(), common.run.dry_run, dependencies.interrupts
    try:
        with interrupts.handled():
            plan, aws = _planned(common, LOOK_BACK, known, rollback=True)
            stack = plan.stack
            _demand_free(common, plan, known)
            question = ask if confirm is None and stack.production else None
            if not (dry_run or question):
                guards.confirm_rollback(stack, confirm)
            console.notice("A first task only reads: it finds the run to take back.")
            # Named anew each time: what an earlier try of it saw may be gone.
            look = replace(
                plan.request, rollback=False, rds_snapshot=False, client_token=uuid.uuid4().hex, repeatable=False
            )
            result = replace(executor(common, aws, known), numbered=False).execute(replace(plan, request=look))
            known.rollback = found = result.report.rollback if result.report else None
            if result.exit_code == 0:
                command, interrupts.fate = going_back(stack, found), "nothing was taken back"
            if result.exit_code == 0 and dry_run:
                result = known.result = replace(result, verdict=Verdict.DRY_RUN, message="Nothing was taken back.")
            elif result.exit_code == 0:
                request = replace(plan.request, command=command, image=known.run.image if known.run else None)
                known.run = known.result = None  # from here on they tell of the second task
                for line in report.rollback_lines(found):
                    console.say(f"   {line}")
                if question:
                    typed = f"Type the name of the database ({stack.db_name.value}) to go back: "
                    guards.confirm_rollback(stack, question(f"This takes {stack.environment} back. {typed}"))
                console.notice(f"A second task takes {stack.environment} back.")
                reading = {key: known.timings.pop(key) for key in ("terraform", "service")}
                known.timings = reading | {"look": round(sum(known.timings.values()), 3)}
                plan = make_plan(stack, request, survey(stack, request, aws, common.options.root))
                result = executor(common, aws, known).execute(plan)
    except LauncherError as error:
        return _failed(common, known, name, error)
    report_result(common, known, result, name)
    return result.exit_code


def _demand_free(common: Common, plan: Plan, known: Launch) -> None:
    """Raise if no task can be made, before the user is asked or anything is created."""
    steps = Steps(common.dependencies.clock, common.console, known.timings)
    with steps.refusing("task"):
        other = guards.task_instead(plan)
    with steps.refusing("image"):
        if other is None and plan.builds:
            require_engine(common.dependencies.run)


def _failed(common: Common, known: Launch, name: str, error: LauncherError) -> int:
    """Report an error that ended a run; return its exit code."""
    console = common.console
    if known.run is None and error.exit_code < _SIGNALLED and not isinstance(error, OutcomeUnknownError):
        error.message += (
            f" {'Nothing was taken back' if known.rollback else 'This command did not touch the database'}."
        )
    for line in report.result_lines(known):
        console.say(f"   {line}")
    console.failure(error)
    if console.json:
        console.result(report.result_object(known, command=name, error=error))
    _summarize(common, known, name, error.message, error.hint, good=False)
    return error.exit_code


def doctor(common: Common) -> int:
    """Run every check and show the findings as a tree; return the exit code."""
    import shutil

    from launcher.doctor import examine, lines

    dependencies, console = common.dependencies, common.console
    found = examine(
        common.options,
        lambda: read_terraform(common),
        common.aws,
        dependencies.environ,
        common.shown,
        console.shown_of_place,
    )
    if console.json:
        console.result(found.as_json())
    else:
        for style, line in lines(found, shutil.get_terminal_size((100, 24)).columns):
            console.styled(style, line)
    return found.exit_code


def _planned(common: Common, work: Work, known: Launch, *, rollback: bool = False) -> tuple[Plan, Aws]:
    """Run the two steps that only read, and return the plan and the clients."""
    dependencies, console = common.dependencies, common.console
    # boto3 takes a while to import, and so does Terraform to answer.
    threading.Thread(target=importlib.import_module, args=("launcher.aws.client",), daemon=True).start()
    steps = Steps(dependencies.clock, console, known.timings)
    with steps.step("terraform") as done:
        outputs = read_terraform(common)
        done(f"{len(outputs.values)} values from {outputs.origin}" if outputs.directory else "not needed")
    with steps.step("service") as done:
        aws = common.aws(region_for(common.options, outputs).value)
        identity = identify(common.options, outputs, aws)
        stack = resolve(common.options, outputs, aws, identity, dependencies.environ)
        password = stack.password.value.value
        console.redactor.hide(password.reveal() if password else None)
        request = _request(common, stack, work, rollback=rollback)
        plan = make_plan(stack, request, survey(stack, request, aws, common.options.root))
        if request.rds_snapshot:
            require_database(stack, aws)
        done(f"{stack.service.value if stack.service else 'as given'} in {identity.account}")
    known.plan = plan
    if request.base is not None and "@" not in request.base:
        console.notice(f"{request.base} may move, and no image is built anew for that: name a base by its digest.")
    return plan, aws


def _request(common: Common, stack: Stack, work: Work, *, rollback: bool) -> Request:
    environ, how = common.dependencies.environ, common.run
    # A job that is run again would go one run further back.
    parts = ("REPOSITORY", "RUN_ID", *["RUN_ATTEMPT"] * (not rollback), "JOB", "ACTION")
    run = "/".join(environ.get(f"GITHUB_{part}", "") for part in parts)
    in_ci = bool(environ.get("GITHUB_RUN_ID"))
    who = f"{environ.get('GITHUB_ACTOR', 'nobody')} {run}" if in_ci else f"{_user()}@{socket.gethostname()}"
    return Request(
        command=work.command(stack),
        reset=work.resets,
        rollback=rollback,
        timeout=how.timeout,
        image=how.image,
        base=how.base,
        rds_snapshot=((work.resets or rollback) and stack.production) if how.snapshot is None else how.snapshot,
        detach=how.detach,
        attach=how.attach,
        client_token=how.client_token or (run if in_ci else uuid.uuid4().hex),
        repeatable=in_ci or how.client_token is not None,
        git_commit=environ.get("GITHUB_SHA") or _git_commit(common),
        started_by=who,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user ID may have no name
        return f"uid-{os.getuid()}"


def _git_commit(common: Common) -> str | None:
    try:
        answer = common.dependencies.run(["git", "-C", str(common.options.root), "rev-parse", "HEAD"])
    except ProgramNotFoundError:
        return None
    return answer.stdout.strip() or None if answer.exit_code == 0 else None


def read_terraform(common: Common, needed: frozenset[str] | None = None) -> Outputs:
    """Read the outputs of the command's environment; `needed` is that of `stack.outputs_for`."""
    dependencies, run = common.dependencies, common.dependencies.run
    if common.options.profile:
        # Terraform gets --profile as AWS_PROFILE, before which it would take these.
        others = {name: value for name, value in dependencies.environ.items() if name not in _BEFORE_PROFILE}
        run = partial(run, environment={**others, "AWS_PROFILE": common.options.profile})
    return outputs_for(common.options, run, common.aws, needed=needed)


def executor(common: Common, aws: Aws, known: Launch) -> Executor:
    """Make the executor of a command, which records in `known` what it learns."""
    dependencies, root = common.dependencies, common.options.root
    docker_config = Path(dependencies.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    return Executor(
        aws, dependencies.run, dependencies.clock, dependencies.interrupts, common.console, known, root, docker_config
    )


def report_result(common: Common, known: Launch, result: TaskResult, name: str) -> None:
    """Report the result of the command `name`: on the console, as JSON and on GitHub's page."""
    console, good = common.console, result.exit_code == 0
    for line in (*result.details, *report.result_lines(known)):
        console.say(f"   {line}")
    console.verdict(result.message, result.hint, good=good)
    if console.json:
        console.result(report.result_object(known, command=name))
    _summarize(common, known, name, result.message, result.hint, good=good)


def _summarize(common: Common, known: Launch, name: str, message: str, hint: str | None, *, good: bool) -> None:
    hint = common.console.with_options(hint)
    title = f"{name} {common.options.environment}"
    common.console.summary(report.summary(known, title, message=message, hint=hint, good=good))
