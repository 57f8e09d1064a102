"""The documents as their reader sees them: headings, blocks of code, tables, spans of code, links."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.projects import ROOT

DOCUMENTS = tuple(
    sorted(path for folder in ("", "docs/", ".github/", "docker/*/") for path in ROOT.glob(f"{folder}*.md"))
)

_COMMENT = {"sql": re.compile(r"\s*--.*"), "": re.compile(r"(?!)")}
"""A comment at the end of a line, where it does not begin with `#`; text in no language has none."""
_HASH = re.compile(r"(?:^|\s+)#.*")


@dataclass(frozen=True)
class Heading:
    """A heading: its level, its text, the code spans in it, and GitHub's anchor for it."""

    level: int
    text: str
    spans: tuple[str, ...]
    anchor: str


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its text, and the heading above it."""

    language: str
    text: str
    heading: str

    @property
    def code(self) -> list[str]:
        """The lines without comments and empty ones."""
        comment = _COMMENT.get(self.language, _HASH)
        lines = (comment.sub("", line).rstrip() for line in self.text.splitlines())
        return [line for line in lines if line]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text without marks, and the code spans in it."""

    text: str
    spans: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: its rows, the first of which is its head, and the heading above it."""

    rows: tuple[tuple[Cell, ...], ...]
    heading: str


@dataclass(frozen=True)
class Document:
    """A document in Markdown.

    Attributes:
        spans: each code span outside of headings, in order, with the heading above it.
        links: each target of a link or an image.
    """

    path: Path
    headings: tuple[Heading, ...]
    blocks: tuple[Block, ...]
    tables: tuple[Table, ...]
    spans: tuple[tuple[str, str], ...]
    links: tuple[str, ...]

    def below(self, anchor: str) -> list[Heading]:
        """The headings within the part that a heading begins."""
        found = iter(self.headings)
        start = next(each for each in found if each.anchor == anchor)
        return list(itertools.takewhile(lambda each: each.level > start.level, found))

    def table(self, heading: str) -> Table:
        """The one table below a heading, named by its anchor."""
        [found] = (table for table in self.tables if table.heading == heading)
        return found


@cache
def read(path: Path) -> Document:
    """Read a document; headings are named by their anchors."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    headings: list[Heading] = []
    blocks: list[Block] = []
    tables: list[Table] = []
    rows: list[tuple[Cell, ...]] = []
    cells: list[Cell] = []
    spans: list[tuple[str, str]] = []
    links: list[str] = []
    above = ""
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "fence":
            blocks.append(Block(token.info.split(" ")[0], token.content, above))
        elif token.type == "tr_close":
            rows.append(tuple(cells))
            cells = []
        elif token.type == "table_close":
            tables.append(Table(tuple(rows), above))
            rows = []
        elif token.type == "inline":
            assert before is not None
            children = token.children or []
            found = tuple(child.content for child in children if child.type == "code_inline")
            links += [str(child.attrGet("href") or child.attrGet("src")) for child in children if _leads(child)]
            text = "".join(child.content for child in children)
            if before.type == "heading_open":
                above = _anchor(text, [each.anchor for each in headings])
                headings.append(Heading(int(before.tag[1:]), text, found, above))
                continue
            if before.type in ("td_open", "th_open"):
                cells.append(Cell(text, found))
            spans += [(span, above) for span in found]
    return Document(path, tuple(headings), tuple(blocks), tuple(tables), tuple(spans), tuple(links))


def demand_all(told: Iterable[str], real: Iterable[str]) -> None:
    """What a document tells of is all that there is, and nothing else."""
    known, there = set(told), set(real)
    assert known == there, f"missing: {sorted(there - known)}; not there: {sorted(known - there)}"


def _leads(token: Token) -> bool:
    return token.type in ("link_open", "image")


def _anchor(text: str, taken: list[str]) -> str:
    """GitHub's anchor: letters, digits, marks, hyphens and underscores of any script; a second one gets a number."""
    kept = (each for each in text.lower() if unicodedata.category(each)[0] in "LNM" or each in "-_ ")
    anchor = "".join(kept).replace(" ", "-")
    again = sum(re.fullmatch(re.escape(anchor) + r"(-\d+)?", each) is not None for each in taken)
    return f"{anchor}-{again}" if again else anchor
