"""Secrets are hidden here, whichever way they are spelled; `console` sends whatever it shows through."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Mapping
from typing import Any

from launcher.models import Secret

_SHORTEST = 4  # a shorter secret would hide half of every line

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


class Redactor:
    """Takes secrets out of what is to be shown, as they are and as URLs, SQL, Python, JSON and shells write them."""

    def __init__(self) -> None:
        self._hidden: dict[str, re.Pattern[str]] = {}

    def hide(self, secret: Secret | str | None) -> None:
        """Never show this from now on."""
        value = secret.reveal() if isinstance(secret, Secret) else secret
        if value is None or len(value) < _SHORTEST:
            return
        encoded = re.escape(base64.b64encode(value.encode(errors="surrogateescape")).decode().rstrip("="))
        runs = re.finditer(r"(['\"`\\])\1*|.", value, re.DOTALL)
        pattern = re.compile(f"{''.join(_spellings(run[0]) for run in runs)}|{encoded}")
        # The longest first: one may hold another.
        self._hidden = dict(sorted({**self._hidden, value: pattern}.items(), key=lambda item: -len(item[0])))

    def text(self, text: str) -> str:
        """The text with `***` for every secret."""
        for pattern in self._hidden.values():
            text = pattern.sub("***", text)
        return text

    def value(self, value: Any) -> Any:
        """The same for every string in a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


@functools.cache
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


def _hexadecimal(number: int, width: int = 1) -> str:
    """A pattern for a number in hexadecimal digits, large or small."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{number:0{width}x}")
