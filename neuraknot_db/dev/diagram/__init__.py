"""The schema as a picture: tables, columns and references, as an SVG or as Mermaid text.

picture     what is shown: boxes with rows, and the references between them
placement   arranges the boxes in columns
routing     leads the lines around the boxes
layout      gives everything its coordinates
svg         draws it; mermaid writes it as an `erDiagram` instead
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neuraknot_db.dev.diagram import mermaid, svg
from neuraknot_db.dev.diagram.picture import Picture, picture
from neuraknot_db.errors import UsageError
from neuraknot_db.schema.catalog import Schema

_FORMATS: dict[str, Callable[[Picture, str], str]] = {".svg": svg.render, ".mmd": mermaid.render}


def draw(schema: Schema, title: str, *, suffix: str = ".mmd") -> str:
    """Return the text of a diagram.

    Args:
        schema: the schema to draw.
        title: the title above it.
        suffix: of the target file: `.svg`, or `.mmd` for Mermaid.

    Raises:
        UsageError: any other suffix.
    """
    if suffix.lower() not in _FORMATS:
        raise UsageError(
            f"A diagram can't be written as {suffix or 'a file without a suffix'}.",
            hint=f"Name a file that ends in {' or '.join(_FORMATS)}.",
        )
    return _FORMATS[suffix.lower()](picture(schema), title)


def write(schema: Schema, title: str, path: Path) -> None:
    """Draw the schema into a file, in the format of its suffix.

    Raises:
        UsageError: the suffix is unknown, or the file can't be written.
    """
    text = draw(schema, title, suffix=path.suffix)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.", hint="Name another file with -o.") from error


def is_fresh(schema: Schema, title: str, path: Path) -> bool:
    """Whether a file holds what `write` would write.

    Raises:
        UsageError: the suffix is unknown.
    """
    text = draw(schema, title, suffix=path.suffix)
    return path.is_file() and path.read_bytes() == text.encode()
