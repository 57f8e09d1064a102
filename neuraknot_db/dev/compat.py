"""Whether recorded queries survive a revision: prepared on a server of this machine's own, before and after it.

One connection stays open meanwhile and keeps them prepared, as an application's does; another prepares them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.database import diagnosis, engine
from neuraknot_db.database.create import scratch_database
from neuraknot_db.dev import definitions
from neuraknot_db.dev.own_servers import OwnServer, own_servers
from neuraknot_db.errors import InterruptedRunError, UsageError
from neuraknot_db.migrate import run
from neuraknot_db.migrate.record import Recorder
from neuraknot_db.schema.catalog import Schema, Table, read_schema
from neuraknot_db.schema.compare import Difference, compare
from neuraknot_db.schema.equivalence import Spelling
from neuraknot_db.schema.queries import Query
from neuraknot_db.settings import Settings

try:
    import asyncpg
except ModuleNotFoundError:
    raise UsageError(
        "asyncpg is not installed: it tells what a driver sees of a query.",
        hint="It is a development dependency: pip install '.[dev]'",
    ) from None

log = logging.getLogger(__name__)

_REPAIRS = (
    (re.compile(r"\b(interval|date|time|timestamp|timestamptz)\s+(\$\d+)", re.IGNORECASE), r"\2::\1"),
    (re.compile(r"\bextract\s*\(\s*(\$\d+)\s+from\b", re.IGNORECASE), r"pg_catalog.extract(\1,"),
)
"""What SQL has for a value only, and the same for a parameter."""

_REQUIRED = """
SELECT nspname || '.' || relname,
       array_agg(CASE WHEN (attnotnull OR typnotnull) AND attgenerated = '' AND NOT filled THEN attname END
                 ORDER BY attnum)
  FROM pg_class r
  JOIN pg_namespace n ON n.oid = relnamespace
  JOIN pg_attribute ON attrelid = r.oid AND attnum > 0
  LEFT JOIN pg_type t ON t.oid = atttypid
 CROSS JOIN LATERAL (SELECT EXISTS (
           SELECT FROM pg_trigger WHERE tgrelid = r.oid AND NOT tgisinternal AND tgtype & 7 = 7)) triggers(filled)
 WHERE relkind IN ('r', 'p')
 GROUP BY nspname, relname
"""
"""Each table's columns, in their places, that an INSERT must fill; a row's trigger before it may fill any."""

_MADE_UP = ("23502", "23514")
"""SQLSTATEs of a domain that refuses the NULL that we give for a parameter."""

_TEXTS = frozenset({"text", "varchar", "bpchar"})
"""The same for a driver."""

_WIDTH = 100
_WIDER = ("smallint", "integer", "bigint", "numeric", "real", "double precision")


class Look(NamedTuple):
    """What a driver sees of a query.

    Attributes:
        parameters: the types of its parameters.
        columns: names and types of its result.
        empty: the NOT NULL columns to which it gives NULL.
        writes: the tables that it writes.
        error: why it can't be prepared, in the server's words; empty if it can.
    """

    parameters: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    empty: tuple[str, ...] = ()
    writes: frozenset[str] = frozenset()
    error: str = ""


class Step(NamedTuple):
    """What an upgrade does to queries.

    Attributes:
        breaks: those that it breaks, with the reason.
        to_see: what preparing can't see.
        failing: those that could not be prepared before it, with the reason.
        sound: those that could be prepared before it or after it.
    """

    breaks: dict[Query, str]
    to_see: list[str]
    failing: dict[Query, str]
    sound: set[Query]


@dataclass
class Report:
    """What was found.

    Attributes:
        breaks: revision, query and reason.
        to_see: revision, and what preparing can't see.
        not_checked: the queries that could be prepared at no time, with the reason.
        failed: why an upgrade failed, behind which nothing is known; empty if none did.
    """

    breaks: list[tuple[str, Query, str]] = field(default_factory=list)
    to_see: list[tuple[str, str]] = field(default_factory=list)
    not_checked: dict[Query, str] = field(default_factory=dict)
    failed: str = ""

    def lines(self, file: str) -> Iterator[str]:
        """Yield it as lines of text; `file` is where the queries are."""
        for revision, query, reason in self.breaks:
            text = " ".join(query.text.split())
            yield f"{revision}: {reason}"
            yield f"  {file}:{query.line}: {text if len(text) <= _WIDTH else text[: _WIDTH - 1] + '…'}"
        yield from (f"{revision}: look yourself: {line}" for revision, line in self.to_see)
        yield from (f"not checked: {file}:{query.line}: {reason}" for query, reason in self.not_checked.items())
        yield from [f"not checked: {self.failed}"] * bool(self.failed)


def server_for(version: int | None) -> OwnServer:
    """Return this machine's own server of a major version; without it, the embedded one."""
    servers = own_servers()
    same = [each for each in servers if each.version == version]
    found = (same or [each for each in servers if each.programs is None] or servers)[-1]
    if not same:
        log.info("recorded on PostgreSQL %s, checked on %d", version or "of an unknown version", found.version)
    return found


