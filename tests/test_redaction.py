"""Both packages hide the same spellings of a secret; they never import each other, and each has its own redactor."""

from __future__ import annotations

import html
import inspect
import json
import re
import shlex
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote, quote_plus

import pytest

import launcher.machine.redaction
import neuraknot_db.database.redaction


class Redactor(Protocol):
    """What both are."""

    def hide(self, secret: str | None) -> None: ...

    def text(self, text: str) -> str: ...

    def value(self, value: object) -> object: ...


PACKAGES = (launcher.machine.redaction, neuraknot_db.database.redaction)
NAMES = "app db.example neuraKnot alembic postgresql"

PASSWORDS = (
    "hunter2",
    "correct horse",
    "p@ss/w:rd",
    "per%cent%41",
    "plus+sign",
    "it's",
    'say "hi"',
    "both'\"''\"\"",
    "back\\slash\\\\",
    "l1ne\nbreak",
    "k\u00e4se\u20ac\U0001f600",
    "tab\there\u00a0nbsp",
    "<&>$${x}%%",
    "\x01bell\x07",
)


def lower(text: str) -> str:
    """With the digits of its percent signs in lower case."""
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text)


def everything(text: str) -> str:
    """Percent-encoded down to the letters, as a URL may be."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def in_ascii(text: str) -> str:
    return ascii(text)[1:-1]


def escaped(text: str) -> str:
    """In an E'' string."""
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")


def by_code(text: str) -> str:
    """In a U&'' string."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\+{ord(c):06X}" for c in text)


def octal(text: str) -> str:
    return "".join(
        chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"\\{byte:03o}" for byte in text.encode()
    )


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "quote": quote,
    "quote without a safe character": lambda text: quote(text, safe=""),
    "quote_plus": quote_plus,
    "quote in lower case": lambda text: lower(quote(text, safe="")),
    "quote_plus in lower case": lambda text: lower(quote_plus(text)),
    "every byte in a URL": everything,
    "a URL in a URL": lambda text: quote(quote(text, safe=""), safe=""),
    "repr": lambda text: repr(text)[1:-1],
    "repr with the other quotes": lambda text: repr(text + "'\"")[1:-4],
    "repr of repr": lambda text: repr(repr(text)[1:-1])[1:-1],
    "ascii": in_ascii,
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "single quotes doubled": lambda text: text.replace("'", "''"),
    "single quotes doubled twice": lambda text: text.replace("'", "''''"),
    "double quotes doubled": lambda text: text.replace('"', '""'),
    "E''": escaped,
    "E'' with its quotes doubled": lambda text: text.replace("\\", "\\\\").replace("'", "''"),
    "U&''": by_code,
    "octal": octal,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "JSON as Go writes it": lambda text: json.dumps(text)[1:-1].replace("<", r"\u003c").replace(">", r"\u003e"),
    "SQL in JSON": lambda text: json.dumps(text.replace("'", "''"))[1:-1],
    "repr of SQL": lambda text: repr(text.replace("'", "''"))[1:-1],
    "shlex": shlex.quote,
    "shlex in JSON": lambda text: json.dumps(shlex.quote(text)).strip('"'),
    "a shell's double quotes": lambda text: re.sub(r'(["$`\\])', r"\\\1", text),
    "conninfo": lambda text: text.replace("\\", "\\\\").replace("'", "\\'"),
    "a pattern": re.escape,
    "a format": lambda text: text.replace("%", "%%").replace("{", "{{").replace("}", "}}"),
    "HTML": html.escape,
    "HTML by number": lambda text: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in text),
    "blanks as one": lambda text: " ".join(text.split()),
    "lines numbered": lambda text: text.replace("\n", "\n     2 | "),
    "what prints": lambda text: "".join(c for c in text if c.isprintable() or c == "\t"),
}


@pytest.fixture(params=PACKAGES, ids=lambda package: package.__name__.partition(".")[0])
def redactor(request: pytest.FixtureRequest) -> Redactor:
    made: Redactor = request.param.Redactor(NAMES)
    return made


