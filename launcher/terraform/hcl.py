"""Literal values from Terraform's own files. Errors never quote the file: it may contain a secret."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from launcher.errors import ConfigurationError
from launcher.machine.untrusted_text import UnreadableError, read_text

# python-hcl2 fails on these two escapes, so they are replaced by private-use characters while it parses.
_LITERALS = {"$${": "\ue0f0", "%%{": "\ue0f1"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([nrt"\\]))')
# A quoted string or a heredoc after a name; the end of either may be missing.
_BEHIND = (
    r"""\b%s["']?\s*[=:]\s*[^"'\n<]*"""
    r"""(?:(["'])(?P<quoted>(?:\\.|(?!\1).)*)|<<-?(\w+)\s*?\n(?P<lines>.*?)(?:\n\s*\3\b|\Z))"""
)


def read(path: Path) -> dict[str, Any]:
    """Return the attributes and blocks of a .tf or .tfvars file, with literals as values.

    A heredoc, an expression, or a string that contains one, is None: nothing here evaluates them.

    Raises:
        ConfigurationError: the file can't be read.
    """
    import hcl2  # few runs need it
    from hcl2.utils import SerializationOptions

    try:
        text = read_text(path).removeprefix("\ufeff")  # a BOM, which Terraform takes here, and in its JSON does not
    except UnreadableError as error:
        raise ConfigurationError(f"{path} can't be read: {error}.", hint=f"Look at it with: file {path}") from None
    try:
        for literal, stand_in in _LITERALS.items():
            text = text.replace(literal, stand_in)
        options = SerializationOptions(with_comments=False, explicit_blocks=False, preserve_heredocs=True)
        values: dict[str, Any] = _plain(hcl2.loads(text, serialization_options=options))
    except Exception as error:  # noqa: BLE001 - whatever a parser of others' makes of a file, it is the file's fault
        line = getattr(error, "line", None)
        where = f", line {line}" if isinstance(line, int) and line > 0 else ""
        raise ConfigurationError(
            f"{path} is not valid Terraform syntax{where}.", hint=f"Look at it with: terraform fmt -check {path}"
        ) from None
    return values


def written(path: Path, name: str) -> list[str]:
    """Return the texts after `name =` in a file, even with wrong syntax: raw, and with escapes decoded.

    It is for hiding secrets, so it may return too much rather than too little; empty if the file can't be read.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return []
    found = list[str]()
    for encoding in ("utf-8", "utf-16", "latin-1"):
        for match in re.finditer(_BEHIND % re.escape(name), content.decode(encoding, "replace"), re.DOTALL):
            raw = match["quoted"] or match["lines"] or ""
            found.append(raw)
            with contextlib.suppress(ValueError, OverflowError):  # not the number of a character
                found.append(_ESCAPE.sub(_unescape, raw).replace("$${", "${").replace("%%{", "%{"))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_name(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and len(value) >= 2 and value[0] == value[-1] == '"':
        if "${" in value or "%{" in value or "\n" in value:  # only a heredoc has an unescaped newline
            return None
        text = _ESCAPE.sub(_unescape, value[1:-1])
        for literal, stand_in in _LITERALS.items():
            text = text.replace(stand_in, literal[1:])
        return text
    return None if isinstance(value, str) else value  # an unquoted string is an expression


def _name(key: str) -> str:
    """Return a name without its optional quotes."""
    return key if _plain(key) is None else str(_plain(key))


def _unescape(found: re.Match[str]) -> str:
    short, long, simple = found.groups()
    return _ESCAPES[simple] if simple else chr(int(short or long, 16))
