"""`alembic/snapshots/00N.effects.json`: the measured effects of a revision's statements on relations.

`neuraknot-db snapshot` measures them on a scratch database (`dev.measure`); `plan` and `lint` read them here. Relations
are named as in SQL under the search path `public`. Only relations that existed before the revision are listed: nobody
uses yet what it creates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory

from neuraknot_db.revisions.checksum import UPGRADE
from neuraknot_db.revisions.checksum import checksum as of_revision
from neuraknot_db.schema import snapshots

NAME = "CASE n.nspname WHEN 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END || quote_ident(c.relname)"
"""In a query of `pg_class c` and `pg_namespace n`: a relation's name in SQL under the search path `public`."""

LONGEST = 300
"""Maximum characters kept of a statement."""

INSERTED, UPDATED, UPDATED_ALL, DELETED = "inserted", "updated", "every row updated", "deleted"
"""Possible changes to rows."""

WITHOUT_ROWS = "measured without rows: with the sample rows it fails: "
"""The start of the note if only that was possible."""

_LOCKS = ("lock", "index_lock")


class LockMode(IntEnum):
    """PostgreSQL's table locks, weakest first (https://www.postgresql.org/docs/current/explicit-locking.html)."""

    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    def __str__(self) -> str:
        return self.name.replace("_", " ")

    @property
    def blocks(self) -> str:
        """What the application can't do with the table meanwhile, in words; empty for nothing."""
        if self == LockMode.ACCESS_EXCLUSIVE:
            return "reads and writes"
        return "writes" if self >= LockMode.SHARE else ""


BY_NAME: Mapping[str, LockMode] = {mode.name.title().replace("_", "") + "Lock": mode for mode in LockMode}
"""The modes by their names in `pg_locks`."""


@dataclass(frozen=True)
class Effect:
    """What a statement does to a relation.

    Attributes:
        relation: its name.
        kind: what it is if not a table: `sequence`, `view`.
        lock: the strongest lock that the transaction did not hold before; None for none.
        index_lock: the lock on one of its indexes, if stronger than that on the table.
        dropped: it is dropped.
        emptied: every row is removed (TRUNCATE).
        rewritten: it is rewritten, with its indexes.
        index_built: an index is built on it, which reads every row.
        scanned: every row is read.
        rows_changed: `inserted`, `updated` or `every row updated`, `deleted`.
        columns_dropped: the dropped columns.
        columns_retyped: the columns whose type changes.
    """

    relation: str
    kind: str = ""
    lock: LockMode | None = None
    index_lock: LockMode | None = None
    dropped: bool = False
    emptied: bool = False
    rewritten: bool = False
    index_built: bool = False
    scanned: bool = False
    rows_changed: tuple[str, ...] = ()
    columns_dropped: tuple[str, ...] = ()
    columns_retyped: tuple[str, ...] = ()

    @property
    def work(self) -> str:
        """The work done under the lock, in words."""
        if self.dropped or self.emptied:
            return "every row goes"
        columns = f", {', '.join(self.columns_dropped)} goes" if self.columns_dropped else ""
        if self.rewritten:
            return f"writes the whole table and its indexes anew{columns}"
        if self.index_built:
            return f"reads every row to build an index{columns}"
        parts = ["reads every row"] if self.scanned else []
        parts += [f"rows {', '.join(self.rows_changed)}"] if self.rows_changed else []
        return f"{', '.join(parts) or 'catalogs only'}{columns}"

    @property
    def takes_time(self) -> bool:
        """Whether its duration grows with the table."""
        return self.rewritten or self.index_built or self.scanned

    def stronger(self, other: Effect) -> Effect:
        """Combine two effects on the same relation."""

        def of(name: str) -> Any:
            one, two = getattr(self, name), getattr(other, name)
            if isinstance(one, tuple):
                return tuple(dict.fromkeys((*one, *two)))
            return max(one or 0, two or 0) or (None if name in _LOCKS else False)

        names = (each.name for each in fields(self) if each.name not in ("relation", "kind"))
        return replace(self, **{name: of(name) for name in names})


@dataclass(frozen=True)
class Measured:
    """A measured statement.

    Attributes:
        line: its line in the revision's file.
        sql: in one line, cut if it is long.
        effects: one per relation, in the order of their names.
        note: why it may behave differently elsewhere; empty if there is no reason.
        left_out: the statements of its code that were not run, and so not measured.
    """

    line: int
    sql: str
    effects: tuple[Effect, ...] = ()
    note: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """The note, with what was left out."""
        return "; ".join(filter(None, (self.note, f"not measured: {', '.join(self.left_out)}" * bool(self.left_out))))

    def changes_rows_of(self, effect: Effect) -> bool:
        """Whether it changes or deletes existing rows of a relation, even if no sample row was."""
        changed = not {UPDATED, UPDATED_ALL, DELETED}.isdisjoint(effect.rows_changed)
        names_it = self.sql.lower().startswith(("update", "delete", "merge")) and effect.lock == LockMode.ROW_EXCLUSIVE
        return changed or names_it


