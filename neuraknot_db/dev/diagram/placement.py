"""Arrange the boxes: tables in columns, near what they refer to, with room for the lines between them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from unicodedata import east_asian_width

from neuraknot_db.dev.diagram.picture import Box, Picture, Reference, Row

CHARACTER = 7.25
"""Pixels per character of a monospaced 12 px font: the widest of the usual ones, rounded up."""

ROW, HEADER, FOOT = 22, 32, 8
MARK, NULL = 18, 34
"""The widths of a mark before a name, and of the slot after a type, for its `null`."""

SMALL = 10.5 / 12
"""The size of an action at a foreign key, and of a note at a box's foot, beside that of a name."""

NOTE, _NOTE_LENGTH = 16, 42
"""A note's line: pixels from one to the next, and its most characters, so that notes seldom widen a box."""

GAP = 48
"""Pixels between two boxes of a column, before lines need more. Together with HEADER and FOOT, whole rows."""

_GUTTER = 90
_ASPECT = 0.9
"""Width by height, aimed at: a page shrinks what is too wide for it, but scrolls down."""

_TRIES = 20_000


@dataclass(frozen=True)
class Size:
    """The size of a box in pixels."""

    width: int
    height: int


Columns = tuple[tuple[str, ...], ...]
"""The tables' names, column by column, each from top to bottom."""


def text_width(text: str) -> float:
    """Return the width of a line in pixels; Chinese and Japanese characters take two places."""
    return CHARACTER * sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def size(box: Box) -> Size:
    """Return the size that a box needs."""
    rows = max((text_width(row.name) + text_width(row.type) + action_width(row) for row in box.rows), default=0)
    notes = [text_width(line) * SMALL for line, _ in note_lines(box)]
    inner = max(
        names_at(box) + rows + 3 * CHARACTER + NULL + 8,
        text_width(box.name) * 1.15 + 16,
        12 + MARK + max(notes, default=0) + 8,
    )
    height = HEADER + ROW * (len(box.rows) + math.ceil(NOTE * len(notes) / ROW)) + FOOT
    return Size(2 * math.ceil(inner / 2), height)


def names_at(box: Box) -> int:
    """Return the pixels from a box's left edge to its columns' names: room for two marks, or more if a row has them."""
    return 14 + MARK * max(2, *(len(row.marks) for row in box.rows), 0)


def action_width(row: Row) -> float:
    """Return the pixels that a foreign key's action takes, with those before it."""
    return CHARACTER + text_width(row.on_delete) * SMALL if row.on_delete else 0


def note_lines(box: Box) -> list[tuple[str, str]]:
    """Return the lines at a box's foot, and each one's mark; a note that goes on has none."""
    lines = []
    for note in box.notes:
        keys, where, condition = note.text.partition(" where ")
        parts = [note.text] if len(note.text) <= _NOTE_LENGTH else [keys, f"where {condition}"][: 2 if where else 1]
        wrapped = [line for part in parts for line in textwrap.wrap(part, _NOTE_LENGTH)]
        lines += [(line, note.mark if line is wrapped[0] else "") for line in wrapped]
    return lines


def row_center(box: Box, column: str) -> int:
    """Return the pixels from the box's upper edge to the middle of a column's row."""
    index = next(index for index, row in enumerate(box.rows) if row.name == column)
    return HEADER + ROW * index + ROW // 2


