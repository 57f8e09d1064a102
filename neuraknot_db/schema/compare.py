"""The differences between a live schema and a snapshot, one line each."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from neuraknot_db.schema.catalog import Column, Constraint, Index, Object, Schema, Table, Trigger
from neuraknot_db.schema.equivalence import RESPELLED, Spelling

_Part = TypeVar("_Part")
_Commented = Table | Column | Constraint

# The downgrade to 003 restores this check for new and changed rows only: old rows may hold values it does not list.
_MAY_BE_NOT_VALID = {("ai_agents", "chk_model")}


@dataclass(frozen=True)
class Difference:
    """One difference from the expected schema.

    Attributes:
        object: the object, such as `users.email` or `update_updated_at_column()`.
        aspect: what differs: `table`, `view`, `enum`, `column`, `type`, `default`, `index`, `function` and so on.
        live: what exists; None for nothing.
        expected: what should exist; None for nothing.
        remark: a sentence for the reader.
    """

    object: str
    aspect: str
    live: str | None
    expected: str | None
    remark: str = ""

    def __str__(self) -> str:
        if self.live is not None and self.expected is not None and "\n" in self.live + self.expected:
            line = f"{self.object}: {self.aspect} text differs (verify --json shows both)"
        elif self.live is None:
            line = f"{self.object}: {self.aspect} missing" + (f", expected {self.expected}" if self.expected else "")
        elif self.expected is None:
            line = f"{self.object}: unexpected {self.aspect}" + (f" {self.live}" if self.live else "")
        else:
            line = f"{self.object}: {self.aspect} {self.live}, expected {self.expected}"
        return f"{line} ({self.remark})" if self.remark else line

    @property
    def is_function_text(self) -> bool:
        """Whether it is the same function with a different text."""
        return self.aspect == "function" and None not in (self.live, self.expected)

    @property
    def diff(self) -> tuple[str, ...]:
        """A unified diff from what exists to what should, as lines."""
        live, expected = ((text or "").splitlines() for text in (self.live, self.expected))
        return tuple(
            difflib.unified_diff(live, expected, f"database: {self.object}", f"revision: {self.object}", lineterm="")
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints for it."""
        return {**asdict(self), "line": str(self)}


def compare(live: Schema, expected: Schema, spelling: Spelling) -> tuple[Difference, ...]:
    """Return the differences of our extensions, tables, views, functions and other objects, in this order.

    The order of columns and the text of comments are ignored, and so is what `expected` does not contain: other
    tables, functions, types and so on.

    Args:
        live: what the database holds.
        expected: what it should hold.
        spelling: which checks, views and domains are equal though spelled differently.
    """
    return tuple(_differences(live, expected, spelling))


def strangers(live: Schema, expected: Schema, known: Iterable[Schema]) -> tuple[Difference, ...]:
    """Return as differences what `expected` lacks, the database holds, and another revision makes: it is ours.

    Args:
        live: what the database holds.
        expected: what one revision's should hold.
        known: what each revision's should hold.
    """
    ours = frozenset().union(*map(_names, known)) - _names(expected)
    return tuple(Difference(name, kind, "", None) for kind, name in sorted(_names(live) & ours))


def notes(live: Schema, expected: Schema) -> tuple[str, ...]:
    """Return remarks that are not differences."""
    return tuple(_notes(live, expected))


def missing_tables(live: Schema, expected: Schema) -> tuple[str, ...]:
    """Return the tables that should exist but don't."""
    return tuple(name for name in expected.tables if name not in live.tables)


def _differences(live: Schema, expected: Schema, spelling: Spelling) -> Iterator[Difference]:
    for extension in expected.extensions:
        if extension not in live.extensions:
            yield Difference(extension, "extension", None, "")
    relations = live.relations
    for name, table in expected.relations.items():
        there = relations.get(name) or live.others.get(f"sequence {name}")
        if isinstance(there, Table) and there.kind == table.kind:
            yield from _table(there, table, spelling)
        else:
            yield Difference(name, table.kind, None, "", f"a {there.kind} has its name" if there else "")
    for signature, function in expected.functions.items():
        found = live.functions.get(signature)
        if found is None:
            yield Difference(signature, "function", None, f"RETURNS {function.returns} LANGUAGE {function.language}")
        elif found.returns != function.returns:
            yield Difference(signature, "result", str(found.returns), str(function.returns))
        elif found != function:
            yield Difference(signature, "function", found.definition, function.definition)
    for key, other in expected.others.items():
        if key in live.others:
            yield from _definition(live.others[key], other, spelling)
        else:
            yield Difference(other.name, other.kind, None, "" if "\n" in other.definition else other.definition)


