"""The schema as a picture: tables, columns and references, as an SVG or as Mermaid text.

picture     what is shown: boxes with rows, and the references between them
placement   arranges the boxes in columns
routing     leads the lines around the boxes
layout      gives everything its coordinates
svg         draws it; mermaid writes it as an `erDiagram` instead
"""

from __future__ import annotations

from collections.abc import Callable

from neuraknot_db.dev.diagram import mermaid, svg
from neuraknot_db.dev.diagram.picture import Picture, picture
from neuraknot_db.errors import UsageError
from neuraknot_db.schema.catalog import Schema

_FORMATS: dict[str, Callable[[Picture, str], str]] = {".svg": svg.render, ".mmd": mermaid.render}


def draw(revision: str, schema: Schema, *, suffix: str = ".mmd") -> str:
    """Return the text of a diagram.

    Args:
        revision: the one whose schema it is, for the title.
        schema: the schema to draw.
        suffix: of the target file: `.svg`, or `.mmd` for Mermaid.

    Raises:
        UsageError: any other suffix.
    """
    if suffix.lower() not in _FORMATS:
        raise UsageError(
            f"A diagram can't be written as {suffix or 'a file without a suffix'}.",
            hint=f"Name a file that ends in {' or '.join(_FORMATS)}.",
        )
    return _FORMATS[suffix.lower()](picture(schema), f"NeuraKnot, revision {revision}")
