"""Measure on a real server what each statement of a revision does to relations that existed before it.

Each direction of each revision is run once on a scratch database with sample rows, one statement at a time. Before and
after each, the server is asked for the locks of the transaction (`pg_locks`), the file nodes (a rewrite), and the rows
and scans of the transaction (`pg_stat_get_xact_*`). A statement that can't run in a transaction is observed from
outside: other sessions hold every table and release them one at a time, which shows what it waits for.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import settings
from neuraknot_db.database import engine, raw_sql, session
from neuraknot_db.database.sql_text import Statement, statements, tokens
from neuraknot_db.dev.samples import Samples
from neuraknot_db.dev.sent_sql import Places
from neuraknot_db.migrate import autocommit
from neuraknot_db.revisions.containment import contained, demand_run, words
from neuraknot_db.revisions.options import is_transactional
from neuraknot_db.schema import effects, snapshots
from neuraknot_db.schema.effects import (
    BY_NAME,
    DELETED,
    INSERTED,
    LONGEST,
    UPDATED,
    UPDATED_ALL,
    Effect,
    Effects,
    LockMode,
    Measured,
    Way,
)
from neuraknot_db.settings import Settings

Direction = Literal["upgrade", "downgrade"]

_LEADS_ELSEWHERE = "measured with the sample rows: other rows may lead it to other tables"
_TRIGGERS = "its triggers were measured with the sample rows"
_NO_ROW = "no sample row is changed by it: what a change sets off is not measured"
_DIFFER = "servers differ: the stronger is told"
_NOT_HELD = "measured on the tables that it names"

_BY_CODE = frozenset({"do", "call", "execute"})
_QUERIES = frozenset({"select", "with", "values", "table"})
_CHANGING = frozenset({"update", "delete", "merge"})
_PLANNED = _QUERIES | _CHANGING | {"insert"}
"""What the planner runs: it would scan the few sample rows sequentially, even with an index."""

_MOST_HELD = 40
"""Tables held, each by its own session."""
_POLL = 0.02
_FIRST_WORDS = 8
_KINDS = {"S": "sequence", "v": "view"}
_TELLING = 2
"""Minimum rows for which "all rows were updated" is meaningful."""

_STATE = f"""
SELECT c.oid, {effects.NAME}, c.relkind::text, coalesce(pg_relation_filenode(c.oid), 0),
       CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) ELSE 0 END,
       CASE WHEN c.relkind IN ('i', 'I') THEN 0 ELSE coalesce(pg_stat_get_xact_numscans(c.oid), 0) END,
       coalesce(pg_stat_get_xact_tuples_inserted(c.oid), 0), coalesce(pg_stat_get_xact_tuples_updated(c.oid), 0),
       coalesce(pg_stat_get_xact_tuples_deleted(c.oid), 0), coalesce(x.indrelid, 0),
       EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal), coalesce(l.modes, '{{}}'),
       CASE WHEN c.relkind IN ('r', 'p', 'f') THEN
         ARRAY(SELECT ARRAY[a.attnum::text, a.attname, format_type(a.atttypid, a.atttypmod)] FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) END
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_index x ON x.indexrelid = c.oid
  LEFT JOIN (SELECT relation, array_agg(mode) AS modes FROM pg_locks
              WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              GROUP BY relation) l ON l.relation = c.oid
 WHERE c.relkind IN ('r', 'p', 'i', 'I', 'm', 'v', 'S', 'f') AND c.relname <> 'alembic_version'
   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'neuraknot_db')
