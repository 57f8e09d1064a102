"""A secret in every spelling that a message may come with is hidden by both packages, which share no code."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest

from launcher.redaction import Redactor
from neuraknot_db import redaction

SECRETS = [
    "hunter2",
    "p@ss/w'rd%",
    'correct "horse"',
    "a b+c&d=e",
    r"back\slash\n",
    "it''s",
    "q'\"'q",
    "100%sure",
    "pässwörd-日本",
    "emoji😀x",
    "new\nline\ttab",
    "`$(id)`!",
    "''" * 2,
    r"\\\\'\\'",
    "<b>&amp;",
    "%41%42",
    "ab…cd",
    "{$1}%s:p",
    "x" * 64,
]

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": quote,
    "in a URL, all of it": lambda secret: quote(secret, safe=""),
    "in a form": quote_plus,
    "in a URL, each byte": lambda secret: "".join(f"%{byte:02x}" for byte in secret.encode()),
    "in a URL in a URL": lambda secret: quote(quote(secret, safe=""), safe=""),
    "repr": lambda secret: repr(secret)[1:-1],
    "repr of repr": lambda secret: repr(repr(secret)[1:-1])[1:-1],
    "repr of bytes": lambda secret: repr(secret.encode())[2:-1],
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)[1:-1])[1:-1],
    "a string of SQL": lambda secret: secret.replace("'", "''"),
    "a name of SQL": lambda secret: secret.replace('"', '""'),
    "E''": lambda secret: secret.replace("\\", "\\\\").replace("'", "\\'"),
    "E'' with doubled quotes": lambda secret: secret.replace("\\", "\\\\").replace("'", "''"),
    "a format": lambda secret: secret.replace("%", "%%"),
    "a shell": shlex.quote,
    "a .pgpass": lambda secret: secret.replace("\\", "\\\\").replace(":", "\\:"),
    "HTML": html.escape,
    "code points": lambda secret: "".join(f"\\u{ord(each):04x}" if ord(each) < 0x10000 else each for each in secret),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
}


def by_launcher(secret: str, text: str) -> str:
    redactor = Redactor()
    redactor.hide(secret)
    return redactor.text(text)


def by_database_side(secret: str, text: str) -> str:
    redaction.forget()
    redaction.hide(secret)
    return redaction.redacted(text)


@pytest.fixture(autouse=True)
def known_anew() -> Iterator[None]:
    """What one test hides is no secret of the next."""
    redaction.forget()
    yield
    redaction.forget()


@pytest.mark.parametrize("hidden", [by_launcher, by_database_side])
@pytest.mark.parametrize("secret", SECRETS)
def test_it_is_hidden_in_every_spelling(hidden: Callable[[str, str], str], secret: str) -> None:
    for name, spell in SPELLINGS.items():
        shown = hidden(secret, f"before {spell(secret)} after")
        assert spell(secret) not in shown, name
        # Nothing of it is left but quotes around it, and nothing else is taken.
        assert shown.replace("'", "").replace("=", "") == "before *** after", name


@pytest.mark.parametrize("secret", SECRETS)
def test_a_line_that_was_cut_within_it_shows_no_part(secret: str) -> None:
    redaction.hide(secret)
    for part in (secret[:-1], secret[: len(secret) // 2 + 2]):
        if sum(map(str.isalnum, part)) >= 3:
            assert part not in redaction.redacted(f"it is {part}…")
    for part in (secret[1:], secret[len(secret) // 2 - 2 :]):
        if sum(map(str.isalnum, part)) >= 3:
            assert part not in redaction.redacted(f"…{part} it is")


@pytest.mark.parametrize("hidden", [by_launcher, by_database_side])
def test_what_is_none_stays(hidden: Callable[[str, str], str]) -> None:
    for text in ("no hunter here", "hunter 2", "%68%75", "\\x68", "HUNTER2"):
        assert hidden("hunter2", text) == text
