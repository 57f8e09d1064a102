"""The command line: each command reads its options, and calls one function."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import typer
from typer._click.exceptions import NoArgsIsHelpError, NoSuchOption  # typer exports only some of them
from typer._click.exceptions import UsageError as TypersUsageError
from typer.core import TyperArgument, TyperCommand, TyperGroup

from launcher.cli.run_options import RARE, RESET
from launcher.cli.shared_options import NO_STACK, PLACE, Common, failed, with_shared_options
from launcher.errors import UsageError
from launcher.machine.signals import Signalled
from launcher.machine.spelling import did_you_mean


class _Help:
    """Leaves out of the help what typer takes from Python: `<bool>` of a flag, `<list[str]>` of an argument."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if isinstance(parameter, TyperArgument) or parameter.is_flag:
                parameter.display_type_rich = lambda ctx: None  # a metavar would do, but --help is typer's own
            if parameter.name in ("install_completion", "show_completion"):
                parameter.rich_help_panel = RARE
        return parameters


class _Command(_Help, TyperCommand):
    pass


class _Commands(_Help, TyperGroup):
    """Reports a wrong command line like every other error, as text or JSON."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what comes before the command's name."""
        with _misuse_said(ctx, args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the named command."""
        with _misuse_said(ctx, ctx.args):
            return super().invoke(ctx)


@contextlib.contextmanager
def _misuse_said(context: Any, arguments: list[str]) -> Iterator[None]:
    arguments = list(arguments)
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except TypersUsageError as error:
        where = error.ctx or context
        program = where.command_path
        if error.ctx is None and context.invoked_subcommand:
            program += f" {context.invoked_subcommand}"
        words, hint = error.format_message(), f"See what there is: {program} --help"
        if isinstance(error, NoSuchOption):
            name = error.option_name
            words = f"No such option '{name}'.{did_you_mean(name, _options(where.command))}"
            commands = getattr(where.command, "commands", {})
            command = next((each for each in arguments if each in commands), "")
            if command and name in _options(commands[command]):
                words, hint = (
                    f"Option '{name}' stands behind the command.",
                    f"Write it there: {program} {command} {name} ...",
                )
        if found := re.fullmatch(r"Got unexpected extra argument\S* \((\S+).*\)", words):
            words = f"Unexpected argument '{found[1]}'."
            if "--environment" in _options(where.command):
                hint = f"If it is the environment: {program} --environment {shlex.quote(found[1])}"
        words += "" if words.endswith((".", "?")) else "."
        misused = UsageError(words, hint=hint)
        raise typer.Exit(failed(where, misused, arguments)) from error


def _options(command: Any) -> list[str]:
    return [
        option
        for each in command.params
        if not isinstance(each, TyperArgument)
        for option in (*each.opts, *each.secondary_opts)
    ]


app = typer.Typer(
    name="launcher",
    cls=_Commands,
    help="Migrates NeuraKnot's PostgreSQL database by an ECS task, and tells the truth about how it went.",
    epilog="Exit codes: the container's own, 0 to 7; 20 configuration, 21 AWS, 22 image, 23 the task never started,"
    " 24 out of time, 25 outcome not known.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_command = partial(app.command, cls=_Command)

TaskId = Annotated[str | None, typer.Argument(metavar="TASK", help="The task's id or ARN; else the newest.")]


def _examples(*lines: str) -> str:
    return "\n".join(("", "Examples:", *(f"  {line}" for line in lines)))


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"launcher {version('neuraknot-db')}")
        except PackageNotFoundError:
            typer.echo("launcher, not installed: it runs from a copy of its source")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@_command(
    "ecs-migrate",
    epilog=_examples(
        "launcher ecs-migrate --environment prod --plan",
        "launcher ecs-migrate --environment prod",
        "launcher ecs-migrate --environment prod --rollback",
    ),
)
@partial(with_shared_options, runs=True)
def ecs_migrate(
    common: Common,
    reset: Annotated[
        bool, typer.Option("--reset", rich_help_panel=RESET, help="Delete all data, then build the schema anew.")
    ] = False,
    create_db: Annotated[
        bool,
        typer.Option(
            "--create-db",
            envvar="NEURAKNOT_CREATE_DB",
            rich_help_panel=RARE,
            help="Create the database if it is missing.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", rich_help_panel=RARE, help="Go on although unversioned tables are in the way."),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            envvar="NEURAKNOT_REVISION", metavar="REVISION", help="Upgrade to this revision instead of the newest."
        ),
    ] = None,
    confirm_reset: Annotated[
        str | None,
        typer.Option(
            metavar="ENVIRONMENT",
            rich_help_panel=RESET,
            help="Confirms a reset of production without a terminal.",
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", "-y", rich_help_panel=RESET, help="Do not ask before a reset; not enough for production's."
        ),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Only tell what would run and what it would lock, seen by a task; add what the linter says."
        ),
    ] = False,
    rollback: Annotated[
        bool,
        typer.Option(
            "--rollback",
            help="Back to where the last run began, by the log; with --dry-run, a task that reads only tells.",
        ),
    ] = False,
    confirm_rollback: Annotated[
        str | None,
        typer.Option(metavar="DATABASE", help="Confirms a rollback of production without a terminal."),
    ] = None,
) -> int:
    """Run `alembic upgrade head` as an ECS task, and follow it to its end."""
    from launcher.cli import commands
    from launcher.launch.work import Migration, Preview

    if rollback:
        return commands.roll_back(common, "ecs-migrate", confirm_rollback)
    if plan:
        return commands.launch(common, "ecs-migrate", Preview(revision), lint_to=revision or "head")
    work = Migration(reset, create_db, force, revision)
    return commands.launch(common, "ecs-migrate", work, confirm_reset=confirm_reset, yes=yes)


@_command(
    "ecs-run",
    options_metavar="[OPTIONS] --",
    epilog=_examples(
        "launcher ecs-run --environment prod -- verify",
        "launcher ecs-run --environment prod -- -x confirm=neuraKnot downgrade -1",
    ),
)
@partial(with_shared_options, runs=True)
def ecs_run(
    common: Common,
    arguments: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The neuraknot-db command and its arguments, such as: plan")
    ],
) -> int:
    """Run any `neuraknot-db` command as an ECS task: `ecs-run -- downgrade -1`."""
    from launcher.cli import commands
    from launcher.launch.work import Run

    return commands.launch(common, "ecs-run", Run(tuple(arguments)))


@_command("status", epilog=_examples("launcher status --environment prod"))
@partial(with_shared_options, takes=PLACE)
def status(common: Common) -> int:
    """The migration task that runs now, and the last ones."""
    from launcher.cli import task_commands

    return task_commands.status(common)


@_command("logs", epilog=_examples("launcher logs --environment prod", "launcher logs --environment prod --follow"))
@partial(with_shared_options, takes=PLACE)
def logs(
    common: Common,
    task: TaskId = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on to the task's end, and end as it ends.")
    ] = False,
) -> int:
    """A migration task's log."""
    from launcher.cli import task_commands

    return task_commands.logs(common, task, follow=follow)


@_command("stop", epilog=_examples("launcher stop --environment prod"))
@partial(with_shared_options, takes=PLACE)
def stop(common: Common, task: TaskId = None) -> int:
    """Stop a migration task, and read its log to the end."""
    from launcher.cli import task_commands

    return task_commands.stop(common, task)


@_command("doctor", epilog=_examples("launcher doctor --environment prod", "launcher doctor --environment prod --json"))
@with_shared_options
def doctor(common: Common) -> int:
    """Everything that can be known to be wrong before a task is started.

    It ends with the code that ecs-migrate would end with for the first NG (23: the task would never start), or 0.
    """
    from launcher.cli import commands

    return commands.doctor(common)


@_command("iam-policy", epilog=_examples("launcher iam-policy --environment prod > policy.json"))
@with_shared_options
def iam_policy(common: Common) -> int:
    """The least policy that the launcher's caller needs, as JSON; on standard error, what the CI role lacks of it."""
    from launcher.cli import iam_policy

    return iam_policy.show(common)


@_command(
    "rehearse",
    options_metavar="[OPTIONS] --",
    epilog=_examples("launcher rehearse", "launcher rehearse --fail cannot-pull", "launcher rehearse -- doctor"),
)
@partial(with_shared_options, takes=NO_STACK)
def rehearse(
    common: Common,
    fail: Annotated[
        str | None,
        typer.Option("--fail", metavar="NAME", help="Have it go wrong in this way; --fail list names them all."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Then once more, with --reset.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Then back, with --rollback.")] = False,
    in_docker: Annotated[
        bool,
        typer.Option(
            "--docker",
            help="Build (on NEURAKNOT_BASE, if set), push, pull and run the real image, with the Docker engine here.",
        ),
    ] = False,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND", help="Run this command there instead, on an empty database: ecs-migrate --dry-run."
        ),
    ] = None,
) -> int:
    """The whole pipeline on this machine: a local AWS, an embedded PostgreSQL, no account."""
    from launcher.cli.rehearse import Command, rehearse

    instead = Command(tuple(command), frozenset(_parser().commands), main) if command else None
    return rehearse(common, instead, fail=fail, reset=reset, rollback=rollback, in_docker=in_docker)


@functools.cache
def _parser() -> Any:
    """Return the parser of the command line, which takes a while to build."""
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None, dependencies: Any = None) -> None:
    """Run the launcher and end the process with its exit code."""
    try:
        _parser().main(args=arguments, prog_name="launcher", obj=dependencies)
    except Signalled as signalled:  # between two signal handlers
        typer.echo(f"Error: Interrupted by {signal.Signals(signalled.number).name}.", err=True)
        sys.exit(128 + signalled.number)
