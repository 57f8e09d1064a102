"""The pictures of the schema: what they show, and that no line runs through a box."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from alembic.script import ScriptDirectory
from hypothesis import given, settings
from hypothesis import strategies as st

from neuraknot_db.dev.diagram import draw
from neuraknot_db.dev.diagram.layout import Layout, lay_out
from neuraknot_db.dev.diagram.picture import Box, Note, Picture, Reference, Row, picture
from neuraknot_db.dev.diagram.placement import (
    HEADER,
    MARK,
    NOTE,
    NULL,
    ROW,
    SMALL,
    action_width,
    names_at,
    note_lines,
    size,
    text_width,
)
from neuraknot_db.schema import snapshots
from neuraknot_db.schema.catalog import Schema, read_schema
from tests.db.conftest import Database
from tests.db.forking import BIN
from tests.projects import PROJECT, REVISIONS, ROOT


def diagram(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Without any database in the environment: none is needed.
    return subprocess.run(
        [BIN / "neuraknot-db", "diagram", *arguments], cwd=PROJECT, env={}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.slow
def test_without_a_file_the_mermaid_text_is_on_standard_output(tmp_path: Path) -> None:
    assert diagram("-o", str(tmp_path / "x.mmd")).returncode == 0
    assert diagram().stdout == (tmp_path / "x.mmd").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "words"), [("x.png", "can't be written as .png"), ("/nowhere/x.svg", "No such file or directory")]
)
def test_a_file_that_cannot_be_written_is_wrong_usage(output: str, words: str) -> None:
    done = diagram("-o", output)
    assert done.returncode == 2
    assert words in done.stderr


# What is drawn of a schema ---------------------------------------------------------------------------------------

ODD = """
CREATE TABLE parent (id int PRIMARY KEY, code varchar(9) UNIQUE, at timestamp(3) with time zone, "a b" int,
    UNIQUE (code, at));
