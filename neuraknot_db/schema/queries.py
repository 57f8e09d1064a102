"""`alembic/queries.sql`: what the application asks of our tables, as `pg_stat_statements` tells it, without values."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.database.sql_text import names, statements, tokens, without_literals
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.schema import snapshots

LONGEST = 16 << 10
"""Bytes of a query's line of JSON: CloudWatch may get a longer one in parts."""

_KINDS = frozenset({"select", "insert", "update", "delete", "merge", "with"})
_OURS = frozenset({"neuraknot_db", "alembic_version", "pg_catalog", "information_schema"})
"""Names that only this tool's and psql's own queries hold."""

_SIZED = re.compile("(bp|var)?char|character|varying|bit|decimal|float|interval|numeric|time(stamp)?(tz)?")
"""The types that have a length."""

_HIDDEN, _OTHERS = "<insufficient privilege>", "of other users"

_EXTENSION = """
SELECT current_setting('pg_stat_statements.max', true) AS loaded,
       to_regclass(quote_ident(nspname) || '.pg_stat_statements_info') IS NOT NULL AS tells, nspname
  FROM (VALUES (1)) always
  LEFT JOIN (pg_extension JOIN pg_namespace n ON n.oid = extnamespace) ON extname = 'pg_stat_statements'
"""
_TEXTS = """
SELECT query FROM {schema}.pg_stat_statements
 WHERE toplevel AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_RESET = "SELECT dealloc, to_char(stats_reset AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM {schema}.pg_stat_statements_info"

_HEADER = """\
-- What the application asks of our tables, without values: neuraknot-db compat check prepares each query before and
-- after a revision. neuraknot-db compat record writes this file anew."""
_SEEN = re.compile(r"-- Seen at revision (.+), on PostgreSQL (\d+), ")


def path_of(script: ScriptDirectory) -> Path:
    """Return the file's path."""
    return Path(script.dir) / "queries.sql"


class Recorded(NamedTuple):
    """What the file holds: queries, each with its line; the revision and major version, if its header says them."""

    queries: dict[str, int]
    revision: str | None
    version: int | None


def record(connection: Connection, script: ScriptDirectory) -> tuple[list[str], list[str]]:
    """Read the queries that touch a table or view of any revision.

    Returns:
        The file's paragraphs, of which the first is its header; and what was left out, for the reader.

    Raises:
        RefusedError: the server does not count queries, this database does not show them, or none touches our tables.
    """
    state = DatabaseState.of(connection)
    schema = raw_sql.quoted(_schema(connection))
    texts = connection.exec_driver_sql(_TEXTS.format(schema=schema)).scalars().all()
    pushed_out, since = connection.exec_driver_sql(_RESET.format(schema=schema)).one()
    ours = {name for each in snapshots.load_all(script).values() for name in each.relations}
    own, found, left_out = set(_own_shapes(script, ours)), set(), Counter[str]()
    for text in texts:
        words = names(text or "")
        if text is None or text == _HIDDEN:
            left_out[_OTHERS if text else "without a text"] += 1
        elif _is_query(words) and not ours.isdisjoint(words):
            query = _normalised(text)
            if not query:
                left_out["that can't be read"] += 1
            elif _shape(query) in own or not _OURS.isdisjoint(words):
                left_out["of this tool and the revisions"] += 1
            elif len(as_line(f"{query};").encode()) >= LONGEST:
                left_out["longer than 16 kB"] += 1
            else:
                found.add(f"{query};")
    notes = [f"left out: {count} {reason}" for reason, count in left_out.items()]
    hint, version = "Let the application run first, on this database.", state.server_version.partition(".")[0]
    header = f"{_HEADER}\n-- Seen at revision {state.revision or 'none'}, on PostgreSQL {version}, since {since}."
    if pushed_out:
        header += "\n-- Not complete: the server has pushed texts out. Set pg_stat_statements.max higher."
    if left_out[_OTHERS]:
        header += "\n-- Not complete: the user who recorded may not read the texts of others."
        hint = f"As an administrator: GRANT pg_read_all_stats TO {raw_sql.quoted(state.role)}"
        notes.append(hint)
    if not found:
        raise RefusedError(f"pg_stat_statements shows no query on our tables, since {since}.", hint=hint)
    return [header, *sorted(found)], notes


def _schema(connection: Connection) -> str:
    """Return the schema of the extension.

    Raises:
        RefusedError: it is not here, or too old.
    """
    loaded, tells, schema = connection.exec_driver_sql(_EXTENSION).one()
    if tells:
        return str(schema)
    if loaded is None:
        reason = "it is not in the server's shared_preload_libraries"
        hint = (
            "On RDS add it there in the instance's parameter group, and reboot the instance; elsewhere: ALTER SYSTEM"
            " SET shared_preload_libraries = 'pg_stat_statements', and restart the server. Then, in this database:"
            " CREATE EXTENSION pg_stat_statements"
        )
    else:
        reason = f"in this database {'its extension is of an old version' if schema else 'is no such extension'}"
        how = "ALTER EXTENSION pg_stat_statements UPDATE" if schema else "CREATE EXTENSION pg_stat_statements"
        hint = f"As an administrator, in this database: {how}"
    raise RefusedError(f"pg_stat_statements tells no queries: {reason}.", hint=hint)


