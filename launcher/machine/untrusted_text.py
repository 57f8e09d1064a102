"""Text that strangers wrote: logs, states, settings. Whatever it holds, it is read, or it is unreadable."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

_SURROGATE = re.compile("[\ud800-\udfff]")


class UnreadableError(Exception):
    """The text is not what it should be. The words never quote it: it may hold a secret."""


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        UnreadableError: it can't be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableError(error.strerror or type(error).__name__) from None
    except ValueError:
        raise UnreadableError("it is not text in UTF-8") from None


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text stands for.

    Raises:
        UnreadableError: it is no JSON, or nested too deeply, or can be read in two ways, or holds what is no text.
    """
    return json_at(text if isinstance(text, str) else _decoded(text))


def json_at(text: str, start: int | None = None) -> Any:
    """The JSON value that begins at `start`, whatever comes after it; without `start`, the text is all of it.

    Raises:
        UnreadableError: as `parse_json` has it.
    """
    try:
        value = _DECODER.decode(text) if start is None else _DECODER.raw_decode(text, start)[0]
        _check(value)
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except ValueError as error:  # of JSON's own, of a number with thousands of digits, or of ours
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
        raise ValueError("a key comes twice")  # which of them counts, each reader decides for itself
    _check([*value, *value.values()])
    return value


def _check(value: Any) -> None:
    """Objects have been checked as they were read."""
    if isinstance(value, str) and not is_text(value):
        raise ValueError("half a character")
    for item in value if isinstance(value, list) else ():
        _check(item)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)


def is_text(value: str) -> bool:
    """Whether every character is a whole one, so that it can be written down anywhere; NUL is none."""
    return "\0" not in value and _SURROGATE.search(value) is None