def check(
    config: Config, script: ScriptDirectory, queries: Sequence[Query], selected: Collection[str], server: Settings
) -> Report:
    """Prepare each query before and after each selected revision, on an empty database.

    Args:
        config: Alembic's.
        script: where the revisions are, with one head.
        queries: what was recorded.
        selected: the revisions to check.
        server: where a scratch database can be made.
    """
    report, sound, left = Report(), set[Query](), set(selected)
    with scratch_database(server) as where, engine.connect(where) as connection:
        config.attributes[run.HELD] = run.HeldSession(where, connection, Recorder(where, connection))
        for revision in [each.revision for each in script.walk_revisions()][::-1]:
            if not left:
                break
            try:
                if revision not in left:
                    command.upgrade(config, revision)
                    continue
                step = watch(where, queries, lambda: command.upgrade(config, revision))  # noqa: B023
            except InterruptedRunError:
                raise
            except Exception as error:
                if (told := diagnosis.explain(error)) is None:
                    raise
                report.failed = f"revision {revision} can't be applied to an empty database: {told.message}"
                break
            left.discard(revision)
            report.breaks += ((revision, *each) for each in step.breaks.items())
            report.to_see += ((revision, each) for each in step.to_see)
            report.not_checked = {**step.failing, **report.not_checked}
            sound.update(step.sound)
    for query in sound & report.not_checked.keys():
        del report.not_checked[query]
    return report


def watch(where: Settings, queries: Sequence[Query], upgrade: Callable[[], None]) -> Step:
    """Prepare each query before and after an upgrade.

    Args:
        where: the database.
        queries: what was recorded.
        upgrade: changes the database's schema.
    """
    before = _schema(where)
    step, written = Step({}, [], {}, set()), set[str]()
    for query, (then, now, held) in asyncio.run(_looks(where, queries, upgrade)).items():
        written |= then.writes
        if then.error:
            step.failing[query] = then.error
        elif reason := _reason(then, now, held):
            step.breaks[query] = reason
        if not (then.error and now.error):
            step.sound.add(query)
    return step._replace(to_see=list(_unseen(before, _schema(where), written)))


def _schema(where: Settings) -> Schema:
    with engine.connect(where) as connection:
        return read_schema(connection)


async def _looks(
    where: Settings, queries: Sequence[Query], upgrade: Callable[[], None]
) -> dict[Query, tuple[Look, Look, str]]:
    """Return each query before and after an upgrade, and why it fails where it stays prepared meanwhile."""
    async with _connected(where) as connection:
        statements: dict[Query, Any] = {}
        before = await _prepared(connection, queries, statements)
        upgrade()
        held = {query: (await _plan(connection, each))[1] for query, each in statements.items()}
    async with _connected(where) as connection:
        after = await _prepared(connection, queries, {})
    return {each: (before[each], after[each], held.get(each, "")) for each in queries}


