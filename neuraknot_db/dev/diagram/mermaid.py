"""The picture as a Mermaid `erDiagram`, which GitHub and many editors draw."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from neuraknot_db.dev.diagram.picture import Box, Picture, Reference, Row

_MARKS = {"PK": "PK", "FK": "FK", "UQ": "UK"}


def render(picture: Picture, title: str) -> str:
    """Return the diagram's text."""
    lines = ["---", f"title: {json.dumps(title, ensure_ascii=False)}", "---", "erDiagram"]
    for box in picture.boxes:
        lines += _entity(box)
    lines += map(_relationship, picture.references)
    return "\n".join(lines) + "\n"


def _entity(box: Box) -> Iterator[str]:
    yield f"    {_name(box.name)} {{"
    yield from (f"        {_attribute(row)}" for row in box.rows)
    yield "    }"


def _attribute(row: Row) -> str:
    word, name = _word(row.type), _word(row.name)
    # Mermaid's grammar allows no comma or space in a type: the full type goes into the comment.
    remarks = [full for full, short in ((row.name, name), (row.type, word)) if full != short]
    if row.nullable:
        remarks.append("null")
    marks = ", ".join(_MARKS[mark] for mark in row.marks)
    comment = f'"{_text(", ".join(remarks))}"' if remarks else ""
    return " ".join(filter(None, (word, name, marks, comment)))


def _relationship(reference: Reference) -> str:
    parent = "|o" if reference.optional else "||"
    children = "o|" if reference.single else "o{"
    label = _text(", ".join(reference.columns))
    return f'    {_name(reference.target)} {parent}--{children} {_name(reference.table)} : "{label}"'


def _word(text: str) -> str:
    """Return the text as one Mermaid word: without a type's numbers if they have a comma, joined elsewhere."""
    if re.fullmatch(r"[A-Za-z_\u00c0-\uffff][A-Za-z0-9_\-()\[\]\u00c0-\uffff]*", text):
        return text
    word = re.sub(r"[^A-Za-z0-9_\u00c0-\uffff]+", "_", re.sub(r"\(.*,.*\)", "", text)).strip("_")
    return word if word and not word[0].isdigit() else f"_{word}"


def _name(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) else f'"{_text(text)}"'


def _text(text: str) -> str:
    return text.replace('"', "'").replace("\n", " ")
