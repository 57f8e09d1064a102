"""The routes of the lines: along the gutters between columns and through the gaps between boxes, never through one.

Lines to the same table form a net, and share their route where they can; lines of different nets may only cross.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from neuraknot_db.dev.diagram.picture import Picture, Reference
from neuraknot_db.dev.diagram.placement import GAP, ROW, Columns, row_center, size

LANE = 14
"""Pixels between two parallel lines."""

_CLEAR = 4
"""Minimum pixels from a line to the end of a line of another net."""

_SHIFTS = (0, 11, 5, 16)
"""Offsets of the columns' rows, so that lines from both sides of a gutter never overlap."""

_ASIDE = (0, 4, -4)

_NEW_LANE, _OUTSIDE, _BEND = 30, 40, 15
"""The cost in pixels of a lane of its own, a route around the outside, and a bend."""

_ABOVE, _BELOW = -100_000, 100_000

Passage = tuple[int, int]
"""A column, and one of its gaps: gap n is above box n, the last one below all boxes."""


@dataclass(frozen=True)
class GutterLine:
    """A line in a gutter: the heights and sides at which it enters and leaves."""

    gutter: int
    enters: int
    leaves: int
    enters_from_left: bool
    leaves_to_left: bool


@dataclass
class Path:
    """A line without x coordinates: from a gutter through gaps of columns to another gutter.

    Attributes:
        start, end: the gutters at its ends; gutter n is to the left of column n.
        y1, y2: the heights of its ends.
        passages: the gaps in order.
        heights: the y of each passage, set last.
    """

    reference: Reference
    start: int
    y1: int
    end: int
    y2: int
    passages: tuple[Passage, ...]
    heights: list[int] = field(default_factory=list)

    def gutters(self, column_of: Mapping[str, int]) -> Iterator[GutterLine]:
        """Yield each gutter on the route."""
        rightwards = self.end > self.start
        levels = [self.y1, *self.heights, self.y2]
        last = len(levels) - 2
        for index in range(last + 1):
            gutter = self.start + (index if rightwards else -index)
            yield GutterLine(
                gutter,
                levels[index],
                levels[index + 1],
                rightwards if index else column_of[self.reference.table] < gutter,
                not rightwards if index < last else column_of[self.reference.target] < gutter,
            )


@dataclass
class _Run:
    """A horizontal stretch of a net through adjacent columns, anywhere from `low` to `high`."""

    net: str
    members: list[tuple[Path, int]]
    first: int
    last: int
    low: int
    high: int
    y: int | None = None


