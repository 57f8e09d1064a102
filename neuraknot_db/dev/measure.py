"""Measure on a real server what each statement of a revision does to relations that existed before it.

Each direction of each revision is run once on a scratch database with sample rows, one statement at a time. Before and
after each, the server is asked for the locks of the transaction (`pg_locks`), the file nodes (a rewrite), and the rows
and scans of the transaction (`pg_stat_get_xact_*`). A statement that can't run in a transaction is observed from
outside: other sessions hold every table and release them one at a time, which shows what it waits for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import settings
from neuraknot_db.database import raw_sql, session, sqlstate
from neuraknot_db.database.create import scratch_database
from neuraknot_db.database.sql_text import Statement, statements, tokens
from neuraknot_db.dev import together
from neuraknot_db.dev.branches import Branches
from neuraknot_db.dev.observe import Observer, strongest_first
from neuraknot_db.dev.samples import Samples
from neuraknot_db.errors import InterruptedRunError
from neuraknot_db.migrate import autocommit
from neuraknot_db.revisions.containment import contained, demand_run, words
from neuraknot_db.revisions.options import is_transactional
from neuraknot_db.revisions.places import Places
from neuraknot_db.schema import effects, snapshots
from neuraknot_db.schema.effects import (
    Effect,
    Effects,
    Measured,
    Measurement,
)
from neuraknot_db.settings import Settings

Direction = Literal["upgrade", "downgrade"]

_DIFFER = "servers differ: the stronger is told"
_NOT_MEASURED = "could not be measured"
_Place = tuple[tuple[str, ...], int]


def measure(script: ScriptDirectory, where: Settings) -> Mapping[str, Effects]:
    """Take an empty database through every revision, up and back, and measure each statement.

    Args:
        script: where the revisions are; `snapshots/rows.sql` holds the sample rows.
        where: the database.

    Returns:
        The effects by revision, oldest first.

    Raises:
        UsageError: the sample rows can't be inserted.
    """
    revisions = list(script.walk_revisions())[::-1]
    failing = together.failing(script, where)
    branches = Branches()
    rows = snapshots.folder(script) / "rows.sql"
    with session.open_session(where) as connection:
        server = session.driver(connection).server_version // 10_000
        upgrades = _upgrade(connection, where, revisions, rows, branches)
        # A failed upgrade leaves the database where it was before.
        standing = [each for each in revisions if not upgrades[each.revision].failure]
        downgrades, behind = _downgrade(connection, where, standing, branches)
    while left := [each for each in standing if each.revision not in downgrades]:
        # The way back to these has failed: they are measured where they were just applied.
        *_, last = downgrades
        with scratch_database(where) as there, session.open_session(there) as connection:
            _upgrade(connection, there, left, rows, branches)
            found, next_behind = _downgrade(connection, there, left, branches)
        if behind and not found[left[-1].revision].failure:
            downgrades[last] = replace(downgrades[last], failure=behind)
        downgrades |= found
        behind = next_behind
    return {
        each.revision: Effects(
            effects.checksum(Path(each.path).read_bytes()),
            server,
            _on(server, upgrades[each.revision]),
            _on(server, downgrades.get(each.revision, Measurement(failure=f"its upgrade {_NOT_MEASURED}"))),
            # One that fails alone fails together as well.
            "" if upgrades[each.revision].failure else failing.get(each.revision, ""),
        )
        for each in revisions
    }


def _on(server: int, way: Measurement) -> Measurement:
    """Return a measurement whose failure says where it failed: on another server it may not."""
    return replace(way, failure=way.failure and f"{together.on(server)}{way.failure}")


def _upgrade(
    connection: Connection, where: Settings, revisions: Sequence[Script], rows: Path, branches: Branches
) -> dict[str, Measurement]:
    """Measure the upgrades of an empty database; behind one that fails, nothing can be."""
    samples = Samples(connection)
    ways: dict[str, Measurement] = {}
    stopped = ""
    for each in revisions:
        way = (
            Measurement(failure=stopped) if stopped else _either(connection, where, each, "upgrade", samples, branches)
        )
        ways[each.revision] = way
        if way.failure:
            stopped = stopped or f"the upgrade of revision {each.revision}, before it, {_NOT_MEASURED}"
            continue
        if each is revisions[0]:
            samples.insert_given(rows)
        samples.insert()
    return ways


def _downgrade(
    connection: Connection, where: Settings, revisions: Sequence[Script], branches: Branches
) -> tuple[dict[str, Measurement], str]:
    """Measure the downgrades of a database at the last revision, until one fails.

    Returns:
        The measurements, and what failed behind the last of them, which may be the cause.
    """
    samples = Samples(connection)
    ways: dict[str, Measurement] = {}
    for each in revisions[::-1]:
        samples.insert()  # what a way back makes anew is empty
        way = _either(connection, where, each, "downgrade", samples, branches)
        if way.failure and ways:
            return ways, f"behind it, the downgrade of revision {each.revision} fails: {way.failure}"
        ways[each.revision] = way
        if way.failure:
            break
    return ways, ""


def merged(kept: Effects | None, found: Effects) -> Effects:
    """Return what to write: the new effects, or the stronger ones if another server measured the same revision.

    Args:
        kept: the effects that another server may have measured; without those for which anything that decides them was
            edited since then.
        found: the new ones.
    """
    if kept is None or kept.checksum != found.checksum:
        return found
    other = kept.server != found.server
    return replace(
        kept,
        upgrade=_merged(kept.upgrade, found.upgrade, found.server, other),
        downgrade=_merged(kept.downgrade, found.downgrade, found.server, other),
        reset=together.standing(kept.reset, found.reset, found.server),
    )


def _merged(kept: Measurement, found: Measurement, server: int, other: bool) -> Measurement:
    before, now = _by_place(kept), _by_place(found)
    statements = []
    for key in _joined(list(before), list(now)):
        one, two = before.get(key), now.get(key)
        same = one and two and replace(one, line=two.line) == two
        if same or not (other or (one and one.note.startswith(_DIFFER))):
            statements += [two] if two else []
        else:
            either = [each for each in (one, two) if each]
            strongest: dict[str, Effect] = {}
            for effect in (effect for each in either for effect in each.effects):
                strongest[effect.relation] = strongest.get(effect.relation, effect).stronger(effect)
            statements.append(replace(either[-1], effects=strongest_first(strongest.values()), note=_DIFFER))
    return Measurement(tuple(statements), together.standing(kept.failure, found.failure, server))


def _by_place(way: Measurement) -> Mapping[_Place, Measured]:
    """Return the statements by their tokens, and their order among the same: a comment above moves their lines."""
    turns = Counter[tuple[str, ...]]()
    found: dict[_Place, Measured] = {}
    for each in way.statements:
        words = tuple(token.text for token in tokens(each.sql))
        found[words, turns[words]] = each
        turns[words] += 1
    return found


def _joined(kept: list[_Place], found: list[_Place]) -> list[_Place]:
    """Keep the stored order and insert each new one after its predecessor: measuring again changes nothing."""
    known, at = set(kept), 0
    for place in found:
        if place in known:
            at = kept.index(place) + 1
        else:
            kept.insert(at, place)
            at += 1
    return kept


def one_way(
    connection: Connection, where: Settings, revision: Script, direction: Direction, branches: Branches | None = None
) -> Measurement:
    """Run one direction of a revision and measure it.

    Args:
        connection: to a database at the previous revision, or at this one for a downgrade; without a transaction.
        where: the same database, for further sessions.
        revision: the revision.
        direction: the direction.
        branches: knows the functions of earlier revisions.
    """
    function: Callable[[], object] = getattr(revision.module, direction, lambda: None)
    branches = branches or Branches()
    watch = Observer(connection, where, Places(Path(revision.path)), branches)
    context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
    context.impl = _OneByOne(context.dialect, connection, False, True, None, context.opts)
    transactional = is_transactional(revision.module)
    try:
        with watch, contained(), Operations.context(context):
            if transactional:
                with context.begin_transaction(_per_migration=True):
                    demand_run(function())
            else:
                held = autocommit.hold(function, context, revision.revision)
                with context.autocommit_block():
                    for each in held:
                        context.impl.send(each)
    except InterruptedRunError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a revision does is its author's to read
        session.driver(connection).rollback()
        connection.rollback()
        # A mark is never why something is not measured.
        if sqlstate.of(error) == sqlstate.SYNTAX_ERROR and branches.unmark():
            return one_way(connection, where, revision, direction, branches)
        origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
        return Measurement(tuple(watch.found), words(origin).strip().split("\n", 1)[0])
    return Measurement(tuple(watch.found))


def _either(
    connection: Connection,
    where: Settings,
    revision: Script,
    direction: Direction,
    samples: Samples,
    branches: Branches,
) -> Measurement:
    """Measure with the sample rows; without any if it fails on them."""
    session.restore(connection, settings.limits())
    connection.commit()
    way = one_way(connection, where, revision, direction, branches)
    if not way.failure:
        return way
    samples.remove()
    again = one_way(connection, where, revision, direction, branches)
    if again.failure:
        return way
    note = f"{effects.WITHOUT_ROWS}{way.failure}"
    return Measurement(tuple(replace(each, note=note) for each in again.statements))


class _OneByOne(raw_sql.VerbatimPostgresqlImpl):
    """Sends the statements of a text one by one, but consecutive INSERTs into the same table at once."""

    def _exec(self, construct: Any, *more: Any, **named: Any) -> Any:
        if self.held is not None or not isinstance(construct, str):
            return super()._exec(construct, *more, **named)
        result = None
        for _, group in groupby(statements(construct), key=_alike):
            found = list(group)
            text = construct[found[0].start : found[-1].start + len(found[-1].text)]
            result = super()._exec(text, *more, **named)
        return result


def _alike(statement: Statement) -> object:
    """A key, equal for INSERTs into the same table."""
    words = [token.text.lower() for token in statement.tokens[:5]]
    return words if words[0] == "insert" else object()
