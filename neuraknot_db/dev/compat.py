"""Whether recorded queries survive a revision: prepared on a server of this machine's own, before and after it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from textwrap import shorten
from typing import Any, NamedTuple

from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.database import engine, interrupt
from neuraknot_db.database.create import scratch_database
from neuraknot_db.dev import definitions
from neuraknot_db.dev.own_servers import OwnServer, own_servers
from neuraknot_db.dev.scratch import Scratch
from neuraknot_db.errors import MigrationFailedError, RefusedError, UsageError
from neuraknot_db.schema.catalog import Schema, Table, read_schema
from neuraknot_db.schema.compare import Difference, compare
from neuraknot_db.schema.equivalence import Spelling
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
       array_agg(CASE WHEN (attnotnull OR typnotnull) AND attgenerated = '' THEN attname END ORDER BY attnum)
  FROM pg_class r
  JOIN pg_namespace n ON n.oid = relnamespace
  JOIN pg_attribute ON attrelid = r.oid AND attnum > 0
  LEFT JOIN pg_type t ON t.oid = atttypid
 WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = r.oid AND NOT tgisinternal AND tgtype & 7 = 7)
 GROUP BY 1
"""
"""Each table's columns, in their places, that an INSERT must fill; a row's trigger before it may fill any."""

_ANYWHERE = ("function", "result", "enum", "domain")
"""What changes something for each table that uses it."""

_WIDTH = 100


class _Look(NamedTuple):
    """What a driver sees of a query, or why it can't be prepared, in the server's words."""

    error: str
    statement: Any = None
    parameters: Sequence[str] = ()  # their types
    columns: Sequence[tuple[str, str]] = ()  # the result's, with their types
    empty: Sequence[str] = ()  # the NOT NULL columns to which it gives NULL
    writes: Sequence[str] = ()  # tables


class Step(NamedTuple):
    """What a revision does to queries.

    Attributes:
        revision: its id.
        breaks: the queries that it breaks, with the reason.
        failing: those that can be prepared neither before it nor after it, with the reason.
        to_see: what preparing can't see.
    """

    revision: str
    breaks: dict[str, str]
    failing: dict[str, str]
    to_see: list[str]

    def lines(self, places: Mapping[str, str]) -> Iterator[str]:
        """Yield breaks, with each query's place, and what is to see as lines of text."""
        for reason in dict.fromkeys(self.breaks.values()):
            yield f"{self.revision}: {reason}"
            for query in (each for each, why in self.breaks.items() if why == reason):
                yield f"  {places[query]}: {shorten(query, _WIDTH, placeholder=' ...')}"
        yield from (f"{self.revision}: look yourself: {line}" for line in self.to_see)


def server_for(version: int | None) -> OwnServer:
    """Return this machine's own server of a major version; without it, the embedded one."""
    servers = own_servers()
    if same := [each for each in servers if each.version == version]:
        return same[0]
    found = next((each for each in servers if each.programs is None), servers[-1])
    log.info("recorded on PostgreSQL %s, checked on %d", version or "of an unknown version", found.version)
    return found


def check(
    config: Config, script: ScriptDirectory, queries: Collection[str], selected: Collection[str], server: Settings
) -> Iterator[Step]:
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
        scratch = Scratch(config, where, connection)
        for revision in revisions[: max(map(revisions.index, selected)) + 1]:
            upgrade = partial(scratch.migrate, "upgrade", revision)
            try:
                if revision in selected:
                    yield asyncio.run(watch(where, queries, revision, upgrade))
                else:
                    upgrade()
            except (MigrationFailedError, RefusedError) as error:
                if interrupt.interruption(error):
                    raise
                log.warning("not checked: revision %s and later: it fails when it is tried: %s", revision, error)
                return


async def watch(where: Settings, queries: Collection[str], revision: str, upgrade: Callable[[], object]) -> Step:
    """Prepare each query before and after an upgrade to a revision, which changes that database."""
    how = {"host": where.host, "port": where.port, "user": where.user, "database": where.database, "ssl": False}
    # Other plans depend on the values, which nobody knows.
    connection = await asyncpg.connect(**how, server_settings={"plan_cache_mode": "force_generic_plan"})
    try:
        schema, before = _schema(where), await _prepared(connection, queries)
        upgrade()
        # What stays prepared tells more of its result than what is prepared anew.
        held = {query: (await _plan(connection, look.statement))[1] for query, look in before.items() if look.statement}
        after = await _prepared(connection, queries)
    finally:
        await connection.close()
    reasons = {query: _reason(before[query], why, after[query]) for query, why in held.items()}
    return Step(
        revision,
        {query: reason for query, reason in reasons.items() if reason},
        {query: look.error for query, look in before.items() if look.error and after[query].error},
        list(_unseen(schema, _schema(where), {table for look in before.values() for table in look.writes})),
    )


def _schema(where: Settings) -> Schema:
    with engine.connect(where) as connection:
        return read_schema(connection)


async def _prepared(connection: Any, queries: Collection[str]) -> dict[str, _Look]:
    required = dict(await connection.fetch(_REQUIRED))
    looks = {}
    for query in queries:
        sql = query
        for pattern, instead in _REPAIRS:
            sql = pattern.sub(instead, sql)
        try:
            statement = await connection.prepare(sql)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            looks[query] = _Look(_words(error))
            continue
        writing, wrong = await _plan(connection, statement)
        looks[query] = _Look(
            wrong,
            None if wrong else statement,
            [each.name for each in statement.get_parameters()],
            [(each.name, each.type.name) for each in statement.get_attributes()],
            [each for node in writing for each in _empty(node, required)],
            [node["Relation Name"] for node in writing],
        )
    return looks


