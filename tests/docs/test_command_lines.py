"""Every command line in the documents can be typed: its program's own parser, or AWS's own models, take it."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import typer
from alembic.config import CommandLine
from botocore import xform_name
from typer._click.exceptions import ClickException

from launcher.cli import pairs
from launcher.cli.main import app
from launcher.errors import LauncherError
from launcher.launch.work import Run
from neuraknot_db.cli.main import NeuraknotCommandLine
from neuraknot_db.migrate import x_options
from tests.docs.documents import DOCUMENTS, read
from tests.projects import ROOT

SHELL = ("console", "bash", "sh", "shell")


class WrongError(Exception):
    """A command line that its program would refuse."""


def lines(path: Path) -> Iterator[str]:
    """The command lines of a document's blocks, and the code spans that may be one."""
    document = read(path)
    for block in document.blocks:
        if block.language in SHELL:
            text = block.text.replace("\\\n", " ")
            typed = [line for line in text.splitlines() if block.language != "console" or line.startswith("$ ")]
            yield from (line.removeprefix("$ ") for line in typed)
    yield from (span for span, _ in document.spans if " " in span)


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line, from its program's name on."""
    parts = shlex.shlex(line, posix=True, punctuation_chars=True)
    parts.whitespace_split = True
    words: list[str] = []
    for part in [*parts, ";"]:
        if set(part) <= set("();<>|&"):
            if words:
                yield [words[0].rpartition("/")[2], *words[1:]]
            words = []
        elif words or not re.match(r"\w+=", part):
            words.append(part)


def of_database(parser: Any, words: list[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            options = parser.parse_args(words)
    except SystemExit as end:
        if end.code:
            raise WrongError(said.getvalue().strip().splitlines()[-1]) from None
        return
    if not hasattr(options, "cmd"):
        raise WrongError("there is no command")
    if unknown := {each.partition("=")[0] for each in options.x or ()} - set(x_options._KNOWN):
        raise WrongError(f"-x takes no {unknown}")


@cache
def launcher() -> Any:
    return typer.main.get_command(app)


def of_launcher(words: list[str]) -> None:
    group = launcher()
    command = group.commands.get(words[0], group)
    try:
        context = command.make_context(words[0], words if command is group else words[1:])
        if command is group:
            raise WrongError(f"there is no command {words[0]}")
        pairs.settled(context.params, {}, lambda _: None)
        if words[0] == "ecs-run":
            Run(tuple(context.params["arguments"]))
        if context.params.get("command"):
            of_launcher(context.params["command"])
    except typer.Exit:  # --help, --version
        pass
    except (ClickException, LauncherError) as error:
        raise WrongError(getattr(error, "message", str(error))) from None


def of_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if missing := {word for word in words if "=" not in word and not word.startswith("-")} - set(targets):
        raise WrongError(f"there is no target {missing}")


AWS_OPTIONS = {"--region", "--profile", "--output", "--query", "--no-cli-pager", "--cli-input-json", "--endpoint-url"}
AWS_OWN = {("logs", "tail"): {"--follow", "--since", "--format", "--filter-pattern", "--log-stream-names"}}
"""What the program `aws` adds to AWS's models."""


@cache
def aws_options(service: str, operation: str, waiter: str | None) -> set[str]:
    """The options of an operation of AWS, or of waiting for something."""
    session = botocore.session.get_session()
    if service not in session.get_available_services():
        raise WrongError(f"AWS has no {service}")
    model = session.get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    if waiter is not None:
        waiters = session.get_waiter_model(service)
        known = {xform_name(name, "-"): name for name in waiters.waiter_names}
        if waiter not in known:
            raise WrongError(f"{service} can't wait for {waiter}")
        operation = xform_name(waiters.get_waiter(known[waiter]).operation, "-")
    if operation not in names:
        raise WrongError(f"{service} has no {operation}")
    shape: Any = model.operation_model(names[operation]).input_shape
    found = {f"--{xform_name(name, '-')}": each.type_name for name, each in (shape.members if shape else {}).items()}
    return {*found, *(f"--no-{name[2:]}" for name, kind in found.items() if kind == "boolean")}


def of_aws(words: list[str]) -> None:
    service, operation, *rest = words
    known = AWS_OWN.get((service, operation)) or aws_options(
        service, operation, rest[0] if operation == "wait" else None
    )
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    if unknown := given - known - AWS_OPTIONS:
        raise WrongError(f"{operation} has no {unknown}")


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "alembic": lambda words: of_database(CommandLine("alembic").parser, words),
    "neuraknot-db": lambda words: of_database(NeuraknotCommandLine(prog="neuraknot-db").parser, words),
    "launcher": of_launcher,
    "make": of_make,
    "aws": of_aws,
}


def wrong(line: str) -> Iterator[str]:
    """What is wrong with a command line."""
    for program, *words in commands(line):
        if words and program in PROGRAMS:
            try:
                PROGRAMS[program](words)
            except WrongError as error:
                yield f"{line}: {error}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_can_be_typed(path: Path) -> None:
    assert not [error for line in lines(path) for error in wrong(line)]


@pytest.mark.parametrize(
    "line",
    [
        "neuraknot-db verfy",
        "neuraknot-db plan --jsn",
        "cd x && alembic upgrade",
        "alembic -x confirmed=neuraKnot downgrade -1",
        "alembic verify",
        "launcher ecs-migrat --environment prod",
        "launcher ecs-migrate --enviroment prod",
        "launcher ecs-migrate --image x --base y",
        "launcher ecs-run -- verify --jsn",
        "launcher rehearse -- doctor --jsn",
        "A=b .venv/bin/launcher logs --follow=x",
        "make snapshots",
        "aws ec --cluster x",
        "aws ecs describe-task --cluster x",
        "aws ecs describe-tasks --clusters x",
        "aws ecs wait task-stopped --cluster x",
        "aws ecs wait tasks-stopped --clusters x",
        "aws logs tail /ecs/x --folow",
    ],
)
def test_a_wrong_one_is_found(line: str) -> None:
    assert list(wrong(line))