def _definition(live: Table | Object, expected: Table | Object, spelling: Spelling) -> Iterator[Difference]:
    if live.definition != expected.definition and not spelling.same(live.name, live.definition, expected.definition):
        remark = spelling.obstacle if expected.kind in RESPELLED else ""
        yield Difference(live.name, live.kind, live.definition, expected.definition, remark)


def _table(live: Table, expected: Table, spelling: Spelling) -> Iterator[Difference]:
    def constraint(name: str, found: Constraint, wanted: Constraint) -> Iterator[Difference]:
        same_words = found.definition == wanted.definition or spelling.same(
            live.name, found.definition, wanted.definition
        )
        may_be_not_valid = not wanted.validated or (live.name, found.name) in _MAY_BE_NOT_VALID
        if not (same_words and (found.validated or may_be_not_valid) and found.enforced):
            remark = "" if same_words else spelling.obstacle
            yield Difference(name, "constraint", str(found), str(wanted), remark)

    if live.traits != expected.traits:
        traits = (", ".join(table.traits) or "ordinary" for table in (live, expected))
        yield Difference(live.name, live.kind, *traits)
    yield from _definition(live, expected, spelling)
    yield from _comment(live.name, live, expected)
    yield from _parts(live.name, "column", live.columns, expected.columns, _column)
    yield from _parts(live.name, "constraint", live.constraints, expected.constraints, constraint)
    yield from _parts(live.name, "index", live.indexes, expected.indexes, _index_or_trigger)
    yield from _parts(live.name, "trigger", live.triggers, expected.triggers, _index_or_trigger)


def _parts(
    table: str,
    aspect: str,
    live: Mapping[str, _Part],
    expected: Mapping[str, _Part],
    differences: Callable[[str, _Part, _Part], Iterator[Difference]],
) -> Iterator[Difference]:
    """Yield parts that only one side has, and what `differences` finds in those that both have."""
    for name, wanted in expected.items():
        if name in live:
            yield from differences(f"{table}.{name}", live[name], wanted)
            if isinstance(wanted, Column | Constraint) and isinstance(found := live[name], Column | Constraint):
                yield from _comment(f"{table}.{name}", found, wanted)
        else:
            yield Difference(f"{table}.{name}", aspect, None, str(wanted))
    for name, found in live.items():
        if name not in expected:
            yield Difference(f"{table}.{name}", aspect, str(found), None)


def _comment(name: str, live: _Commented, expected: _Commented) -> Iterator[Difference]:
    if expected.commented and not live.commented:
        yield Difference(name, "comment", None, None)


def _column(name: str, live: Column, expected: Column) -> Iterator[Difference]:
    if live.type != expected.type:
        yield Difference(name, "type", live.type, expected.type)
    if live.nullable != expected.nullable:
        words = ("NULL allowed" if column.nullable else "NOT NULL" for column in (live, expected))
        yield Difference(name, "nullability", *words)
    if live.default != expected.default:
        yield Difference(name, "default", live.default or "none", expected.default or "none")
    if live.options != expected.options:
        yield Difference(name, "column", live.options or "ordinary", expected.options or "ordinary")


def _index_or_trigger(name: str, live: Index | Trigger, expected: Index | Trigger) -> Iterator[Difference]:
    if live != expected:
        yield Difference(name, type(live).__name__.lower(), str(live), str(expected))


def _notes(live: Schema, expected: Schema) -> Iterator[str]:
    for table, name in sorted(_MAY_BE_NOT_VALID):
        found = live.tables.get(table, Table(table)).constraints.get(name)
        if found and not found.validated:
            yield f"{table}.{name} is NOT VALID, as a downgrade leaves it: it binds new and changed rows only"
    for what, names in (
        ("table", [name for name in live.tables if name not in expected.tables]),
        ("function", [name for name in live.functions if name not in expected.functions]),
        ("extension", [name for name in live.extensions if name not in expected.extensions]),
    ):
        yield from _listed(f"other {what}", names)
    others = defaultdict(list)
    for kind, name in sorted(_others(live) - _others(expected)):
        others[kind].append(name)
    for kind, names in others.items():
        yield from _listed(f"other {kind}", names)


def _names(schema: Schema) -> set[tuple[str, str]]:
    """Return kind and name of all but extensions."""
    return (
        _others(schema)
        | {("table", name) for name in schema.tables}
        | {("function", name) for name in schema.functions}
    )


def _others(schema: Schema) -> set[tuple[str, str]]:
    """Return kind and name of all that is neither table nor function."""
    views = {(view.kind, view.name) for view in schema.views.values()}
    return views | {(other.kind, other.name) for other in schema.others.values()}


def _listed(what: str, names: Iterable[str]) -> Iterator[str]:
    listed = ", ".join(sorted(names))
    if listed:
        yield f"{what}: {listed}"
