"""The reference names what there is, and nothing else: it is held against the real parsers, settings and errors."""

from __future__ import annotations

import argparse
import ast
import re
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import typer

from launcher.cli.main import app
from launcher.errors import ExitCode
from neuraknot_db import errors, settings
from neuraknot_db.cli.main import NeuraknotCommandLine
from neuraknot_db.migrate import x_options
from tests.docs.documents import Cell, Table, demand_all, read
from tests.projects import ROOT

REFERENCE = read(ROOT / "docs" / "reference.md")
DATABASE, LAUNCHER, SETTINGS = "commands-of-neuraknot-db", "commands-of-launcher", "settings"
BEFORE_COMMAND, LOCKS = "options-before-the-command", "locks-and-timeouts"
LAUNCHERS_VARIABLES = "other-variables-of-the-launcher"


def tables(heading: str) -> list[Table]:
    return [each for each in REFERENCE.tables if each.heading == heading]


def rows(heading: str, table: int = 0) -> Iterator[tuple[Cell, ...]]:
    yield from tables(heading)[table].rows[1:]


def names(cell: Cell) -> set[str]:
    """The options and arguments that a cell names: what begins with a hyphen, and what is in capitals."""
    words = (span.split()[0] if not span.startswith("-- ") else span.split()[1] for span in cell.spans)
    return {word for word in words if word.startswith("-") or word.isupper()}


def accepted(parser: argparse.ArgumentParser) -> set[str]:
    """What a parser of argparse accepts; an argument goes by the name that its help shows."""
    found: set[str] = set()
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            found |= {*action.option_strings} or {str(action.metavar or action.dest).upper()}
    return found


PARSER = NeuraknotCommandLine(prog="neuraknot-db").parser
COMMANDS: dict[str, argparse.ArgumentParser] = next(
    dict(action.choices) for action in PARSER._actions if isinstance(action, argparse._SubParsersAction)
)


def test_the_commands_of_neuraknot_db() -> None:
    told = {row[0].spans[0]: names(row[1]) for row in rows(DATABASE)}
    real = {name: accepted(parser) - {"-h", "--help"} for name, parser in COMMANDS.items()}
    demand_all(*({f"{name} {each}" for name in found for each in ("", *found[name])} for found in (told, real)))
    demand_all((each for row in rows(BEFORE_COMMAND) for each in names(row[0])), accepted(PARSER))
    demand_all((row[0].spans[0].partition("=")[0] for row in rows(BEFORE_COMMAND, 1)), x_options._KNOWN)


def test_the_defaults_of_neuraknot_db() -> None:
    told = {row[0].spans[0]: row[1].spans for row in rows(DATABASE)}
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            if isinstance(action.default, str) and action.default != argparse.SUPPRESS:
                assert action.default in told[name], (name, action.dest)


def test_the_commands_and_options_of_the_launcher() -> None:
    launcher: Any = typer.main.get_command(app)
    commands, *options = tables(LAUNCHER)
    told = {"launcher"}
    for row in commands.rows[1:]:
        told |= {f"{row[0].spans[0]} {each}".strip() for each in ("", *names(row[1]))}
    for table in options:
        for name in table.rows[0][0].spans:
            told |= {_option(name, row[0].spans, row[1].spans, row[2].spans) for row in table.rows[1:]}
    demand_all(told, (each for name in ("launcher", *launcher.commands) for each in _taken(launcher, name)))


def _taken(launcher: Any, name: str) -> Iterator[str]:
    """A command of the launcher's with each argument and option."""
    yield name
    yield _option(name, ["--help"], (), ())
    for each in launcher.commands.get(name, launcher).params:
        if each.param_type_name == "argument":
            yield f"{name} {str(each.metavar).strip('[]').removeprefix('-- ')}"
        else:
            variables = [each.envvar] if isinstance(each.envvar, str) else each.envvar or ()
            default = () if each.default in (None, False) else (str(each.default),)
            yield _option(name, (*each.opts, *each.secondary_opts), variables, default)


def _option(command: str, spellings: Iterable[str], variables: Iterable[str], default: Iterable[str]) -> str:
    return (
        f"{command} {' '.join(spellings)}, by {' '.join(variables) or 'no variable'}, else {' '.join(default) or '-'}"
    )


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return default


def test_the_variables_of_neuraknot_db() -> None:
    asked = Asked()
    for read_ in (
        settings.read,
        settings.secrets,
        settings.environment_name,
        settings.limits,
        settings.deadline,
        settings.origin,
        settings.in_github_actions,
    ):
        read_(asked)
    demand_all((row[0].spans[0] for heading in (SETTINGS, LOCKS) for row in rows(heading)), asked.names)


def test_the_defaults_of_the_variables() -> None:
    told = {row[0].spans[0]: "".join(row[1].spans) for heading in (SETTINGS, LOCKS) for row in rows(heading)}
    given = {name: default for name, default in told.items() if default}
    assert settings.limits(given) == settings.limits({})
    assert settings.read({"DB_HOST": "a", **given}) == settings.read({"DB_HOST": "a"})
    assert {row[0].spans[0] for row in rows(LOCKS)} <= given.keys()
    for name in given:
        wrong = {**given, name: "7" if name.startswith("DB_") or name.endswith("TRIES") else "7s"}
        both = settings.limits(wrong), settings.read({"DB_HOST": "a", **wrong})
        assert both != (settings.limits({}), settings.read({"DB_HOST": "a"})), f"{name} is not looked at"


VARIABLE = re.compile(r"(AWS|DB|DOCKER|GITHUB|TF)_\w+|PGPASSWORD|NO_COLOR|TERM|COLUMNS")
GIVEN = {"DB_HOST", "DB_PORT", "DB_USER", "DB_NAME", "DB_SSLMODE", "DB_SSLROOTCERT"}
"""What the launcher gives to the container, and does not read."""


def test_the_other_variables_of_the_launcher() -> None:
    """What looks like one in its code, but for the double of AWS."""
    found: set[str] = set()
    for path in (ROOT / "launcher").rglob("*.py"):
        if "rehearsal" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and VARIABLE.fullmatch(str(node.value)):
                    found.add(str(node.value))
    options = {span for table in tables(LAUNCHER)[1:] for row in table.rows for span in row[1].spans}
    told = (span for row in rows(LAUNCHERS_VARIABLES) for span in row[0].spans)
    demand_all(told, found - options - GIVEN)


def test_the_exit_codes() -> None:
    kinds = [errors.NeuraknotError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    signals = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    codes = {0, *(kind.exit_code for kind in kinds), *ExitCode, *signals}
    demand_all((row[0].spans[0] for row in rows("exit-codes")), map(str, map(int, codes)))