def _is_query(words: list[str]) -> bool:
    return next((each for each in words if each != "("), "") in _KINDS


def _own_shapes(script: ScriptDirectory, ours: set[str]) -> Iterator[str]:
    """Yield the shapes of what revisions hold, losses too, and of what a reset counts."""
    for revision in script.walk_revisions():
        for held in ast.walk(ast.parse(Path(revision.path).read_bytes())):
            if isinstance(held, ast.Constant) and isinstance(held.value, str):
                yield from (_shape(each.text) for each in statements(held.value))
    yield from (_shape(f"SELECT count(*) FROM public.{raw_sql.quoted(name)}") for name in ours)


def _shape(sql: str) -> str:
    """Return SQL in one line, whatever its values and quotes."""
    return re.sub(r"'?\.\.\.'?|\$\d+", "?", without_literals(sql)).lower().replace('"', "")


def _normalised(sql: str) -> str:
    """Return a query without comments and empty lines, and with parameters for the values that the server has left.

    It leaves those of a statement that was prepared before its counters were reset; and of an expression that stands
    twice, as in GROUP BY, the second one's: that gets the first one's parameter, or nothing would prepare it.
    A text with a string that ends elsewhere than it seems to gives nothing.
    """
    found = [each for each in tokens(sql) if each.kind != "continuation"]
    words = ["", "", *(each.text.lower() for each in found)]
    numbers = (each.text[1:] for each in found if each.kind == "parameter")
    highest = max((int(each) for each in numbers if each.isdecimal()), default=0)
    known: dict[tuple[str, str], str] = {}
    parts: list[str] = []
    end, fixed = 0, -1
    for at, (token, before) in enumerate(zip(found, pairwise(words), strict=False)):
        text = token.text
        if token.kind == "error":
            return ""
        if token.kind == "parameter":
            known.setdefault(before, text)
        elif token.kind == "number" and (_begins_fixed(*before) or (before[1] == "," and fixed == at - 2)):
            fixed = at
        elif token.kind in ("number", "string"):
            highest += before not in known
            text = known.setdefault(before, f"${highest}")
        gap = sql[end : token.start]
        tail = gap.rpartition("\n")[2]
        parts += "\n" + (tail if tail.isspace() else "") if "\n" in gap else " " * bool(gap), text
        end = token.start + len(token.text)
    return "".join(parts).strip().removesuffix(";")


def _begins_fixed(word: str, last: str) -> bool:
    """Whether a number after two words is a column's position or a type's length, and no value; more may follow it."""
    return (word, last) in (("group", "by"), ("order", "by")) or (last == "(" and bool(_SIZED.fullmatch(word)))


def as_line(paragraph: str) -> str:
    """Return a paragraph of the file as a line of a log, a JSON string."""
    return json.dumps(paragraph, ensure_ascii=False)


def parse(path: Path) -> Recorded:
    """Return what a file in either form holds.

    Raises:
        UsageError: there is no such file, or it can't be read as queries.
    """
    again = "Correct it, or write it anew: neuraknot-db compat record"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"There is no {path.name} beside the revisions: nothing says what the application asks.",
            hint="Record it where the application runs: neuraknot-db compat record, or launcher ecs-run -- compat"
            f" record -o - > alembic/{path.name}",
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path.name} can't be read: {error}.", hint=again) from error
    queries: dict[str, int] = {}
    for line, paragraph in _paragraphs(text):
        if found := statements(paragraph):
            if wrong := _wrong(paragraph, len(found)):
                raise UsageError(f"{path.name} can't be read, line {line}: {wrong}.", hint=again)
            query = found[0].text.rstrip().removesuffix(";")
            queries.setdefault(query, line + paragraph.count("\n", 0, found[0].start))
    if not queries:
        raise UsageError(f"{path.name} holds no query.", hint=again)
    seen = _SEEN.search(text)
    return Recorded(queries, seen and seen[1], int(seen[2]) if seen else None)


def _wrong(paragraph: str, count: int) -> str:
    """Return why a paragraph of so many statements is no query, as a clause; one cut within a string may be one."""
    if not _is_query(names(paragraph)):
        return "this is no SELECT, INSERT, UPDATE, DELETE or MERGE"
    *_, last = tokens(paragraph)
    if count > 1 or not last.text.rstrip().endswith(";"):
        return "a query ends with a semicolon, and empty lines stand between queries, but never within one"
    return ""


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yield each paragraph with its line, or each string of JSON: what else the launcher wrote is passed over."""
    is_log = re.search('^"-- ', text, re.MULTILINE)  # the header
    for found in re.finditer('^".*' if is_log else r"(?:^.*\S.*\n?)+", text, re.MULTILINE):
        paragraph = found[0]
        if is_log:
            with contextlib.suppress(ValueError):
                paragraph = str(json.loads(paragraph))
        yield text.count("\n", 0, found.start()) + 1, paragraph
