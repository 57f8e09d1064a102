"""The picture as an SVG: readable on light and dark pages, with common fonts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from neuraknot_db.dev.diagram.layout import Line, Placed, Point, lay_out
from neuraknot_db.dev.diagram.picture import Picture, Reference, Row
from neuraknot_db.dev.diagram.placement import (
    CHARACTER,
    HEADER,
    MARK,
    NOTE,
    NULL,
    ROW,
    names_at,
    note_lines,
    text_width,
)

_MARGIN, _TITLE, _LEGEND = 32, 48, 76
_RADIUS = 7

_HUES = (
    # For a light page, for a dark one.
    ("#2563eb", "#7aa7ff"),
    ("#c2410c", "#fb9a5c"),
    ("#0f766e", "#3ecfb8"),
    ("#9333ea", "#c792fa"),
    ("#be185d", "#f587b8"),
    ("#4d7c0f", "#a3d14b"),
    ("#0e7490", "#4cc9e6"),
    ("#a16207", "#e3b93c"),
)
_PLAIN = ("#64748b", "#94a3b8")

_STYLE = """\
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace }
.title { font-size: 17px; font-weight: 700 }
.name { font-size: 13.5px; font-weight: 700 }
.mark { font-size: 9.5px; font-weight: 700; letter-spacing: .3px }
.type, .null, .under, .note { fill: FAINT }
.null, .under, .action { font-size: 10.5px }
.null, .action { font-style: italic }
.note { font-size: 11px }
.end { text-anchor: end }
text { fill: INK }
.page { fill: PAGE }
.box { fill: BOX; stroke: EDGE }
.rule { stroke: RULE }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round }
.halo { fill: none; stroke: PAGE; stroke-width: 5 }
.optional { stroke-dasharray: 4 3.5 }
.tint { opacity: .16 }
"""
_COLORS = (
    {"INK": "#0f172a", "FAINT": "#64748b", "PAGE": "#f8fafc", "BOX": "#ffffff", "EDGE": "#cbd5e1", "RULE": "#eef2f6"},
    {"INK": "#e6edf3", "FAINT": "#93a1b3", "PAGE": "#0d1117", "BOX": "#161b22", "EDGE": "#39434f", "RULE": "#212831"},
)


def render(picture: Picture, title: str) -> str:
    """Return the diagram's text."""
    layout = lay_out(picture)
    targets = sorted({reference.target for reference in picture.references})
    hues = {target: index % len(_HUES) for index, target in enumerate(targets)}
    width = max(layout.width, 790) + 2 * _MARGIN
    height = layout.height + _TITLE + _LEGEND + 2 * _MARGIN
    left = _MARGIN + (width - 2 * _MARGIN - layout.width) // 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' role="img" aria-label={quoteattr(title)}>',
        f"<title>{escape(title)}</title>",
        "<style>",
        *_styles(len(targets)),
        "</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="12"/>',
        f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 14}">{escape(title)}</text>',
        f'<g transform="translate({left} {_MARGIN + _TITLE})">',
    ]
    for target in targets:
        lines += _net([line for line in layout.lines if line.reference.target == target], hues[target])
    for placed in layout.boxes:
        lines += _box(placed, picture.references, hues)
    lines += ["</g>", *_legend(height - _MARGIN), "</svg>"]
    return "\n".join(lines) + "\n"


def _styles(count: int) -> Iterator[str]:
    """Yield light colours, and dark ones for a dark page; no CSS variables, which some viewers don't support."""
    light, dark = (_colored(colors) for colors in _COLORS)
    yield from light
    yield from _hue_styles(count, 0)
    yield "@media (prefers-color-scheme: dark) {"
    yield from (after for before, after in zip(light, dark, strict=True) if before != after)
    yield from _hue_styles(count, 1)
    yield "}"


def _colored(colors: dict[str, str]) -> list[str]:
    style = _STYLE
    for name, color in colors.items():
        style = style.replace(name, color)
    return style.splitlines()


def _hue_styles(count: int, page: int) -> Iterator[str]:
    hues = {"plain": _PLAIN, **{f"hue{index}": hue for index, hue in enumerate(_HUES[:count])}}
    for name, hue in hues.items():
        yield f".{name} {{ fill: {hue[page]} }} .line.{name} {{ fill: none; stroke: {hue[page]} }}"


def _net(lines: Sequence[Line], hue: int) -> Iterator[str]:
    """Yield the lines to one table; a halo interrupts the earlier lines that they cross.

    They are drawn from the table outwards, so that the dashes of two lines coincide on a shared route.
    """
    for line in lines:
        yield f'<path class="halo" d="{_path(line.points[::-1])}"/>'
    # Solid ones last: a shared route is drawn solid.
    for line in sorted(lines, key=lambda line: not line.reference.optional):
        optional = " optional" if line.reference.optional else ""
        yield f"<g><title>{escape(str(line.reference))}</title>"
        yield f'<path class="line hue{hue}{optional}" d="{_path(line.points[::-1])}"/>'
        yield f'<path class="line hue{hue}" d="{_ends(line)}"/></g>'