async def _plan(connection: Any, statement: Any) -> tuple[list[Mapping[str, Any]], str]:
    """Return the nodes that write of a prepared statement's plan, or why there is none."""
    nulls = ", ".join(["NULL"] * len(statement.get_parameters()))
    execute = f'EXECUTE "{statement.get_name()}"' + (f"({nulls})" if nulls else "")
    try:
        plans = json.loads(await connection.fetchval(f"EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) {execute}"))
    except asyncpg.PostgresError as error:
        # Class 23: a domain refuses the NULL that we give.
        return [], "" if error.sqlstate.startswith("23") else _words(error)
    nodes = (node for each in plans if "Plan" in each for node in _nodes(each["Plan"]))  # a rule's NOTIFY has none
    return [node for node in nodes if node["Node Type"] == "ModifyTable"], ""


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)


def _empty(node: Mapping[str, Any], required: Mapping[str, Sequence[str | None]]) -> Iterator[str]:
    """Yield the NOT NULL columns to which an INSERT gives NULL."""
    if node["Operation"] == "Insert":
        columns = required.get(f"{node['Schema']}.{node['Relation Name']}", ())
        for column, value in zip(columns, _given(node), strict=False):
            if column and value.startswith("NULL::"):
                yield f"{node['Relation Name']}.{column}"


def _given(node: Mapping[str, Any]) -> Sequence[str]:
    """Return what a node gets from below: its subqueries stand beside that, and a UNION tells it in its parts."""
    below = [each for each in node.get("Plans", ()) if each["Parent Relationship"] in ("Outer", "Member")]
    return below[0].get("Output") or _given(below[0]) if below else ()


def _words(error: Exception) -> str:
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return "its result changes, if only in length or collation"
    return str(error).split("\n")[0]


def _reason(before: _Look, held: str, after: _Look) -> str:
    """Return how a query breaks, as clauses; empty if it does not."""
    if after.error:
        return after.error
    parameters = enumerate(zip(before.parameters, after.parameters, strict=True), start=1)
    # A name may stand twice.
    was = dict((Counter(before.columns) - Counter(after.columns)).elements())
    now = dict((Counter(after.columns) - Counter(before.columns)).elements())
    reasons = [
        *(f"parameter ${n} is {new} now, and was {old}" for n, (old, new) in parameters if _kind(old) != _kind(new)),
        *(f"it gives NULL to {each}, which is NOT NULL now" for each in after.empty if each not in before.empty),
        *(f"its result has one more column, {name}" for name in now if name not in was),
        *(f"its result has no column {name} any more" for name in was if name not in now),
        *(f"{name} is {now[name]} now, and was {was[name]}" for name in was if name in now),
    ]
    if not reasons and before.columns != after.columns:
        return "its result's columns have another order"
    return "; ".join(reasons) or (held and f"{held}; this fails where it is prepared already, on open connections")


def _kind(type_: str) -> str:
    """Return what a parameter's type is for a driver: it writes any text, and any whole number, in the same way."""
    return re.sub(r"\bint[24]\b", "int8", re.sub(r"\b(varchar|bpchar)\b", "text", type_))


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
        elif _is_tighter(each) and (each.aspect in _ANYWHERE or not concerned.isdisjoint(written)):
            yield _told(each)
    for function in after.functions.values():
        for name in sorted(gone.intersection(re.findall(r"\w+", function.definition))):
            yield f"{function.signature} names {name}, which is gone"


def _is_tighter(difference: Difference) -> bool:
    """Whether it may refuse, or change, what was written before."""
    live, was = difference.live or "", difference.expected or ""
    return {
        **dict.fromkeys(_ANYWHERE, bool(was)),
        "constraint": bool(live),
        "trigger": True,
        "table": bool(re.search("row level|policy|rule", live)),
        "index": "UNIQUE" in live,
        "nullability": live == "NOT NULL",
        "default": live == "none",
        "column": not was and "NOT NULL" in live and "DEFAULT" not in live,
        "type": not _is_wider(live, was),
    }.get(difference.aspect, False)


def _is_wider(new: str, old: str) -> bool:
    """Whether a type is text, or another one with room for all that was."""
    if new.partition("(")[0] != old.partition("(")[0]:
        return new == "text" or (old, new) in (("integer", "bigint"), ("smallint", "integer"), ("smallint", "bigint"))
    sizes = ([int(each) for each in re.findall(r"\d+", type_)] for type_ in (new, old))
    # Of a number also the digits before the point.
    room, needed = ([*size, size[0] - size[-1]] if size else [] for size in sizes)
    return not room or (bool(needed) and all(map(int.__ge__, room, needed)))


def _told(difference: Difference) -> str:
    """Return a difference as a line, without the texts of functions."""
    live, was = difference.live or "gone", difference.expected
    if "\n" in live + (was or ""):
        live, was = "changed" if difference.live else "gone", None
    return f"{difference.object}: {difference.aspect} {live}" + (f", was {was}" if was else "")
