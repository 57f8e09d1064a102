"""`alembic/snapshots/00N.json`: what a database must hold at each revision, for review and comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory

from neuraknot_db.errors import RefusedError
from neuraknot_db.schema.catalog import Column, Constraint, Function, Index, Object, Schema, Table, Trigger

_PARTS = {"columns": Column, "constraints": Constraint, "indexes": Index, "triggers": Trigger}
_LINE = 100


def folder(script: ScriptDirectory) -> Path:
    """Return the folder with the snapshots, the measured effects and the sample rows."""
    return Path(script.dir) / "snapshots"


def path_of(script: ScriptDirectory, revision: str) -> Path:
    """Return the path of a revision's snapshot."""
    return folder(script) / f"{revision}.json"


def load(script: ScriptDirectory, revision: str) -> Schema:
    """Return the schema that a database at `revision` must hold.

    Raises:
        RefusedError: its snapshot does not exist or can't be read.
    """
    path = path_of(script, revision)
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RefusedError(
            f"There is no snapshot of revision {revision}: nothing says what a database should hold there.",
            hint="Write the missing snapshots into alembic/snapshots: neuraknot-db snapshot",
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"The snapshot {path.name} can't be read: {type(error).__name__}: {error}.",
            hint="Write it anew: neuraknot-db snapshot",
        ) from error


def load_all(script: ScriptDirectory) -> Mapping[str, Schema]:
    """Return every snapshot by revision, oldest first; revisions without a snapshot are left out."""
    return {revision: load(script, revision) for revision in revisions(script) if path_of(script, revision).exists()}


def table_names(script: ScriptDirectory) -> frozenset[str]:
    """Return the names of this project's tables at any revision."""
    return frozenset(name for schema in load_all(script).values() for name in schema.tables)


def summary(schema: Schema) -> Sequence[str]:
    """Return a line for each table: its name, and how many parts of each kind it has."""
    width = max(map(len, schema.tables), default=0)
    return [
        f"{name:<{width}}" + "".join(_counted(len(getattr(table, part)), part) for part in _PARTS).rstrip()
        for name, table in sorted(schema.tables.items())
    ]


def _counted(count: int, parts: str) -> str:
    noun = parts if count != 1 else {"indexes": "index"}.get(parts, parts.removesuffix("s"))
    return f"  {count:>3} {noun:<{len(parts)}}"


def revisions(script: ScriptDirectory) -> Sequence[str]:
    """Return every revision, oldest first."""
    return [found.revision for found in script.walk_revisions()][::-1]


def render(revision: str, schema: Schema) -> str:
    """Return a snapshot's text: a line for each part of a table or view, line of a function or query, and other object.

    Defaults (valid, enabled, uncommented) are not written, nor are views and other objects if there are none.
    """
    document: dict[str, Any] = {
        "revision": revision,
        "extensions": list(schema.extensions),
        "tables": {name: _table_document(table) for name, table in sorted(schema.tables.items())},
        "functions": {
            function.signature: {
                "returns": function.returns,
                "language": function.language,
                "definition": function.definition.removesuffix("\n").split("\n"),
            }
            for function in schema.functions.values()
        },
    }
    if schema.views:
        document["views"] = {name: _table_document(view) for name, view in sorted(schema.views.items())}
    if schema.others:
        document["others"] = [_unusual(other) for other in schema.others.values()]
    return _layout(document, "") + "\n"


def parse(text: str) -> Schema:
    """Return the schema that `render` wrote.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: the text is not a snapshot.
    """
    document = json.loads(text)
    return Schema(
        tables={name: _table(name, found) for name, found in document["tables"].items()},
        functions={
            signature: Function(signature, found["returns"], found["language"], "\n".join(found["definition"]) + "\n")
            for signature, found in document["functions"].items()
        },
        extensions=tuple(document["extensions"]),
        views={name: _table(name, found) for name, found in document.get("views", {}).items()},
        others={f"{found['kind']} {found['name']}": Object(**found) for found in document.get("others", ())},
    )


def _table_document(table: Table) -> dict[str, Any]:
    document: dict[str, Any] = {"commented": True} if table.commented else {}
    if table.kind != "table":
        document |= {"kind": table.kind, "definition": table.definition.split("\n")}
    if table.traits:
        document["traits"] = list(table.traits)
    for part in _PARTS:
        document[part] = [_unusual(value) for value in getattr(table, part).values()]
    return document


def _unusual(value: Any) -> dict[str, Any]:
    """Return a part's attributes that have no default, or differ from it."""
    pairs = ((attribute, getattr(value, attribute.name)) for attribute in fields(value))
    return {
        attribute.name: found
        for attribute, found in pairs
        if attribute.default in (MISSING, None) or found != attribute.default
    }


def _table(name: str, document: Mapping[str, Any]) -> Table:
    parts = {part: {found["name"]: kind(**found) for found in document[part]} for part, kind in _PARTS.items()}
    return Table(
        name,
        **parts,
        traits=tuple(document.get("traits", ())),
        commented=document.get("commented", False),
        kind=document.get("kind", "table"),
        definition="\n".join(document.get("definition", ())),
    )


def _layout(value: Any, indent: str) -> str:
    """Return JSON with innermost objects, and innermost lists that are short, on one line."""
    line = json.dumps(value, ensure_ascii=False)
    items: Iterable[str]
    if isinstance(value, dict):
        if not any(isinstance(item, dict | list) for item in value.values()):
            return line
        items = (f"{json.dumps(key)}: {_layout(item, indent + '  ')}" for key, item in value.items())
    elif isinstance(value, list):
        if not any(isinstance(item, dict | list) for item in value) and len(line) <= _LINE:
            return line
        items = (_layout(item, indent + "  ") for item in value)
    else:
        return line
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + ",".join(f"\n{indent}  {item}" for item in items) + f"\n{indent}{closing}"
