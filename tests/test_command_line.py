"""The launcher parses a container's command line before it makes anything, and as the container does."""

from __future__ import annotations

import argparse
import inspect
import itertools
from collections.abc import Sequence

import pytest

from launcher.errors import UsageError
from launcher.machine import spelling
from launcher.task import command_line
from neuraknot_db import settings
from neuraknot_db.cli import usage
from neuraknot_db.cli.main import NeuraknotCommandLine
from neuraknot_db.migrate import x_options


def shape(parser: argparse.ArgumentParser) -> list[tuple[Sequence[str], str]]:
    """What a parser accepts, by name of each argument and option."""
    return sorted(
        (action.option_strings or [action.dest], str(action.nargs))
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction) and action.dest != "help"
    )


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [found] = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def test_both_parsers_accept_the_same() -> None:
    real, ours = NeuraknotCommandLine(prog="neuraknot-db").parser, command_line._reader()
    assert shape(ours) == shape(real)
    assert commands(ours).keys() == commands(real).keys()
    for name in command_line._COMMANDS:
        assert shape(commands(ours)[name]) == shape(commands(real)[name]), name
    assert set(x_options._KNOWN) == command_line._X_OPTIONS
    assert settings._NAME.pattern == command_line._ENVIRONMENT.pattern.replace("{0,62}", "*")
    assert settings._LONGEST_NAME == 63


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "no such command 'nonsense'"),
        ("-q nonsense --json", "no such command 'nonsense'"),
        ("upgade head", "no such command 'upgade'. Did you mean 'upgrade'?"),
        ("upgrade", "required: revision"),
        ("upgrade head more", "unexpected argument 'more'"),
        ("plan --jsn", "no such option '--jsn'. Did you mean '--json'?"),
        ("upgrade head -xforce=true", "option '-x' stands before the command"),
        ("log --json=yes", "--json"),
        ("plan --markdown --json", "--json and --markdown exclude each other"),
        ("mark", "required: environment"),
        ("-x", "expected one argument"),
        ("-x confirmed=yes downgrade -1", "-x confirmed is not known"),
        ("-x confirm=neuraKnot plan", "-x means nothing to plan"),
        ("--json plan", "--json"),
        ("snapshot --check", "snapshot needs a checkout"),
        ("renumber --check", "renumber needs a checkout"),
        ("revision -m text", "revision needs a checkout"),
        ("compat", "required: action"),
        ("compat check", "compat needs a checkout, and the container has none, but for compat record -o -"),
        ("compat record", "compat needs a checkout, and the container has none, but for compat record -o -"),
        ("compat record -o queries.sql", "but for compat record -o -"),
        ("check", "check compares with models, and there are none"),
        ("-x create_db=maybe upgrade head", "-x create_db=maybe is neither true nor false"),
        ("-x force= upgrade head", "-x force= is neither true nor false"),
        ("-x=force upgrade head", "-x force= is neither true nor false"),
        ("-x confirm=a -x confirm=b downgrade -1", "-x confirm is given 2 times"),
        ("-c /x.ini current", "the image has one of each"),
        ("-n other upgrade head", "the image has one of each"),
        ("mark bad/env --confirm x", "'bad/env' is not a valid environment name"),
        ("upgrade 003:head", "for --sql only"),
        ("stamp 001:head", "for --sql only"),
        ("downgrade --sql base", "no range of revisions"),
        ("history -r 003", "no range of revisions"),
        ("upgrade -1", "upgrade can't take '-1' for a revision"),
        ("downgrade +1", "downgrade can't take '+1'"),
        ("plan base-1", "plan can't take 'base-1'"),
        ("stamp +1", "stamp can't take '+1'"),
        ("stamp -- -1", "stamp can't take '-1'"),
        ("stamp 003+1", "stamp can't take '003+1'"),
        ("show head-1", "show can't take 'head-1'"),
        ("show +1", "show can't take '+1'"),
        ("show 003@", "show can't take '003@'"),
    ],
)
def test_what_the_container_would_refuse_is_refused_here(line: str, words: str) -> None:
    with pytest.raises(UsageError, match="neuraknot-db would refuse this") as caught:
        command_line.check(line.split())
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("downgrade -1", "downgrade"),
        ("stamp --purge -- -9", "stamp"),
        ("upgrade --sq 003:004", "upgrade"),
        ("history -r-2:current", "history"),
        ("history -r :", "history"),
        ("history -r-2:", "history"),
        ("show -1", "show"),
        ("show current", "show"),
        ("-x force=TRUE -x accept_edit=001 -x accept_edit=002 upgrade heads", "upgrade"),
        ("stamp 003 label@head", "stamp"),
        ("compat record -o -", "compat"),
        ("compat record --output=-", "compat"),
        ("plan", "plan"),
        ("plan --as-reader --markdown", "plan"),
        ("plan --count -1", "plan"),
        ("--version", None),
        ("-h", None),
        ("upgrade --help", None),
    ],
)
def test_what_it_understands_is_let_through(line: str, name: str | None) -> None:
    assert command_line.check(line.split()) == name


def test_both_packages_guess_alike_what_was_meant() -> None:
    assert inspect.getsource(spelling.did_you_mean) == inspect.getsource(usage.did_you_mean)


def test_every_command_is_either_the_containers_or_a_checkouts() -> None:
    both = itertools.combinations((set(command_line._COMMANDS), set(command_line._POINTLESS)), 2)
    assert all(one.isdisjoint(other) for one, other in both)
    assert set(command_line._COMMANDS) >= command_line._CHANGING | command_line._OURS