class Routes:
    """The route of every line and the height of every box.

    Attributes:
        boxes, sizes, column_of: by the table's name.
        widths: the width of each column.
        top: the y of each box.
        paths: in the order of the picture's references; set by `find`.
    """

    def __init__(self, picture: Picture, columns: Columns, extra: Mapping[Passage, int]) -> None:
        self.columns = columns
        self.boxes = {box.name: box for box in picture.boxes}
        self.sizes = {name: size(box) for name, box in self.boxes.items()}
        self.column_of = {name: index for index, column in enumerate(columns) for name in column}
        self.widths = [max(self.sizes[name].width for name in column) for column in columns]
        self.paths: list[Path] = []
        self._references = picture.references
        self._extra = extra
        self._runs: list[_Run] = []
        self.top = self._stack()

    def find(self) -> Passage | None:
        """Find every line's route; return the first gap that must be made higher, or None if all fits."""
        known: set[tuple[str, int]] = set()
        left = list(self._references)
        found: dict[int, Path] = {}
        while left:
            # The cheapest first: the others then join them where they can.
            _, path = min(
                (self._best(each, known) for each in left), key=lambda option: (option[0], str(option[1].reference))
            )
            left.remove(path.reference)
            found[self._references.index(path.reference)] = path
            crossed = range(min(path.start, path.end), max(path.start, path.end) + 1)
            known.update((path.reference.target, gutter) for gutter in crossed)
        self.paths = [found[index] for index in sorted(found)]
        return self._settle()

    # Boxes -------------------------------------------------------------------------------------------------

    def _stack(self) -> dict[str, int]:
        """Return each box's y; each column is placed where its lines are shortest."""
        inside: dict[str, int] = {}
        heights = []
        for index, column in enumerate(self.columns):
            y = 0
            for position, name in enumerate(column):
                y += GAP + self._extra.get((index, position), 0) if position else 0
                inside[name] = y
                y += self.sizes[name].height
            heights.append(y)
        tallest = max(heights, default=0)
        shifts = [_in_step((tallest - height) // 2, index) for index, height in enumerate(heights)]
        for _ in range(4):  # the columns affect each other
            for index, height in enumerate(heights):
                options = [_in_step(offset, index) for offset in range(0, tallest - height + ROW, ROW)]
                pulls = [self._pull(inside, [*shifts[:index], option, *shifts[index + 1 :]]) for option in options]
                shifts[index] = options[pulls.index(min(pulls))]
        return {name: y + shifts[self.column_of[name]] for name, y in inside.items()}

    def _pull(self, inside: Mapping[str, int], shifts: Sequence[int]) -> int:
        """Return the total vertical distance of the lines."""
        top = {name: y + shifts[self.column_of[name]] for name, y in inside.items()}
        return sum(abs(self._start_y(each, top) - self._end_y(each, top)) for each in self._references)

    def _start_y(self, reference: Reference, top: Mapping[str, int]) -> int:
        return top[reference.table] + row_center(self.boxes[reference.table], reference.columns[0])

    def _end_y(self, reference: Reference, top: Mapping[str, int]) -> int:
        return top[reference.target] + row_center(self.boxes[reference.target], reference.target_columns[0])

    def _gap(self, passage: Passage) -> tuple[int, int]:
        column, gap = passage
        names = self.columns[column]
        above = names[gap - 1] if gap else None
        low = self.top[above] + self.sizes[above].height + LANE if above else _ABOVE
        high = self.top[names[gap]] - LANE if gap < len(names) else _BELOW
        return low, high

    # Ways --------------------------------------------------------------------------------------------------

    def _best(self, reference: Reference, known: set[tuple[str, int]]) -> tuple[float, Path]:
        y1 = self._start_y(reference, self.top) + self._aside(reference)
        y2 = self._end_y(reference, self.top)
        here, there = self.column_of[reference.table], self.column_of[reference.target]
        options = []
        for start, end in product((here, here + 1), (there, there + 1)):
            cost, passages = self._passages(start, y1, end, y2)
            gutters = range(min(start, end), max(start, end) + 1)
            cost += sum(_NEW_LANE for gutter in gutters if (reference.target, gutter) not in known)
            cost += sum(_OUTSIDE for gutter in gutters if gutter in (0, len(self.columns)))
            options.append((cost, Path(reference, start, y1, end, y2, passages)))
        return min(options, key=lambda option: option[0])

    def _aside(self, reference: Reference) -> int:
        """Return a line's offset from its row's middle, nonzero if other nets start or end there too."""
        row = (reference.table, reference.columns[0])
        ends_here = any((each.target, each.target_columns[0]) == row for each in self._references)
        nets = sorted({each.target for each in self._references if (each.table, each.columns[0]) == row})
        return _ASIDE[(nets.index(reference.target) + ends_here) % len(_ASIDE)]

    def _passages(self, start: int, y1: int, end: int, y2: int) -> tuple[float, tuple[Passage, ...]]:
        """Return the shortest route from one gutter to another, gap by gap."""
        crossed = range(start, end) if end >= start else range(start - 1, end - 1, -1)
        ways: list[tuple[float, int, tuple[Passage, ...]]] = [(0, y1, ())]
        for column in crossed:
            further = []
            for gap in range(len(self.columns[column]) + 1):
                low, high = self._gap((column, gap))
                options = []
                for cost, y, passed in ways:
                    to = min(max(y, low), high)
                    longer = cost + self.widths[column] + abs(to - y) + (_BEND if to != y else 0)
                    options.append((longer, to, (*passed, (column, gap))))
                further.append(min(options))
            ways = further
        return min((cost + abs(y - y2), passed) for cost, y, passed in ways)

    # Heights of the passages -------------------------------------------------------------------------------

    def _settle(self) -> Passage | None:
        for path in self.paths:
            path.heights = [0] * len(path.passages)
            for index in range(len(path.passages)):
                self._join(path, index)
        for run in sorted(self._runs, key=lambda run: (run.high - run.low, run.first, run.net)):
            run.y = self._free_height(run)
            if run.y is None:
                passages = [path.passages[index] for path, index in run.members]
                return min(passages, key=lambda passage: (self._gap(passage)[1] - self._gap(passage)[0], passage))
            for path, index in run.members:
                path.heights[index] = run.y
        return None

    def _join(self, path: Path, index: int) -> None:
        """Add a passage to a run of its net, or begin a run."""
        passage = path.passages[index]
        low, high = self._gap(passage)
        for run in self._runs:
            shared = any(other.passages[at] == passage for other, at in run.members)
            goes_on = index > 0 and any(other is path and at == index - 1 for other, at in run.members)
            both = max(run.low, low), min(run.high, high)
            if run.net == path.reference.target and (shared or goes_on) and both[0] <= both[1]:
                run.members.append((path, index))
                run.first, run.last = min(run.first, passage[0]), max(run.last, passage[0])
                run.low, run.high = both
                return
        self._runs.append(_Run(path.reference.target, [(path, index)], passage[0], passage[0], low, high))

    def _free_height(self, run: _Run) -> int | None:
        """Return the height nearest to the ends of the run's lines that is clear of everything else."""
        wanted = {y for path, _ in run.members for y in (path.y1, path.y2)}
        nearest = {min(max(y, run.low), run.high) for y in wanted}
        reach = range(0, 2 * LANE * (len(self._runs) + 20), 2)
        candidates = {y + sign * far for y in nearest for far in reach for sign in (1, -1)}
        fitting = [y for y in candidates if run.low <= y <= run.high and self._is_clear(run, y)]
        return min(fitting, key=lambda y: (sum(abs(y - end) for end in wanted), y), default=None)

    def _is_clear(self, run: _Run, y: int) -> bool:
        for other in self._runs:
            beside = other.first <= run.last + 1 and run.first <= other.last + 1
            if other is not run and other.y is not None and beside and abs(y - other.y) < LANE:
                return False
        for path in self.paths:
            for gutter, end in ((path.start, path.y1), (path.end, path.y2)):
                straight = y == end and path.reference.target == run.net
                if run.first <= gutter <= run.last + 1 and abs(y - end) < _CLEAR and not straight:
                    return False
        return True


def _in_step(offset: int, column: int) -> int:
    """Return the height next to an offset at which a column's rows are not level with its neighbours'."""
    return ROW * round(offset / ROW) + _SHIFTS[column % len(_SHIFTS)]
