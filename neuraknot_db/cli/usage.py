"""A command line that can't be read: one sentence, the nearest word that there is, and where the help is."""

from __future__ import annotations

import difflib
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from typing import NoReturn

from neuraknot_db.cli.console import rendered
from neuraknot_db.errors import UsageError

_SAID = (
    (r"argument \w+: invalid choice: (['\"])(?P<word>.*)\1 \(choose from (?P<known>.*)\)", "No such command '{word}'."),
    (r"the following arguments are required: (?P<word>.*)", "Missing argument '{word}'."),
    (r"argument (?P<word>\S+): expected one argument", "Option '{word}' requires an argument."),
    (r"argument (?P<word>\S+): ignored explicit argument .*", "Option '{word}' does not take a value."),
    (r"too few arguments", "Missing command."),
)
"""What argparse says, and the launcher's words for the same."""


def misused(parser: ArgumentParser, message: str) -> NoReturn:
    """Report argparse's complaint in the style of every other error, and exit with 2.

    Args:
        parser: the one that complains.
        message: its words.
    """
    for pattern, words in _SAID:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            said = found.groupdict("")
            near = did_you_mean(said.get("word", ""), re.findall(r"\w+", said.get("known", "")))
            _exit(words.format(**said) + near, f"See what there is: {parser.prog} --help")
    _exit(f"{message[:1].upper()}{message[1:]}.", f"See what there is: {parser.prog} --help")


def is_unknown(parser: ArgumentParser, word: str) -> bool:
    """Whether a word is an option, and none of the parser's, not even an abbreviated one."""
    name, known = word.partition("=")[0], parser._option_string_actions
    return word.startswith("-") and name[:2] not in known and not any(each.startswith(name) for each in known)


def unknown(program: ArgumentParser, command: ArgumentParser | None, words: Sequence[str]) -> NoReturn:
    """Report arguments that nothing takes, and exit with 2.

    Args:
        program: the parser of what stands before the command.
        command: the command's; None if there is none.
        words: the arguments.
    """
    word, parser = words[0].partition("=")[0], command or program
    help_ = f"See what there is: {parser.prog} --help"
    if not word.startswith("-"):
        _exit(f"Unexpected argument '{words[0]}'.", help_)
    early = next((each for each in (word, word[:2]) if each in program._option_string_actions), None)
    if command is not None and early is not None:
        where = command.prog.replace(program.prog, f"{program.prog} {early} ...")
        _exit(f"Option '{early}' stands before the command.", f"Write it there: {where}")
    if command is not None and word in command._option_string_actions:
        _exit(f"Option '{word}' stands behind the command.", f"Write it there: {command.prog} {word} ...")
    _exit(f"No such option '{word}'.{did_you_mean(word, parser._option_string_actions)}", help_)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest of what there is, with a blank before it; else nothing."""
    words = [each for each in known if each != word]
    # The beginning of a word, such as --env, is often less like it than like a short one.
    begun = [each for each in words if len(word.strip("-")) > 1 and each.startswith(word)]
    # Without their dashes, which would make every short option alike.
    bare = {each.strip("-"): each for each in words}
    near = begun or [bare[each] for each in difflib.get_close_matches(word.strip("-"), bare)]
    return f" Did you mean {', '.join(map(repr, near))}?" if near else ""


def _exit(sentence: str, hint: str) -> NoReturn:
    error = UsageError(sentence, hint=hint)
    sys.stderr.write(f"{rendered(error)}\n")
    raise SystemExit(error.exit_code)