@dataclass(frozen=True)
class Measurement:
    """A revision's upgrade or downgrade.

    Attributes:
        statements: those that affect a relation that existed before, in order.
        failure: why the rest could not be measured; empty if all was.
    """

    statements: tuple[Measured, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Effects:
    """The effects of a revision.

    Attributes:
        checksum: of the revision that was measured.
        server: the major version of the server that measured it.
        reset: why a reset fails at it, which runs all revisions in one transaction; empty if it does not.
    """

    checksum: str
    server: int
    upgrade: Measurement = field(default_factory=Measurement)
    downgrade: Measurement = field(default_factory=Measurement)
    reset: str = ""

    def measurement(self, *, downgrade: bool) -> Measurement:
        """Return one direction."""
        return self.downgrade if downgrade else self.upgrade


def checksum(source: bytes) -> str:
    """Return the checksum of all that decides the effects: upgrade, downgrade, and whether in a transaction."""
    return of_revision(source, *UPGRADE, "downgrade", "transactional")


def path_of(script: ScriptDirectory, revision: str) -> Path:
    """Return the path of a revision's effects."""
    return snapshots.folder(script) / f"{revision}.effects.json"


def read(path: Path) -> Effects | None:
    """Return a file's effects; None if it does not exist or can't be read."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None


def load(script: ScriptDirectory, revision: Script) -> Effects | str:
    """Return a revision's measured effects, or a clause that says why they are not known."""
    path = path_of(script, revision.revision)
    found = read(path)
    if found is None:
        return f"{path.name} can't be read" if path.exists() else "it was not measured"
    if found.checksum != checksum(Path(revision.path).read_bytes()):
        return "it was edited after it was measured"
    return found


def render(revision: str, found: Effects) -> str:
    """Return the file's text: one line per relation."""
    lines = ["{", f'  "revision": {_json(revision)},', f'  "checksum": {_json(found.checksum)},']
    lines += [f'  "server": {found.server},']
    lines += [f'  "reset": {_json(found.reset)},'] if found.reset else []
    for name, way in (("upgrade", found.upgrade), ("downgrade", found.downgrade)):
        entries = ",\n".join(_entries(way))
        lines.append(f'  "{name}": [' + (f"\n{entries}\n  ]" if entries else "]") + ("," if name == "upgrade" else ""))
    return "\n".join(lines) + "\n}\n"


def _parse(text: str) -> Effects:
    document = json.loads(text)
    return Effects(
        document["checksum"],
        document["server"],
        _measurement(document["upgrade"]),
        _measurement(document["downgrade"]),
        document.get("reset", ""),
    )


def _entries(way: Measurement) -> Iterator[str]:
    for each in way.statements:
        parts = [f'      "line": {each.line}', f'      "sql": {_json(each.sql)}']
        relations = ",\n".join(
            f"        {_json(effect.relation)}: {_json(_document(effect))}" for effect in each.effects
        )
        parts += [f'      "relations": {{\n{relations}\n      }}'] if relations else []
        parts += [f'      "note": {_json(each.note)}'] if each.note else []
        parts += [f'      "left_out": {_json(each.left_out)}'] if each.left_out else []
        yield "    {\n" + ",\n".join(parts) + "\n    }"
    if way.failure:
        yield f'    {{"not_measured": {_json(way.failure)}}}'


def _document(effect: Effect) -> Mapping[str, Any]:
    values = ((each.name, getattr(effect, each.name)) for each in fields(effect) if each.name != "relation")
    return {name: str(value) if name in _LOCKS else value for name, value in values if value}


def _measurement(entries: Iterable[Mapping[str, Any]]) -> Measurement:
    statements, failure = [], ""
    for entry in entries:
        if "not_measured" in entry:
            failure = entry["not_measured"]
            continue
        effects = tuple(_effect(name, values) for name, values in entry.get("relations", {}).items())
        left_out = tuple(entry.get("left_out", ()))
        statements.append(Measured(entry["line"], entry["sql"], effects, entry.get("note", ""), left_out))
    return Measurement(tuple(statements), failure)


def _effect(relation: str, values: Mapping[str, Any]) -> Effect:
    def plain(name: str, value: Any) -> Any:
        return (
            LockMode[value.replace(" ", "_")] if name in _LOCKS else tuple(value) if isinstance(value, list) else value
        )

    return Effect(relation, **{name: plain(name, value) for name, value in values.items()})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
