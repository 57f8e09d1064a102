"""What each statement of a session does to the relations that existed before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection

from neuraknot_db.database import session
from neuraknot_db.database.sql_text import one_line, tokens
from neuraknot_db.dev.branches import Branches, Listening
from neuraknot_db.dev.holders import Holders
from neuraknot_db.revisions.places import Places
from neuraknot_db.schema import effects
from neuraknot_db.schema.effects import (
    BY_NAME,
    DELETED,
    INSERTED,
    LONGEST,
    UPDATED,
    UPDATED_ALL,
    Effect,
    LockMode,
    Measured,
)
from neuraknot_db.settings import Settings

_LEADS_ELSEWHERE = "measured with the sample rows: other rows may lead it to other tables"
_TRIGGERS = "its triggers were measured with the sample rows"
_NO_ROW = "no sample row is changed by it: what a change sets off is not measured"
_BY_CODE = frozenset({"do", "call", "execute"})
_QUERIES = frozenset({"select", "with", "values", "table"})
_CHANGING = frozenset({"update", "delete", "merge"})
_PLANNED = _QUERIES | _CHANGING | {"insert"}
"""What the planner runs: it would scan the few sample rows sequentially, even with an index."""

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


class Observer:
    """Observes each statement of a connection while it is entered.

    Attributes:
        found: the statements that affect relations that existed when it was entered.
    """

    def __init__(self, connection: Connection, where: Settings, places: Places, branches: Branches) -> None:
        self.found: list[Measured] = []
        self._branches = branches
        self._ran: list[set[int]] = []  # of each statement found, the code
        self._sql = ""
        self._connection = connection
        self._where = where
        self._places = places
        self._holders: Holders | None = None

    def __enter__(self) -> Observer:
        self._before = self._look()
        self._old = self._before
        self._rows = {oid: self._ask(f"SELECT count(*) FROM {each.name}")[0][0] for oid, each in self._tables()}
        # Otherwise earlier counts would be added to the first observed transaction.
        self._ask("SELECT pg_stat_force_next_flush()")
        session.driver(self._connection).commit()
        self._begun = False
        self._branches.begin()
        self._messages = session.driver(self._connection).notices
        session.driver(self._connection).notices = Listening(self._branches, self._messages)
        event.listen(self._connection, "before_cursor_execute", self._sent, retval=True)
        event.listen(self._connection, "after_cursor_execute", self._done)
        return self

    def __exit__(self, *_raised: object) -> None:
        event.remove(self._connection, "before_cursor_execute", self._sent)
        event.remove(self._connection, "after_cursor_execute", self._done)
        session.driver(self._connection).notices = self._messages
        if self._holders:
            self._holders.let_go()
        self.found = list(self._with_left_out())

    def _with_left_out(self) -> Iterator[Measured]:
        """Tell at a function's first call what it leaves out: the next call may run it."""
        told: set[int] = set()
        for each, ran in zip(self.found, self._ran, strict=True):
            left_out = self._branches.left_out(ran - told)
            told |= ran
            if each.effects or each.note or left_out or not ran:
                yield replace(each, left_out=left_out)

    def _sent(self, _connection: Connection, _cursor: Any, sql: str, values: Any, *_more: object) -> tuple[str, Any]:
        self._sql, self._branches.entered = sql, set()
        self._look_before(sql)
        return self._branches.marked(sql), values

    def _look_before(self, sql: str) -> None:
        if session.driver(self._connection).autocommit:
            tables = {oid: each.name for oid, each in self._tables()}
            self._before = self._look()
            self._holders = Holders(self._where, tables, sql, session.driver(self._connection).info.backend_pid)
            return
        if not self._begun:
            self._before, self._begun = self._look(), True
        if tokens_of(sql)[0] in _PLANNED:
            self._ask("SET LOCAL enable_seqscan = off")

    def _done(self, *_more: object) -> None:
        sql = self._sql
        words = tokens_of(sql)
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
        found = strongest_first(self._effects(after, asked))
        self._before = after
        note = note or self._note(words[0], found, after)
        ran = self._branches.entered if words[0] in _BY_CODE | _QUERIES else set()
        if found or note or alone or ran:
            text = one_line(sql[: 2 * LONGEST])
            text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
            self.found.append(Measured(self._places.text(sql).line, text, found, note))
            self._ran.append(ran)

    def _effects(self, after: _State, asked: Mapping[int, LockMode]) -> Iterator[Effect]:
        built = {now.table for oid, now in after.items() if now.is_index and self._built(oid, now)}
        for oid in self._old.keys() & self._before.keys():
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
            columns_dropped=tuple(
                name
                for number, (name, _) in was.columns.items()
                # Nobody uses yet a column that the revision itself has added.
                if number not in now.columns and number in self._old[oid].columns
            ),
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


def _relation(*row: Any) -> _Relation:
    *values, modes, columns = row
    lock = max((BY_NAME[mode] for mode in modes if mode in BY_NAME), default=0)
    return _Relation(*values, lock, {number: (name, type_) for number, name, type_ in columns or ()})  # type: ignore[call-arg]


def strongest_first(found: Iterable[Effect]) -> tuple[Effect, ...]:
    """Sort by lock, strongest first."""
    return tuple(sorted(found, key=lambda effect: (-(effect.lock or 0), effect.relation)))


def tokens_of(sql: str) -> list[str]:
    """Return the first words of a statement in lower case; one empty word if there is none."""
    return [token.text.lower() for token in islice(tokens(sql), _FIRST_WORDS)] or [""]