def test_both_are_the_same_word_for_word() -> None:
    ours, theirs = (inspect.getsource(package).partition("# From here on")[2] for package in PACKAGES)
    assert ours
    assert ours == theirs


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("password", PASSWORDS, ids=range(len(PASSWORDS)))
def test_a_password_is_hidden_however_it_is_spelled(redactor: Redactor, password: str, spelling: str) -> None:
    spelled = SPELLINGS[spelling](password)
    redactor.hide("another of the environment's")
    redactor.hide(password)
    for around in ("{}", "error: at '{}' or near", '{{"it": "{}"}}', "postgresql://app:{}@db.example/chat", "x{}y{}z"):
        shown = redactor.text(around.replace("{}", spelled))
        assert re.sub(r"['\"\\]", "", shown) == re.sub(r"['\"\\]", "", around.replace("{}", "***")), shown


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("password", ["o", "'", "%", "a'b", "app", "neuraKnot"])
def test_a_short_one_or_a_name_is_hidden_as_a_password_only(redactor: Redactor, password: str, spelling: str) -> None:
    redactor.hide(password)
    spelled = SPELLINGS[spelling](password)
    for around in ("ALTER ROLE app PASSWORD '{}' VALID", '"password": "{}"', "postgresql://app:{}@db.example/chat"):
        shown = redactor.text(around.replace("{}", spelled))
        assert re.sub(r"['\"\\]", "", shown) == re.sub(r"['\"\\]", "", around.replace("{}", "***")), shown
    for unspoiled in ("error: no role on chat", "app's 100 % of neuraKnot", "password=apples", "the password that"):
        assert redactor.text(unspoiled) == unspoiled


def test_a_line_of_a_password_is_hidden_by_itself(redactor: Redactor) -> None:
    redactor.hide("first line\nsecond line\n")
    assert redactor.text("NOTICE: first line") == "NOTICE: ***"
    assert redactor.text("second line!") == "***!"


@pytest.mark.parametrize("ellipsis", ["...", "\u2026"])
@pytest.mark.parametrize("spelled", [str, lambda text: repr(text)[1:-1], lambda text: repr(text.encode())[2:-1]])
def test_a_line_that_was_cut_within_it_shows_no_part(
    redactor: Redactor, spelled: Callable[[str], str], ellipsis: str
) -> None:
    password = "p@ss/w'rd% \\ k\u00e4se"
    redactor.hide(password)
    whole = spelled(password)
    for length in range(6, len(whole)):
        assert "ss/w" not in redactor.text(f"LINE 1: SELECT '{whole[:length]}{ellipsis}")
    for start in range(len(whole) - 12):
        assert whole[-3:] not in redactor.text(f"{ellipsis}{whole[start:]}' is it")
    for unspoiled in (f"waiting{ellipsis}", f"pass{ellipsis} on", f"{ellipsis}se"):
        assert redactor.text(unspoiled) == unspoiled


def test_the_longer_of_two_secrets_goes_first(redactor: Redactor) -> None:
    redactor.hide("hunter")
    redactor.hide("hunter2")
    assert redactor.text("hunter2 and hunter") == "*** and ***"


@pytest.mark.parametrize("around", ["<{}>", '{{"token":"{}","other":1}}'])
def test_a_long_token_is_hidden_whole(redactor: Redactor, around: str) -> None:
    token = "eyJwYXlsb2FkIjoi+/=" * 100
    redactor.hide(token)
    assert "eyJ" not in redactor.text(around.replace("{}", token))
    assert json.loads(redactor.text(json.dumps({"token": token, "other": 1}))) == {"token": "***", "other": 1}


def test_nothing_is_hidden_where_there_is_no_secret(redactor: Redactor) -> None:
    for nothing in (None, "", " \n"):
        redactor.hide(nothing)
    assert redactor.text("a b\n") == "a b\n"
    assert redactor.value({"a": ["b", 1, None]}) == {"a": ["b", 1, None]}


def test_no_line_takes_long(redactor: Redactor) -> None:
    for password in (*PASSWORDS, "\\" * 30, "'\"" * 20, "\\'" * 20, "a b c d e", " \\ ' \\ "):
        redactor.hide(password)
    redactor.text("")
    began = time.process_time()
    for line in (
        "\\" * 20_000,
        "'" * 20_000,
        "\\'" * 10_000,
        " " * 20_000,
        "a " * 10_000,
        "%25" * 7_000,
        "both'" * 4_000,
        f"correct{' ' * 60}x" * 300,
        f"...{' ' * 60}x\n" * 300,
        f"... \\ {' ' * 60}\\x\n" * 300,
    ):
        redactor.text(line)
    assert time.process_time() - began < 2.0


def test_a_thousand_lines_cost_nothing_noticeable(redactor: Redactor) -> None:
    redactor.hide(PASSWORDS[7])
    began = time.process_time()
    for number in range(1000):
        redactor.text(f"  {number:04d}  0.012 s  Adds a table of things, and an index on what they are called")
    assert time.process_time() - began < 0.5