"""

_WAITS_FOR = """
SELECT l.relation, l.mode, pg_blocking_pids(l.pid) FROM pg_locks l WHERE l.pid = %(pid)s AND NOT l.granted
"""


@dataclass(frozen=True)
class _Relation:
    """A relation as seen within the transaction, with what the transaction has done to it so far."""

    name: str
    kind: str
    node: int
    size: int
    scans: int
    inserted: int
    updated: int
    deleted: int
    table: int
    has_triggers: bool
    lock: int
    columns: Mapping[str, tuple[str, str]]

    @property
    def is_index(self) -> bool:
        return self.kind in "iI"


_State = Mapping[int, _Relation]
_Place = tuple[int, int]


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
    ways: dict[Direction, dict[str, Way]] = {"upgrade": {}, "downgrade": {}}
    with session.open_session(where) as connection:
        samples = Samples(connection, snapshots.folder(script) / "rows.sql")
        stopped = ""
        for direction in ways:
            for revision in revisions if direction == "upgrade" else revisions[::-1]:
                session.restore(connection, settings.limits())
                connection.commit()
                way = Way(failure=stopped) if stopped else _either(connection, where, revision, direction, samples)
                ways[direction][revision.revision] = way
                if way.failure and not stopped:
                    stopped = f"the {direction} of revision {revision.revision}, before it, could not be measured"
                if direction == "upgrade":
                    samples.insert()
        server = session.driver(connection).server_version // 10_000
    return {
        each.revision: Effects(
            effects.checksum(Path(each.path).read_bytes()),
            server,
            ways["upgrade"][each.revision],
            ways["downgrade"][each.revision],
        )
        for each in revisions
    }


def merged(kept: Effects | None, found: Effects) -> Effects:
    """Return what to write: the new effects, or the stronger ones if another server measured the same revision."""
    if kept is None or kept.checksum != found.checksum:
        return found
    other = kept.server != found.server
    upgrade, downgrade = _merged(kept.upgrade, found.upgrade, other), _merged(kept.downgrade, found.downgrade, other)
    return replace(kept, upgrade=upgrade, downgrade=downgrade)


def _merged(kept: Way, found: Way, other: bool) -> Way:
    before, now = _by_place(kept), _by_place(found)
    statements = []
    for key in _joined(list(before), list(now)):
        one, two = before.get(key), now.get(key)
        if one == two or not (other or (one and one.note.startswith(_DIFFER))):
            statements += [two] if two else []
        else:
            either = [each for each in (one, two) if each]
            strongest: dict[str, Effect] = {}
            for effect in (effect for each in either for effect in each.effects):
                strongest[effect.relation] = strongest.get(effect.relation, effect).stronger(effect)
            statements.append(replace(either[0], effects=_sorted(strongest.values()), note=_DIFFER))
    return Way(tuple(statements), found.failure or (kept.failure if other else ""))


def _by_place(way: Way) -> Mapping[_Place, Measured]:
    """Return the statements by line, and by their order within a line."""
    turns = Counter[int]()
    found: dict[_Place, Measured] = {}
    for each in way.statements:
        found[each.line, turns[each.line]] = each
        turns[each.line] += 1
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


def one_way(connection: Connection, where: Settings, revision: Script, direction: Direction) -> Way:
    """Run one direction of a revision and measure it.

    Args:
        connection: to a database at the previous revision, or at this one for a downgrade; without a transaction.
        where: the same database, for further sessions.
        revision: the revision.
        direction: the direction.
    """
    function: Callable[[], object] = getattr(revision.module, direction, lambda: None)
    watch = _Watch(connection, where, Places(Path(revision.path)))
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
    except Exception as error:  # noqa: BLE001 - whatever a revision does is its author's to read
        session.driver(connection).rollback()
        connection.rollback()
        origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
        return Way(tuple(watch.found), words(origin).strip().split("\n", 1)[0])
    return Way(tuple(watch.found))


def _either(connection: Connection, where: Settings, revision: Script, direction: Direction, samples: Samples) -> Way:
    """Measure with the sample rows; without any if it fails on them."""
    way = one_way(connection, where, revision, direction)
    if not way.failure:
        return way
    samples.remove()
    again = one_way(connection, where, revision, direction)
    if again.failure:
        return way
    note = f"{effects.WITHOUT_ROWS}{way.failure}"
    return Way(tuple(replace(each, note=note) for each in again.statements))


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


class _Watch:
    """Observes each statement of a connection while it is entered.

    Attributes:
        found: the statements that affect relations that existed when it was entered.
    """

    def __init__(self, connection: Connection, where: Settings, places: Places) -> None:
        self.found: list[Measured] = []
        self._connection = connection
        self._where = where
        self._places = places
        self._holders: _Holders | None = None

    def __enter__(self) -> _Watch:
        self._before = self._look()
        self._old = frozenset(self._before)
        self._rows = {oid: self._ask(f"SELECT count(*) FROM {each.name}")[0][0] for oid, each in self._tables()}
        # Otherwise earlier counts would be added to the first observed transaction.
        self._ask("SELECT pg_stat_force_next_flush()")
        session.driver(self._connection).commit()
        self._begun = False
        event.listen(self._connection, "before_cursor_execute", self._sent)
        event.listen(self._connection, "after_cursor_execute", self._done)
        return self

    def __exit__(self, *_raised: object) -> None:
        event.remove(self._connection, "before_cursor_execute", self._sent)
        event.remove(self._connection, "after_cursor_execute", self._done)
        if self._holders:
            self._holders.let_go()

    def _sent(self, _connection: Connection, _cursor: Any, sql: str, *_more: object) -> None:
        if session.driver(self._connection).autocommit:
            tables = {oid: each.name for oid, each in self._tables()}
            self._before = self._look()
            self._holders = _Holders(self._where, tables, sql, session.driver(self._connection).info.backend_pid)
            return
        if not self._begun:
            self._before, self._begun = self._look(), True
        if _words(sql)[0] in _PLANNED:
            self._ask("SET LOCAL enable_seqscan = off")

    def _done(self, _connection: Connection, _cursor: Any, sql: str, *_more: object) -> None:
        words = _words(sql)
        asked: Mapping[int, LockMode] = {}
        note, alone = "", self._holders is not None
        if self._holders:
            asked, note = self._holders.let_go()
            self._holders = None
            # VACUUM's first transaction only looks up the table; the next may be too quick to be seen.
            if words[0] == "vacuum":
                mode = LockMode.ACCESS_EXCLUSIVE if "full" in words else LockMode.SHARE_UPDATE_EXCLUSIVE
                asked = dict.fromkeys(asked, mode)
        elif words[0] in _PLANNED:
            self._ask("SET LOCAL enable_seqscan = on")
        after = self._look()
        found = _sorted(self._effects(after, asked))
        self._before = after
        note = note or self._note(words[0], found, after)
        if found or note or alone:
            text = " ".join(sql[: 2 * LONGEST].split())
            text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
            self.found.append(Measured(self._places.text(sql).line, text, found, note))

    def _effects(self, after: _State, asked: Mapping[int, LockMode]) -> Iterator[Effect]:
        built = {now.table for oid, now in after.items() if now.is_index and self._built(oid, now)}
        for oid in self._old & self._before.keys():
            was, now = self._before[oid], after.get(oid)
            if was.is_index:
                continue
            lock = max(asked.get(oid, 0), (now.lock if now else LockMode.ACCESS_EXCLUSIVE))
            nothing = Effect(was.name, _KINDS.get(was.kind, ""))
            effect = replace(nothing, lock=LockMode(lock) if lock > was.lock else None)
            if now is None:
                effect = replace(effect, dropped=was.kind in "rpf")
            else:
                index_lock = self._index_lock(oid, after, above=max(lock, was.lock))
                effect = replace(self._work(oid, was, now, effect), index_lock=index_lock, index_built=oid in built)
            if effect.rewritten:
                effect = replace(effect, index_built=False)
            if effect != nothing:
                yield effect

    def _index_lock(self, table: int, after: _State, above: int) -> LockMode | None:
        """Return the strongest new lock on an index of a table, if stronger than that on the table."""
        indexes = ((oid, now) for oid, now in after.items() if now.table == table and oid in self._before)
        strongest = max((now.lock for oid, now in indexes if now.lock > self._before[oid].lock), default=0)
        return LockMode(strongest) if strongest > above else None

    def _built(self, oid: int, now: _Relation) -> bool:
        was = self._before.get(oid)
        return now.kind == "i" and now.table in self._old and (was is None or was.node != now.node)

    def _work(self, oid: int, was: _Relation, now: _Relation, effect: Effect) -> Effect:
        anew = was.node != now.node and was.kind in "rm"
        emptied = anew and not now.size and bool(was.size)
        updated = now.updated - was.updated
        everywhere = updated >= self._rows.get(oid, 0) >= _TELLING
        changed = {
            INSERTED: now.inserted > was.inserted,
            UPDATED: updated > 0 and not everywhere,
            UPDATED_ALL: everywhere,
            DELETED: now.deleted > was.deleted,
        }
        return replace(
            effect,
            emptied=emptied,
            rewritten=anew and not emptied,
            scanned=now.scans > was.scans and was.kind in "rpm",
            rows_changed=tuple(word for word, is_so in changed.items() if is_so),
            columns_dropped=tuple(name for number, (name, _) in was.columns.items() if number not in now.columns),
            columns_retyped=tuple(
                name
                for number, (name, kind) in was.columns.items()
                if number in now.columns and now.columns[number][1] != kind
            ),
        )

    def _note(self, word: str, found: Sequence[Effect], after: _State) -> str:
        """Return why the statement may behave differently on other rows."""
        changed = {effect.relation for effect in found if effect.rows_changed}
        strong = any(effect.lock and effect.lock > LockMode.ROW_SHARE for effect in found)
        if word in _BY_CODE or (word in _QUERIES - {"with"} and (strong or changed)):
            return _LEADS_ELSEWHERE
        writes = any(effect.lock == LockMode.ROW_EXCLUSIVE for effect in found)
        if not changed and found and (word in _CHANGING or (word == "with" and writes)):
            return _NO_ROW
        return _TRIGGERS if any(each.has_triggers and each.name in changed for each in after.values()) else ""

    def _tables(self) -> Iterator[tuple[int, _Relation]]:
        return ((oid, each) for oid, each in self._before.items() if each.kind in "rp")

    def _look(self) -> _State:
        return {oid: _relation(*values) for oid, *values in self._ask(_STATE)}

    def _ask(self, sql: str) -> Any:
        with session.driver(self._connection).cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else None


class _Holders:
    """Sessions that hold every table, to see what a statement waits for.

    Each releases its table when it is waited for, and queues up again: the statement may ask for more in its next
    transaction, as VACUUM does.
    """

    def __init__(self, where: Settings, tables: Mapping[int, str], sql: str, pid: int) -> None:
        """Hold the tables, those in the statement first, against the session with this pid."""
        named = sorted(tables, key=lambda oid: tables[oid].rpartition(".")[2].strip('"') not in sql)
        self._note = _NOT_HELD if len(tables) > _MOST_HELD else ""
        self._pid = pid
        self._asked: dict[int, LockMode] = {}
        self._ended = threading.Event()
        with contextlib.ExitStack() as stack:
            held = {
                oid: stack.enter_context(_Holder(stack.enter_context(engine.connect(where)), tables[oid]))
                for oid in named[:_MOST_HELD]
            }
            self._looking = stack.enter_context(engine.connect(where))
            self._sessions = stack.pop_all()
        self._held = {holder.pid: (oid, holder) for oid, holder in held.items()}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def let_go(self) -> tuple[Mapping[int, LockMode], str]:
        """End it; return what was waited for, and a remark."""
        self._ended.set()
        self._thread.join()
        self._sessions.close()
        return self._asked, self._note

    def _watch(self) -> None:
        while not self._ended.wait(_POLL):
            for relation, mode, blocking in self._looking.exec_driver_sql(_WAITS_FOR, {"pid": self._pid}):
                for oid, holder in (self._held[pid] for pid in blocking if pid in self._held):
                    if oid == relation and mode in BY_NAME:
                        self._asked[oid] = max(BY_NAME[mode], self._asked.get(oid, BY_NAME[mode]))
                    holder.let_go()
            self._looking.rollback()


class _Holder:
    """A session that holds or waits for a table while it is entered."""

    def __init__(self, connection: Connection, table: str) -> None:
        self.pid: int = session.driver(connection).info.backend_pid
        self._connection = connection
        self._lock = f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"
        self._holds, self._wanted, self._ended = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def __enter__(self) -> _Holder:
        self._thread.start()
        self._holds.wait()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._ended.set()
        self.let_go()
        self._thread.join()

    def let_go(self) -> None:
        """Release the table to whoever waits for it."""
        self._wanted.set()

    def _hold(self) -> None:
        # It fails if the table is gone, and then has nothing to hold.
        with contextlib.suppress(DBAPIError):
            while not self._ended.is_set():
                self._connection.exec_driver_sql(self._lock)
                self._holds.set()
                self._wanted.wait()
                self._wanted.clear()
                self._connection.rollback()
        self._holds.set()


def _relation(*row: Any) -> _Relation:
    *values, modes, columns = row
    lock = max((BY_NAME[mode] for mode in modes if mode in BY_NAME), default=0)
    return _Relation(*values, lock, {number: (name, type_) for number, name, type_ in columns or ()})  # type: ignore[call-arg]


def _sorted(found: Iterable[Effect]) -> tuple[Effect, ...]:
    """Sort by lock, strongest first."""
    return tuple(sorted(found, key=lambda effect: (-(effect.lock or 0), effect.relation)))


def _words(sql: str) -> list[str]:
    """Return the first words of a statement in lower case; one empty word if there is none."""
    return [token.text.lower() for token in islice(tokens(sql), _FIRST_WORDS)] or [""]