def _path(points: Sequence[Point]) -> str:
    """Return a line with rounded corners."""
    first, *middle, last = points
    parts = [f"M{first[0]} {first[1]}"]
    for index, corner in enumerate(middle, start=1):
        before, after = points[index - 1], points[index + 1]
        radius = min(_RADIUS, _distance(before, corner) / 2, _distance(corner, after) / 2)
        start, end = _towards(corner, before, radius), _towards(corner, after, radius)
        parts.append(f"L{start} Q{corner[0]} {corner[1]} {end}")
    return " ".join([*parts, f"L{last[0]} {last[1]}"])


def _distance(one: Point, two: Point) -> int:
    return abs(one[0] - two[0]) + abs(one[1] - two[1])


def _towards(point: Point, other: Point, far: float) -> str:
    step = [(there > here) - (there < here) for here, there in zip(point, other, strict=True)]
    return f"{point[0] + step[0] * far:g} {point[1] + step[1] * far:g}"


def _ends(line: Line) -> str:
    """Return a crow's foot if many rows refer, a bar if one does, and a bar at the referenced row."""
    (x1, y1), (x2, y2) = line.points[0], line.points[-1]
    out = 1 if line.points[1][0] > x1 else -1
    back = 1 if line.points[-2][0] > x2 else -1
    foot = f"M{x1 + 8 * out} {y1 - 5}v10" if line.reference.single else f"M{x1} {y1 - 5}l{11 * out} 5l{-11 * out} 5"
    return f"{foot} M{x2 + 8 * back} {y2 - 5}v10"


def _box(placed: Placed, references: Sequence[Reference], hues: dict[str, int]) -> Iterator[str]:
    box, width, height = placed.box, placed.width, placed.height
    hue = f"hue{hues[box.name]}" if box.name in hues else "plain"
    keys = {column: each.target for each in references if each.table == box.name for column in each.columns}
    yield f'<g transform="translate({placed.x} {placed.y})">'
    yield f'<rect class="box" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="7"/>'
    header = f"M1 {HEADER - 2}V8Q1 1 8 1H{width - 8}Q{width - 1} 1 {width - 1} 8V{HEADER - 2}z"
    yield f'<path class="tint {hue}" d="{header}"/>'
    yield f'<path class="{hue}" d="M1 {HEADER - 3}h{width - 2}v1.5H1z"/>'
    yield f'<text class="name" x="12" y="21">{escape(box.name)}</text>'
    for index, row in enumerate(box.rows):
        mark_hue = f"hue{hues[keys[row.name]]}" if keys.get(row.name) in hues else "plain"
        y = HEADER + ROW * index
        yield from _row(row, y, names_at(box), width, last=index == len(box.rows) - 1, hue=mark_hue, own=hue)
    y = HEADER + ROW * len(box.rows)
    yield f'<path class="rule" d="M1 {y}.5h{width - 2}"/>' if box.notes else ""
    for index, (line, mark) in enumerate(note_lines(box)):
        lower = y + 16 + NOTE * index
        yield f'<text class="mark plain" x="12" y="{lower}">{mark}</text>' if mark else ""
        yield f'<text class="under" x="{12 + MARK}" y="{lower}">{escape(line)}</text>'
    yield "</g>"


def _row(row: Row, y: int, names: int, width: int, *, last: bool, hue: str, own: str) -> Iterator[str]:
    for index, mark in enumerate(row.marks):
        shade = {"PK": own, "FK": hue}.get(mark, "plain")
        yield f'<text class="mark {shade}" x="{12 + MARK * index}" y="{y + 15}">{mark}</text>'
    yield f'<text x="{names}" y="{y + 15.5}">{escape(row.name)}</text>'
    if row.on_delete:
        after = names + text_width(row.name) + CHARACTER
        yield f'<text class="action {hue}" x="{after:g}" y="{y + 15.5}">{escape(row.on_delete)}</text>'
    yield f'<text class="type end" x="{width - NULL - 8}" y="{y + 15.5}">{escape(row.type)}</text>'
    if row.nullable:
        yield f'<text class="null end" x="{width - 10}" y="{y + 15.5}">null</text>'
    if not last:
        yield f'<path class="rule" d="M{names} {y + ROW}.5H{width - 10}"/>'


_MARKS = (
    (
        ("mark", "PK", "primary key"),
        ("mark", "FK", "foreign key, in the color of the table that it refers to"),
        ("mark", "UQ", "unique"),
        ("mark", "IX", "index"),
        ("null", "null", "may be NULL"),
    ),
    (("action", "CASCADE, SET NULL", "when the row that it refers to is deleted; no word: that row can't be deleted"),),
)


def _legend(y: int) -> Iterator[str]:
    for line, items in enumerate(_MARKS):
        x = float(_MARGIN)
        for style, mark, words in items:
            yield f'<text class="{style} plain" x="{x:g}" y="{y - 40 + 20 * line}">{mark}</text>'
            x += text_width(mark) + 4
            yield f'<text class="note" x="{x:g}" y="{y - 40 + 20 * line}">{words}</text>'
            x += text_width(words) * 11 / 12 + 22
    x = float(_MARGIN)
    samples = (
        ("", f"M{{0}} {y - 9}l11 5l-11 5 M{{0}} {y - 4}h34", "many rows refer to one"),
        ("optional", f"M{{0}} {y - 4}h34", "the reference may be NULL"),
    )
    for style, shape, words in samples:
        yield f'<path class="line plain {style}" d="{shape.format(int(x))}"/>'
        x += 42
        yield f'<text class="note" x="{x:g}" y="{y}">{words}</text>'
        x += text_width(words) * 11 / 12 + 22
