"""The picture as a Mermaid `erDiagram`, which GitHub and many editors draw."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from neuraknot_db.dev.diagram.picture import Box, Picture, Reference, Row

_MARKS = {"PK": "PK", "FK": "FK", "UQ": "UK"}
_NOTES = {"UQ": "unique", "IX": "index"}


def render(picture: Picture, title: str) -> str:
    """Return the diagram's text."""
    lines = ["---", f"title: {json.dumps(title, ensure_ascii=False)}", "---", "erDiagram"]
    for box in picture.boxes:
        lines += _entity(box)
    lines += map(_relationship, picture.references)
    return "\n".join(lines) + "\n"


def _entity(box: Box) -> Iterator[str]:
    yield f"    {_name(box.name)} {{"
    for row in box.rows:
        notes = [f"{_NOTES[note.mark]} {note.text}" for note in box.notes if note.columns[:1] == (row.name,)]
        yield f"        {_attribute(row, notes)}"
    yield "    }"


def _attribute(row: Row, notes: Sequence[str]) -> str:
    word, name = _word(row.type), _word(row.name)
    # Mermaid's grammar allows no comma or space in a type: the full type goes into the comment.
    remarks = [full for full, short in ((row.name, name), (row.type, word)) if full != short]
    if row.nullable:
        remarks.append("null")
    if "IX" in row.marks:
        remarks.append("index")
    remarks += notes  # there is no place below the columns: at the first one that a note names
    marks = ", ".join(_MARKS[mark] for mark in row.marks if mark in _MARKS)
    comment = f'"{_text(", ".join(remarks))}"' if remarks else ""
    return " ".join(filter(None, (word, name, marks, comment)))


def _relationship(reference: Reference) -> str:
    parent = "|o" if reference.optional else "||"
    children = "o|" if reference.single else "o{"
    label = _text(", ".join(reference.columns) + (f" ON DELETE {reference.on_delete}" if reference.on_delete else ""))
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
