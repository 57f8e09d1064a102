"""Final positions: the y coordinates come from the routes; here each column, gutter and lane gets its x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from neuraknot_db.dev.diagram.picture import Box, Picture, Reference
from neuraknot_db.dev.diagram.placement import ROW, arrange
from neuraknot_db.dev.diagram.routing import LANE, Path, Routes

Point = tuple[int, int]

_STUB = 28
"""Pixels from a box to the first line in a gutter: room for the mark at the line's end, and for a round corner."""

_GUTTER = 72

_ORDERS_TRIED = 7
"""With more nets in a gutter, there are too many orders to try."""


@dataclass(frozen=True)
class Placed:
    """A placed box; x and y are its upper left corner."""

    box: Box
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Line:
    """A reference from its row (the first point) to the referenced row (the last); all turns are right angles."""

    reference: Reference
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Layout:
    """What to draw, in pixels from the upper left corner."""

    boxes: tuple[Placed, ...]
    lines: tuple[Line, ...]
    width: int
    height: int


def lay_out(picture: Picture) -> Layout:
    """Place the boxes and draw the lines; the same picture always gives the same layout."""
    columns = arrange(picture)
    extra: dict[tuple[int, int], int] = {}
    while True:
        routes = Routes(picture, columns, extra)
        crowded = routes.find()
        if crowded is None:
            return _drawn(routes)
        extra[crowded] = extra.get(crowded, 0) + ROW


def _drawn(routes: Routes) -> Layout:
    count = len(routes.columns)
    x = 0
    lefts: list[int] = []
    lanes: dict[tuple[str, int], int] = {}
    for gutter in range(count + 1):
        nets = _order(routes, gutter)
        span = LANE * (len(nets) - 1)
        if gutter in (0, count):
            width = _STUB + span if nets else 0
            first = 0 if gutter == 0 else _STUB
        else:
            width = max(_GUTTER, 2 * _STUB + span)
            first = (width - span) // 2
        lanes.update({(net, gutter): x + first + LANE * index for index, net in enumerate(nets)})
        x += width
        if gutter < count:
            lefts.append(x)
            x += routes.widths[gutter]
    lines = [Line(path.reference, _points(path, routes, lefts, lanes)) for path in routes.paths]
    upper = min([*routes.top.values(), *(y for line in lines for _, y in line.points)], default=0)
    boxes = [
        Placed(
            routes.boxes[name],
            lefts[column],
            routes.top[name] - upper,
            routes.widths[column],
            routes.sizes[name].height,
        )
        for name, column in sorted(routes.column_of.items())
    ]
    moved = [Line(line.reference, tuple((px, py - upper) for px, py in line.points)) for line in lines]
    lowest = [placed.y + placed.height for placed in boxes] + [py for line in moved for _, py in line.points]
    return Layout(tuple(boxes), tuple(moved), x, max(lowest, default=0))


def _order(routes: Routes, gutter: int) -> tuple[str, ...]:
    """Return the nets in a gutter from left to right, in the order with the fewest crossings."""
    spans: dict[str, tuple[int, int]] = {}
    to_left: dict[str, set[int]] = {}
    to_right: dict[str, set[int]] = {}
    for path in routes.paths:
        net = path.reference.target
        for place in path.gutters(routes.column_of):
            if place.gutter == gutter:
                low, high = spans.get(net, (place.enters, place.enters))
                spans[net] = min(low, place.enters, place.leaves), max(high, place.enters, place.leaves)
                (to_left if place.enters_from_left else to_right).setdefault(net, set()).add(place.enters)
                (to_left if place.leaves_to_left else to_right).setdefault(net, set()).add(place.leaves)
    nets = sorted(spans)
    if len(nets) > _ORDERS_TRIED:  # the more a net leads to the right, the further right it is
        return tuple(sorted(nets, key=lambda net: (len(to_right.get(net, ())) - len(to_left.get(net, ())), net)))
    crossed = {
        (one, two): sum(spans[one][0] < y < spans[one][1] for y in to_left.get(two, ()))
        + sum(spans[two][0] < y < spans[two][1] for y in to_right.get(one, ()))
        for one, two in permutations(nets, 2)
    }
    return min(permutations(nets), key=lambda order: sum(crossed[pair] for pair in combinations(order, 2)))


def _points(path: Path, routes: Routes, lefts: Sequence[int], lanes: dict[tuple[str, int], int]) -> tuple[Point, ...]:
    def side(table: str, gutter: int) -> int:
        column = routes.column_of[table]
        return lefts[column] + (routes.widths[column] if gutter > column else 0)

    net = path.reference.target
    points = [(side(path.reference.table, path.start), path.y1)]
    for place in path.gutters(routes.column_of):
        x = lanes[net, place.gutter]
        points += [(x, place.enters), (x, place.leaves)]
    points.append((side(net, path.end), path.y2))
    return tuple(_straightened(points))


def _straightened(points: Sequence[Point]) -> list[Point]:
    """Return the points without those on a straight line between two others."""
    kept: list[Point] = []
    for point in points:
        if kept and kept[-1] == point:
            continue
        if len(kept) > 1 and any(kept[-2][axis] == kept[-1][axis] == point[axis] for axis in (0, 1)):
            kept.pop()
        kept.append(point)
    return kept
