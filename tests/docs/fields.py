"""The JSON objects that the reference has fields for, and those that a value holds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests.docs.documents import demand_all, read
from tests.projects import ROOT

FREE = {"values": "NAME", "seconds": "STEP"}
"""Objects whose keys are no fields, but names of their own."""


Fields = dict[str, set[str]]
"""By path to the object."""


def documented(heading: str) -> Fields:
    """The fields of each object in a table of the reference."""
    [table] = (each for each in read(ROOT / "docs" / "reference.md").tables if each.heading == heading)
    return {row[0].spans[0]: set(filter(re.compile(r"[a-z0-9_]+").fullmatch, row[1].spans)) for row in table.rows[1:]}


def printed(label: str, *values: Any) -> Fields:
    """The fields of each object in what was printed, in any of the values."""
    found: dict[str, set[str]] = defaultdict(set)
    for value in values:
        for path, keys in _objects(label, value):
            found[path] |= keys
    return dict(found)


def demand_all_fields(told: Fields, real: Fields) -> None:
    """The reference tells of all fields, and of no others."""
    demand_all(*({f"{path} {name}" for path, names in each.items() for name in names} for each in (told, real)))


def _objects(path: str, value: Any) -> Iterator[tuple[str, set[str]]]:
    if isinstance(value, list):
        for each in value:
            yield from _objects(f"{path}[]", each)
    elif isinstance(value, dict):
        named = FREE.get(path.rpartition(".")[2])
        if not named:
            yield path, set(value)
        for key, each in value.items():
            yield from _objects(f"{path}.{named or key}", each)