def arrange(picture: Picture) -> Columns:
    """Put the tables into columns so that the references are short, cross little, and point to the left and up.

    Descends by moving and swapping tables, from one start per number of columns; the same picture always gives the
    same columns.
    """
    model = _Model(picture)
    starts = {_start(model, count) for count in range(1, min(len(picture.boxes), 8) + 1)}
    candidates = [_descend(model, start, _TRIES // len(starts)) for start in sorted(starts)]
    return min(candidates, key=lambda each: (round(model.cost(each), 3), each), default=())


class _Model:
    """Sizes and references, and the cost of an arrangement."""

    def __init__(self, picture: Picture) -> None:
        boxes = {box.name: box for box in picture.boxes}
        self.sizes = {name: size(box) for name, box in boxes.items()}
        self.depths = _depths(boxes, picture.references)
        self.links = [
            (
                reference.table,
                row_center(boxes[reference.table], reference.columns[0]),
                reference.target,
                row_center(boxes[reference.target], reference.target_columns[0]),
            )
            for reference in picture.references
        ]

    def cost(self, columns: Columns) -> float:
        """Return pixels of line, plus penalties in pixels for what makes a picture hard to read."""
        heights = [sum(self.sizes[name].height + GAP for name in column) - GAP for column in columns]
        height = max(heights)
        place: dict[str, tuple[int, float, float]] = {}
        x = 0.0
        for index, column in enumerate(columns):
            width: float = max(self.sizes[name].width for name in column)
            y = (height - heights[index]) / 2
            for name in column:
                place[name] = (index, x + width / 2, y)
                y += self.sizes[name].height + GAP
            x += width + _GUTTER
        width = x - _GUTTER
        cost = 0.4 * (width + height) + 900 * abs(math.log(width / height / _ASPECT))
        segments = []
        for table, here, target, there in self.links:
            (first, x1, y1), (second, x2, y2) = place[table], place[target]
            y1, y2 = y1 + here, y2 + there
            between = abs(first - second) - 1
            cost += abs(y1 - y2) + (60 if between < 0 else _GUTTER + 320 * between)
            if first < second or (first == second and y1 < y2):
                cost += 150
            segments.append((x1, y1, x2, y2, target))
        for one, two in combinations(segments, 2):
            if one[4] != two[4] and _cross(one, two):
                cost += 90
        return cost


_Segment = tuple[float, float, float, float, str]


def _cross(one: _Segment, two: _Segment) -> bool:
    ax, ay, bx, by, _ = one
    cx, cy, dx, dy, _ = two

    def side(px: float, py: float, qx: float, qy: float, rx: float, ry: float) -> float:
        return (qx - px) * (ry - py) - (qy - py) * (rx - px)

    return (
        side(ax, ay, bx, by, cx, cy) * side(ax, ay, bx, by, dx, dy) < 0
        and side(cx, cy, dx, dy, ax, ay) * side(cx, cy, dx, dy, bx, by) < 0
    )


def _depths(boxes: Mapping[str, Box], references: Sequence[Reference]) -> dict[str, int]:
    """Return each table's distance in references from a table that refers to none; a cycle is cut where it closes."""
    targets: dict[str, set[str]] = {name: set() for name in boxes}
    for reference in references:
        targets[reference.table].add(reference.target)
    depths: dict[str, int] = {}
    for name in sorted(boxes):
        _depth(name, targets, depths, ())
    return depths


def _depth(name: str, targets: Mapping[str, set[str]], depths: dict[str, int], path: tuple[str, ...]) -> int:
    if name not in depths:
        further = [other for other in sorted(targets[name]) if other not in (*path, name)]
        found = 1 + max((_depth(other, targets, depths, (*path, name)) for other in further), default=-1)
        depths.setdefault(name, found)
    return depths[name]


def _start(model: _Model, count: int) -> Columns:
    """Return the tables by depth, cut into columns of about the same height."""
    order = sorted(model.depths, key=lambda name: (model.depths[name], name))
    total = sum(model.sizes[name].height + GAP for name in order)
    columns: list[list[str]] = [[] for _ in range(count)]
    passed = 0.0
    for name in order:
        height = model.sizes[name].height + GAP
        columns[min(count - 1, int((passed + height / 2) * count / total))].append(name)
        passed += height
    return tuple(tuple(column) for column in columns if column)


def _descend(model: _Model, columns: Columns, tries: int) -> Columns:
    """Move to the best neighbour until none is better, or the tries are used up."""
    cost = model.cost(columns)
    while tries > 0:
        best, best_cost = columns, cost
        for neighbour in _neighbours(columns):
            tries -= 1
            if (found := model.cost(neighbour)) < best_cost - 1e-6:
                best, best_cost = neighbour, found
            if tries <= 0:
                break
        if best is columns:
            break
        columns, cost = best, best_cost
    return columns


def _neighbours(columns: Columns) -> Iterator[Columns]:
    """Yield each arrangement with one table moved, or two swapped."""
    places = [(index, row) for index, column in enumerate(columns) for row in range(len(column))]
    for index, row in places:
        name = columns[index][row]
        without = [list(column) for column in columns]
        del without[index][row]
        for other, column in enumerate(without):
            for position in range(len(column) + 1):
                if (other, position) != (index, row):
                    moved = [*column[:position], name, *column[position:]]
                    result = [*without[:other], moved, *without[other + 1 :]]
                    yield tuple(tuple(each) for each in result if each)
    for (one, row), (two, other_row) in combinations(places, 2):
        swapped = [list(column) for column in columns]
        swapped[one][row], swapped[two][other_row] = swapped[two][other_row], swapped[one][row]
        yield tuple(tuple(column) for column in swapped)
