"""Untrusted text: logs, states, settings. Any content is either read or raises `UnreadableError`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

_SURROGATE = re.compile("[\ud800-\udfff]")


class UnreadableError(Exception):
    """The text is not valid. The message never quotes it: it may contain a secret."""


def read_text(path: Path) -> str:
    """Read a file's text.

    Raises:
        UnreadableError: the file can't be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableError(error.strerror or type(error).__name__) from None
    except ValueError:
        raise UnreadableError("it is not text in UTF-8") from None


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text.

    Raises:
        UnreadableError: it is not valid JSON, is nested too deeply, has a duplicate key, or a string is not valid text.
    """
    return json_at(text if isinstance(text, str) else _decoded(text))


def json_at(text: str, start: int | None = None) -> Any:
    """Parse the JSON value at `start` and ignore what follows; without `start`, parse the whole text.

    Raises:
        UnreadableError: as for `parse_json`.
    """
    try:
        value = _DECODER.decode(text) if start is None else _DECODER.raw_decode(text, start)[0]
        _check(value)
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except ValueError as error:  # from the JSON parser, from a number with thousands of digits, or our own
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnreadableError(f"it is not valid JSON{line}") from None
    return value


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except ValueError:
        raise UnreadableError("it is not text in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice")  # parsers differ in which one counts
    _check([*value, *value.values()])
    return value


def _check(value: Any) -> None:
    """Check strings and lists; objects were checked during parsing."""
    if isinstance(value, str) and not is_text(value):
        raise ValueError("half a character")
    for item in value if isinstance(value, list) else ():
        _check(item)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)


def is_text(value: str) -> bool:
    """Whether the text has no surrogates and no NUL, so that it can be written anywhere."""
    return "\0" not in value and _SURROGATE.search(value) is None
