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
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.database import engine
from neuraknot_db.database.create import scratch_database
from neuraknot_db.dev import definitions
from neuraknot_db.dev.own_servers import OwnServer, own_servers
from neuraknot_db.errors import MigrationFailedError, UsageError
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

_TYPES = "SELECT oid, format_type(oid, NULL) FROM pg_type"

_MADE_UP = ("23502", "23514")
"""SQLSTATEs of a domain that refuses the NULL that we give for a parameter."""

_TEXTS = frozenset({"text", "character varying", "character"})
"""The same for a driver."""

_WIDTH = 100


class Look(NamedTuple):
    """What a driver sees of a query.

    Attributes:
        parameters: the types of its parameters.
        columns: the types of its result's columns, by name.
        empty: the NOT NULL columns to which it gives NULL.
        writes: the tables that it writes.
        error: why it can't be prepared, in the server's words; empty if it can.
    """

    parameters: tuple[str, ...] = ()
    columns: Mapping[str, str] = MappingProxyType({})
    empty: tuple[str, ...] = ()
    writes: frozenset[str] = frozenset()
    error: str = ""


class Step(NamedTuple):
    """What an upgrade does to queries.

    Attributes:
        breaks: those that it breaks, with the reason.
        failing: those that can be prepared neither before it nor after it, with the reason.
        to_see: what preparing can't see.
    """

    breaks: dict[Query, str]
    failing: dict[Query, str]
    to_see: list[str]

    def lines(self, revision: str, file: str) -> Iterator[str]:
        """Yield breaks and what is to see as lines of text; `file` is where the queries are."""
        for query, reason in self.breaks.items():
            text = " ".join(query.text.split())
            yield f"{revision}: {reason}"
            yield f"  {file}:{query.line}: {text if len(text) <= _WIDTH else text[: _WIDTH - 1] + '…'}"
        yield from (f"{revision}: look yourself: {line}" for line in self.to_see)


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
) -> Iterator[tuple[str, Step]]:
    """Yield what each selected revision does to queries, oldest first, until one can't be applied.

    Args:
        config: Alembic's.
        script: where the revisions are, with one head.
        queries: what was recorded.
        selected: the revisions to check.
        server: where a scratch database can be made.
    """
    revisions = [each.revision for each in script.walk_revisions()][::-1]
    with scratch_database(server) as where, engine.connect(where) as connection:
        config.attributes[run.HELD] = run.HeldSession(where, connection, Recorder(where, connection))
        for revision in revisions[: max(map(revisions.index, selected), default=-1) + 1]:
            upgrade = partial(command.upgrade, config, revision)
            try:
                if revision in selected:
                    yield revision, watch(where, queries, upgrade)
                else:
                    upgrade()
            except MigrationFailedError as error:
                log.warning("not checked: revision %s and later: it fails when it is tried: %s", revision, error)
                return


def watch(where: Settings, queries: Sequence[Query], upgrade: Callable[[], object]) -> Step:
    """Prepare each query before and after an upgrade.

    Args:
        where: the database.
        queries: what was recorded.
        upgrade: changes the database's schema.
    """
    schema = _schema(where)
    before, held, after = asyncio.run(_looks(where, queries, upgrade))
    reasons = {each: _reason(before[each], held[each], after[each]) for each in queries if not before[each].error}
    written = {table for look in before.values() for table in look.writes}
    return Step(
        {query: reason for query, reason in reasons.items() if reason},
        {query: look.error for query, look in before.items() if look.error and after[query].error},
        list(_unseen(schema, _schema(where), written)),
    )


def _schema(where: Settings) -> Schema:
    with engine.connect(where) as connection:
        return read_schema(connection)


_Looks = Mapping[Query, Look]


async def _looks(
    where: Settings, queries: Sequence[Query], upgrade: Callable[[], object]
) -> tuple[_Looks, Mapping[Query, str], _Looks]:
    """Return each query before an upgrade, why it fails behind it where it stayed prepared, and how it is then."""
    async with _connected(where) as connection:
        statements: dict[Query, Any] = {}
        before = await _prepared(connection, queries, statements)
        upgrade()
        held = {query: (await _plan(connection, each))[1] for query, each in statements.items()}
    async with _connected(where) as connection:
        return before, held, await _prepared(connection, queries, {})


@contextlib.asynccontextmanager
async def _connected(where: Settings) -> AsyncIterator[Any]:
    how = {"host": where.host, "port": where.port, "user": where.user, "database": where.database, "ssl": False}
    # Other plans depend on the values, which nobody knows.
    connection = await asyncpg.connect(**how, server_settings={"plan_cache_mode": "force_generic_plan"})
    try:
        yield connection
    finally:
        await connection.close()


async def _prepared(connection: Any, queries: Sequence[Query], statements: dict[Query, Any]) -> dict[Query, Look]:
    """Prepare each query, and put those that can be into `statements`."""
    required = dict(await connection.fetch(_REQUIRED))
    types = dict(await connection.fetch(_TYPES))
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
            writing = [node for node in nodes if node.get("Node Type") == "ModifyTable"]
            looks[query] = Look(
                tuple(types[each.oid] for each in statement.get_parameters()),
                {each.name: types[each.type.oid] for each in statement.get_attributes()},
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
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return "its result has another length or collation: a connection that has prepared it already fails"
    return str(error).split("\n")[0]


def _reason(before: Look, held: str, after: Look) -> str:
    """Return how a query breaks, as clauses; empty if it does not."""
    if after.error:
        return after.error
    parameters = enumerate(zip(before.parameters, after.parameters, strict=True), start=1)
    old, new = before.columns, after.columns
    reasons = [
        *(
            f"parameter ${n} is {now} now, and was {was}"
            for n, (was, now) in parameters
            if was != now and {was, now} - _TEXTS
        ),
        *(f"it gives NULL to {each}, which is NOT NULL now" for each in after.empty if each not in before.empty),
        *(f"its result has one more column, {name}" for name in new if name not in old),
        *(f"its result has no column {name} any more" for name in old if name not in new),
        *(f"{name} is {new[name]} now, and was {old[name]}" for name in old if new.get(name, old[name]) != old[name]),
    ]
    return "; ".join(reasons) or held


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
    """Whether a type is text, or another one with room for all that was."""
    if new.partition("(")[0] != old.partition("(")[0]:
        return new == "text"
    sizes = ([int(each) for each in re.findall(r"\d+", type_)] for type_ in (new, old))
    # Of a number also the digits before the point.
    room, needed = ([*size, size[0] - size[-1]] if size else [] for size in sizes)
    return not room or (bool(needed) and all(map(int.__ge__, room, needed)))


def _told(difference: Difference) -> str:
    live, was = difference.live, difference.expected
    if live is None or was is None:
        return f"{difference.object}: {difference.aspect} {'new: ' if was is None else 'gone: '}{live or was}"
    if "\n" in live + was:
        return f"{difference.object}: {difference.aspect} changed"
    return f"{difference.object}: {difference.aspect} is {live} now, and was {was}"