CREATE TABLE "Odd, (name" (
    id int PRIMARY KEY REFERENCES parent,
    boss int REFERENCES "Odd, (name" ON DELETE SET NULL,
    "x ""y"" z" numeric(3,2)[] NOT NULL,
    code varchar(9), at timestamptz(3),
    FOREIGN KEY (code, at) REFERENCES parent (code, at) ON UPDATE CASCADE ON DELETE SET DEFAULT
);
CREATE SCHEMA other;
CREATE TABLE other.elsewhere (id int PRIMARY KEY);
CREATE TABLE guest (id int REFERENCES other.elsewhere);
CREATE INDEX ON parent (at DESC);
CREATE INDEX ON "Odd, (name" (boss);
CREATE UNIQUE INDEX ON parent ("a b");
CREATE UNIQUE INDEX ON parent (at, code) INCLUDE ("a b") WHERE code = 'a, (b' AND at IS NOT NULL;
CREATE INDEX ON "Odd, (name" (lower(code), boss DESC, code varchar_pattern_ops);
CREATE INDEX ON "Odd, (name" USING hash (code);
"""


@pytest.fixture
def odd(database: Database) -> Schema:
    database.run(ODD)
    with database.engine().connect() as connection:
        return read_schema(connection)


def test_references_are_read_from_the_servers_definitions(odd: Schema) -> None:
    odd_name = "Odd, (name"
    assert set(picture(odd).references) == {
        Reference(odd_name, ("id",), "parent", ("id",), single=True),
        Reference(odd_name, ("boss",), odd_name, ("id",), optional=True, on_delete="SET NULL"),
        Reference(odd_name, ("code", "at"), "parent", ("code", "at"), optional=True, on_delete="SET DEFAULT"),
    }


def test_rows_carry_their_marks_and_short_types(odd: Schema) -> None:
    boxes = {box.name: box for box in picture(odd).boxes}
    assert boxes["parent"].rows == (
        Row("id", "integer", False, ("PK",)),
        Row("code", "varchar(9)", True, ("UQ",)),
        Row("at", "timestamptz(3)", True, ("IX",)),
        Row("a b", "integer", True, ("UQ",)),
    )
    assert boxes["Odd, (name"].rows[0].marks == ("PK", "FK")
    assert boxes["Odd, (name"].rows[2] == Row('x "y" z', "numeric(3,2)[]", False)
    assert boxes["Odd, (name"].rows[1] == Row("boss", "integer", True, ("FK", "IX"), "SET NULL")
    assert boxes["Odd, (name"].rows[3] == Row("code", "varchar(9)", True, ("FK",), "SET DEFAULT")
    assert boxes["guest"].rows == (Row("id", "integer", True, ("FK",)),)


def test_what_no_mark_can_say_is_noted_below_the_columns(odd: Schema) -> None:
    boxes = {box.name: box for box in picture(odd).boxes}
    partial = """(at, code) INCLUDE ("a b") where (code = 'a, (b') AND (at IS NOT NULL)"""
    assert boxes["parent"].notes == (
        Note("UQ", ("code", "at"), "(code, at)"),
        Note("UQ", ("at", "code"), partial),
    )
    assert boxes["Odd, (name"].notes == (
        Note("IX", ("code",), "hash (code)"),
        Note("IX", ("boss", "code"), "(lower(code), boss DESC, code varchar_pattern_ops)"),
    )
    assert boxes["guest"].notes == ()


def test_every_word_has_its_place_in_its_box(odd: Schema) -> None:
    for box in picture(odd).boxes:
        width = size(box).width
        for row in box.rows:
            used = names_at(box) + text_width(row.name) + action_width(row) + text_width(row.type)
            assert used + NULL + 8 < width, row
        assert HEADER + ROW * len(box.rows) + NOTE * len(note_lines(box)) < size(box).height
        assert all(12 + MARK + text_width(line) * SMALL <= width for line, _ in note_lines(box))
        assert "".join(line for line, _ in note_lines(box)).replace(" ", "") == "".join(
            note.text for note in box.notes
        ).replace(" ", "")


def test_mermaid_gets_words_that_its_grammar_takes(odd: Schema) -> None:
    text = draw("odd", odd).split("erDiagram\n")[1]
    attribute = r'        [A-Za-z_][\w()\[\]-]* \w+( (PK|FK|UK)(, (PK|FK|UK))*)?( "[^"]*")?'
    entity = r'    (\w+|"[^"]+") \{|    \}'
    relation = r'    (\w+|"[^"]+") (\|\||\|o)--(o\{|o\|) (\w+|"[^"]+") : "[^"]*"'
    for line in text.splitlines():
        assert re.fullmatch(f"{attribute}|{entity}|{relation}", line), line
    assert """        numeric x_y_z "x 'y' z, numeric(3,2)[]"\n""" in text
    assert '    parent ||--o| "Odd, (name" : "id"' in text
    assert '    "Odd, (name" |o--o{ "Odd, (name" : "boss ON DELETE SET NULL"' in text
    assert '        integer boss FK "null, index, index (lower(code), boss DESC, code varchar_pattern_ops)"' in text
    assert '"null, unique (code, at)"' in text


def test_the_svg_is_xml_that_names_everything(odd: Schema) -> None:
    tree = ElementTree.fromstring(draw("a <title>", odd, suffix=".svg"))
    words = [element.text for element in tree.iter() if element.text and element.text.strip()]
    for expected in (
        "NeuraKnot, revision a <title>",
        "Odd, (name",
        'x "y" z',
        "numeric(3,2)[]",
        "SET NULL",
        "(code, at)",
    ):
        assert expected in words
    assert "Odd, (name.boss → Odd, (name.id, ON DELETE SET NULL" in words


def test_an_empty_schema_has_a_picture_too() -> None:
    assert draw("none", Schema()).endswith("erDiagram\n")
    ElementTree.fromstring(draw("none", Schema(), suffix=".svg"))


# How it is laid out ----------------------------------------------------------------------------------------------


ROWS = [Row(f"c{number}", "int", True) for number in range(9)]
LONG_NOTE = Note("IX", (), "(c0, c1) where something long, so that the note goes on")


@st.composite
def pictures(choose: Callable[..., int]) -> Picture:
    """Tables of many shapes that refer to each other in any way, themselves included."""
    names = [f"table_{number}" for number in range(choose(st.integers(1, 7)))]
    boxes = {
        name: Box(name, tuple(ROWS[: choose(st.integers(1, 9))]), (LONG_NOTE,) * choose(st.integers(0, 4)))
        for name in names
    }
    references = {}
    for _ in range(choose(st.integers(0, 12))):
        table, target = (names[choose(st.integers(0, len(names) - 1))] for _ in range(2))
        column = boxes[table].rows[choose(st.integers(0, len(boxes[table].rows) - 1))].name
        # One column seldom refers to two tables, and never to more.
        key = table, column, choose(st.integers(1, 5)) == 1
        references[key] = Reference(table, (column,), target, ("c0",))
    return Picture(tuple(boxes.values()), tuple(sorted(set(references.values()), key=str)))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(pictures())
def test_lines_and_boxes_never_lie_upon_each_other(drawn: Picture) -> None:
    layout = lay_out(drawn)
    assert len(layout.lines) == len(drawn.references)
    assert collisions(layout) == []


def test_neither_do_those_of_the_real_schema() -> None:
    script = ScriptDirectory(str(ROOT / "alembic"))
    assert collisions(lay_out(picture(snapshots.load(script, REVISIONS[-1])))) == []


def collisions(layout: Layout) -> list[str]:
    """What lies upon something else, a line each."""
    found = []
    for one, two in combinations(layout.boxes, 2):
        beside = one.x + one.width <= two.x or two.x + two.width <= one.x
        if not beside and one.y < two.y + two.height and two.y < one.y + one.height:
            found.append(f"{one.box.name} upon {two.box.name}")
    stretches = [Stretch(line.reference, *ends) for line in layout.lines for ends in sorted_pairs(line.points)]
    for each in stretches:
        (x1, y1), (x2, y2) = each.start, each.end
        if x1 != x2 and y1 != y2:
            found.append(f"{each.of} is askew")
        if not (0 <= x1 <= x2 <= layout.width and 0 <= y1 <= y2 <= layout.height):
            found.append(f"{each.of} leaves the page")
        for box in layout.boxes:
            # A level line may touch a box's side, where it ends; an upright one may not.
            touching = 0 if y1 == y2 else 1
            inside_x = x1 < box.x + box.width + touching and box.x < x2 + touching
            if inside_x and y1 < box.y + box.height and box.y < y2 + 1:
                found.append(f"{each.of} runs through {box.box.name}")
    for this, that in combinations(stretches, 2):
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = this.start, this.end, that.start, that.end
        upright, level = ax == bx == cx == dx, ay == by == cy == dy
        overlap = (upright and ay < dy and cy < by) or (level and ax < dx and cx < bx)
        if overlap and this.of.target != that.of.target:
            found.append(f"{this.of} lies upon {that.of}")
    return found


class Stretch(NamedTuple):
    of: Reference
    start: tuple[int, int]
    end: tuple[int, int]


def sorted_pairs(points: Iterable[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for one, two in pairwise(points):
        yield min(one, two), max(one, two)
