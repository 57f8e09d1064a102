"""Passwords are hidden here, whichever way they are spelled: the streams of `stdio` and the log send all text through.

A password may come out of a revision, a server's message or a traceback as it is, or as URLs, SQL, Python, JSON and
shells write it. So it is looked for character by character, each in any of these spellings.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Sequence
from typing import Any

from neuraknot_db import settings
from neuraknot_db.errors import UsageError

_SHORT = 4
_NAMES = "neuraknot-db neuraKnot alembic postgresql"

_LEAST_PART = 3
"""Characters of a secret that are hidden beside the ellipsis of a line that was cut."""

_ELLIPSES = ("…", "...")  # ours, and libpq's
_SPELLED = ("%", "\\", "&", *_ELLIPSES)
"""What a text holds where characters are spelled otherwise, or a line was cut."""


def redacted(text: str) -> str:
    """The text with `***` for each password that this process knows.

    One that is short, or part of a name that messages show anyway, is hidden only where it stands as a password:
    elsewhere its stars would spoil the message, and tell what they hide.
    """
    for secret in _secrets():
        text = secret.hidden(text)
    return text


def redacted_within(value: Any) -> Any:
    """The same for each text in a value of JSON."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: redacted_within(item) for key, item in value.items()}
    return [redacted_within(item) for item in value] if isinstance(value, list | tuple) else value


def hide(password: str | None) -> None:
    """Hide a password that the environment does not hold, such as one that libpq has found in a file."""
    if password and all(password != secret.text for secret in _secrets()):
        _more.append(_Secret(password, everywhere=_is_telling(password)))


def forget() -> None:
    """Read the environment anew the next time."""
    _more.clear()
    _of_environment.cache_clear()


class _Secret:
    def __init__(self, text: str, *, everywhere: bool) -> None:
        self.text = text
        self._everywhere = everywhere
        # Letters and digits are mostly written as they are: without the longest run of them, a text is let through.
        self._run = max(re.findall(r"[A-Za-z0-9]+", text), key=len, default="")

    def hidden(self, text: str) -> str:
        if (
            self._run
            and self._run not in text
            and not any(sign in text for sign in _SPELLED)
            and self._base64 not in text
        ):
            return text
        if not self._everywhere:
            return self._as_password.sub(r"\1***", text)
        text = self._whole.sub("***", text).replace(self._base64, "***")
        if any(ellipsis in text for ellipsis in _ELLIPSES):
            cut_after, cut_before = self._cut
            text = cut_before.sub(r"\1***", cut_after.sub(r"***\1", text))
        return text

    @functools.cached_property
    def _base64(self) -> str:
        return base64.b64encode(self.text.encode(errors="surrogateescape")).decode().rstrip("=")

    @functools.cached_property
    def _parts(self) -> list[str]:
        return [_spellings(match[0]) for match in re.finditer(r"(['\"`\\])\1*|.", self.text, re.DOTALL)]

    @functools.cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile("".join(self._parts))

    @functools.cached_property
    def _as_password(self) -> re.Pattern[str]:
        return re.compile(rf"((?i:password)\W{{1,4}}|://[^\s/@:]*:){''.join(self._parts)}(?!\w)")

    @functools.cached_property
    def _cut(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Its beginning before an ellipsis, and its end after one; the cut may go through a character's spelling."""
        first, more = self._parts[:_LEAST_PART], self._parts[_LEAST_PART:]
        before, last = self._parts[:-_LEAST_PART], self._parts[-_LEAST_PART:]
        beginning = "".join(first) + "".join(f"(?:{part}" for part in more) + ")?" * len(more)
        end = "(?:" * len(before) + "".join(f"{part})?" for part in before) + "".join(last)
        ellipsis = f"({'|'.join(map(re.escape, _ELLIPSES))})"
        return re.compile(rf"{beginning}(?:[\\%&]+[\w#]{{0,8}}){{0,4}}{ellipsis}"), re.compile(
            rf"{ellipsis}\w{{0,3}}{end}"
        )


def _spellings(run: str) -> str:
    """A pattern for a character, or for a run of one quote or of backslashes, in any spelling."""
    character, times = run[0], f"{{{len(run)}}}" if len(run) > 1 else ""
    code, encoded = ord(character), character.encode(errors="surrogateescape")
    halves = character.encode("utf-16-be", errors="surrogatepass").hex()
    coded = [
        "".join(f"%(?:25)*{_hexadecimal(byte, 2)}" for byte in encoded),
        "".join(rf"\\+x{_hexadecimal(byte, 2)}" for byte in encoded),
        "".join(rf"\\+{byte:03o}" for byte in encoded),
        "".join(rf"\\+u{_hexadecimal(int(halves[at : at + 4], 16), 4)}" for at in range(0, len(halves), 4)),
        rf"\\+[xuU+]\{{?0*{_hexadecimal(code)}\}}?",
        rf"&\#(?:[xX]0*{_hexadecimal(code)}|0*{code});",
    ]
    plain = _OTHERWISE.get(character, rf"\\*+{re.escape(character)}")
    if character in _DOUBLED:
        plain = rf"(?:\\*+{character}){{{len(run)},{4 * len(run)}}}" if character != "\\" else rf"\\{{{len(run)},}}+"
        spelled = "|".join([f"(?:{'|'.join([*coded, *_QUOTED.get(character, ())])}){times}", plain])
        return f"(?:{spelled})"
    # A longer spelling first: nothing of it is left behind.
    return f"(?:{'|'.join([*coded, character if character.isalnum() else plain])})"


_DOUBLED = "'\"`\\"
_QUOTED = {"'": ["""'(?:"'"|\\\\+')'""", "&apos;"], '"': ["&quot;"]}
_OTHERWISE = {
    "&": r"(?:&amp;|\\*+&)",
    "<": r"(?:&lt;|\\*+<)",
    ">": r"(?:&gt;|\\*+>)",
    "%": r"(?:%{1,2}+|\\*+%)",
    " ": r"(?:\\*+\ |\+)",
    "\n": r"(?:\\+n|\n)",
    "\r": r"(?:\\+r|\r)",
    "\t": r"(?:\\+t|\t)",
}


def _hexadecimal(number: int, width: int = 1) -> str:
    """A pattern for a number in hexadecimal digits, large or small."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{number:0{width}x}")


_more: list[_Secret] = []
"""Those that the environment does not hold."""


def _secrets() -> Sequence[_Secret]:
    return (*_of_environment(), *_more) if _more else _of_environment()


@functools.cache
def _of_environment() -> tuple[_Secret, ...]:
    """The passwords of this process's environment, read once: a thousand lines may be told."""
    # The longest first: one may hold another.
    texts = sorted(settings.passwords(), key=len, reverse=True)
    return tuple(_Secret(text, everywhere=_is_telling(text)) for text in texts)


def _is_telling(password: str) -> bool:
    """Whether it may be hidden wherever it stands."""
    try:
        where = settings.read()
    except UsageError:
        where = None
    names = f"{where.user} {where.host} {where.database} {_NAMES}" if where else _NAMES
    return len(password) >= _SHORT and password not in names