@contextlib.asynccontextmanager
async def _connected(where: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(
        host=where.host,
        port=where.port,
        user=where.user,
        password=where.password,
        database=where.database,
        server_settings={"plan_cache_mode": "force_generic_plan"},  # others depend on the values
    )
    try:
        yield connection
    finally:
        await connection.close()


async def _prepared(connection: Any, queries: Sequence[Query], statements: dict[Query, Any]) -> dict[Query, Look]:
    """Prepare each query, and put those that can be into `statements`."""
    required = dict(await connection.fetch(_REQUIRED))
    looks = {}
    for query in queries:
        sql = query.text
        for pattern, instead in _REPAIRS:
            sql = pattern.sub(instead, sql)
        try:
            statement = await connection.prepare(sql)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            looks[query] = Look(error=_words(error))
            continue
        nodes, wrong = await _plan(connection, statement)
        looks[query] = Look(error=wrong)
        if not wrong:
            statements[query] = statement
            writing = [node for node in nodes if node["Node Type"] == "ModifyTable"]
            looks[query] = Look(
                tuple(each.name for each in statement.get_parameters()),
                tuple((each.name, each.type.name) for each in statement.get_attributes()),
                tuple(each for node in writing for each in _empty(node, required)),
                frozenset(node["Relation Name"] for node in writing),
            )
    return looks


async def _plan(connection: Any, statement: Any) -> tuple[list[Mapping[str, Any]], str]:
    """Return the nodes of a prepared statement's plan, or why there is none."""
    nulls = ", ".join(["NULL"] * len(statement.get_parameters()))
    execute = f'EXECUTE "{statement.get_name()}"' + (f"({nulls})" if nulls else "")
    try:
        plans = json.loads(await connection.fetchval(f"EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) {execute}"))
    except asyncpg.PostgresError as error:
        return [], "" if error.sqlstate in _MADE_UP else _words(error)
    return [node for each in plans for node in _nodes(each.get("Plan", {}))], ""


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if plan:
        yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


def _empty(node: Mapping[str, Any], required: Mapping[str, Sequence[str | None]]) -> Iterator[str]:
    """Yield the NOT NULL columns to which an INSERT gives NULL."""
    if node["Operation"] == "Insert":
        columns = required.get(f"{node['Schema']}.{node['Relation Name']}", ())
        for column, given in zip(columns, node["Plans"][0]["Output"], strict=False):
            if column and given.startswith("NULL::"):
                yield f"{node['Relation Name']}.{column}"


def _words(error: Exception) -> str:
    return str(error).split("\n")[0]


def _reason(then: Look, now: Look, held: str) -> str:
    """Return how a revision breaks a query, as clauses; empty if it does not."""
    if now.error:
        return now.error
    old, new = dict(then.columns), dict(now.columns)
    more = [name for name in new if name not in old]
    reasons = [
        *(
            f"parameter ${number} is {type_} now, and was {was}"
            for number, (was, type_) in enumerate(zip(then.parameters, now.parameters, strict=True), start=1)
            if was != type_ and not {was, type_} <= _TEXTS
        ),
        *(f"it gives NULL to {each}, which is NOT NULL now" for each in now.empty if each not in then.empty),
        *([f"its result has more: {', '.join(more)}"] if more else []),
        *(f"its result has no {name} any more" for name in old if name not in new),
        *(f"{name} is {new[name]} now, and was {old[name]}" for name in old if new.get(name, old[name]) != old[name]),
    ]
    return "; ".join([*reasons, *([f"where it stays prepared: {held}"] if held else [])])


def _unseen(before: Schema, after: Schema, written: Collection[str]) -> Iterator[str]:
    """Yield what differs, of tables that are written, and preparing can't see; and what functions still name."""
    gone = set()
    tables = {**{name: Table(name) for name in after.tables}, **before.tables}
    for each in compare(after, replace(before, tables=tables), Spelling()):
        table, _, part = each.object.partition(".")
        concerned = {table}
        if each.aspect == "constraint" and (each.live or "").startswith("FOREIGN KEY"):
            concerned.add(definitions.foreign_key(str(each.live)).target)
        if each.live is None and each.aspect in ("table", "column"):
            gone.add(part or table)
        elif each.aspect in ("function", "result", "enum", "domain") or (
            _is_tighter(each) and not concerned.isdisjoint(written)
        ):
            yield _told(each)
    for function in after.functions.values():
        for name in sorted(gone.intersection(re.findall(r"\w+", function.definition))):
            yield f"{function.signature} names {name}, which is gone"


def _is_tighter(difference: Difference) -> bool:
    """Whether it may refuse, or change, what was written before."""
    live, was = difference.live, difference.expected
    if live is None:
        return difference.aspect == "trigger"
    return {
        "constraint": True,
        "trigger": True,
        "table": True,
        "index": "UNIQUE" in live,
        "nullability": live == "NOT NULL",
        "default": live == "none",
        "column": was is None and "NOT NULL" in live and "DEFAULT" not in live,
        "type": not _is_wider(live, was or ""),
    }.get(difference.aspect, False)


def _is_wider(new: str, old: str) -> bool:
    """Whether a type holds all values of another."""
    (base, length), (old_base, old_length) = (
        (each.partition("(")[0], [int(number) for number in re.findall(r"\d+", each)]) for each in (new, old)
    )
    if base != old_base:
        both = base in _WIDER and old_base in _WIDER and not length
        return base == "text" or (both and _WIDER.index(base) > _WIDER.index(old_base))
    if len(length) == len(old_length) == 2:  # digits before the point, and behind it
        length, old_length = ([each[0] - each[1], each[1]] for each in (length, old_length))
    return not length or (bool(old_length) and all(map(int.__ge__, length, old_length)))


def _told(difference: Difference) -> str:
    live, was = difference.live, difference.expected
    if live is None or was is None:
        return f"{difference.object}: {difference.aspect} {'new: ' if was is None else 'gone: '}{live or was}"
    if "\n" in live + was:
        return f"{difference.object}: {difference.aspect} changed"
    return f"{difference.object}: {difference.aspect} is {live} now, and was {was}"
