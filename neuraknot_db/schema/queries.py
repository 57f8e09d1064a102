"""`alembic/queries.sql`: what the application asks of our tables, as `pg_stat_statements` tells it, without values."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql
from neuraknot_db.database.sql_text import Token, names, statements, tokens
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import RefusedError, UsageError
from neuraknot_db.schema import snapshots

LONGEST = 16 << 10
"""Bytes of a query's line of JSON: CloudWatch may get a longer one in parts."""

_KINDS = frozenset({"select", "insert", "update", "delete", "merge", "with"})
_OURS = frozenset({"neuraknot_db", "alembic_version", "pg_catalog", "information_schema"})
"""Names that only this tool's and psql's own queries hold."""

_VALUES = frozenset({"parameter", "string", "number"})
_BEFORE_VALUES = frozenset({"limit", "offset", "between", "and", "or", "when", "then", "else"})
_LISTING = frozenset({"in", "values", "array", "(", ","})
"""What stands before the parenthesis of a list of values."""

_HIDDEN, _OTHERS = "<insufficient privilege>", "of other users"
_LEAST_VERSION = (1, 9)

_EXTENSION = """
SELECT current_setting('pg_stat_statements.max', true) AS loaded, extversion, nspname
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
_SEEN = re.compile(r"^-- Seen at .*, on PostgreSQL (\d+), since ", re.MULTILINE)


def path_of(script: ScriptDirectory) -> Path:
    """Return the file's path."""
    return Path(script.dir) / "queries.sql"


class Query(NamedTuple):
    """A query of the file, without its semicolon, and the line on which it begins."""

    text: str
    line: int


class Recording(NamedTuple):
    """What was read from a server.

    Attributes:
        queries: sorted.
        facts: what the file's header says of them.
        notes: what was left out, for the reader.
    """

    queries: list[str]
    facts: list[str]
    notes: list[str]


def record(connection: Connection, script: ScriptDirectory) -> Recording:
    """Read the queries that touch a table or view of any revision.

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
        if text is None or text == _HIDDEN:
            left_out[_OTHERS if text else "without a text"] += 1
        elif _is_ours(text, ours):
            query = _normalised(text)
            if _shape(query) in own:
                left_out["of this tool and the revisions"] += 1
            elif len(_in_one_line(f"{query};").encode()) >= LONGEST:
                left_out["longer than 16 kB"] += 1
            else:
                found.add(query)
    notes = [f"left out: {count} {reason}" for reason, count in left_out.items()]
    hint, version = "Let the application run first, on this database.", state.server_version.partition(".")[0]
    facts = [f"Seen at revision {state.revision or 'none'}, on PostgreSQL {version}, since {since}."]
    if pushed_out:
        facts.append("Not complete: the server has pushed texts out. Set pg_stat_statements.max higher.")
    if left_out[_OTHERS]:
        facts.append("Not complete: the user who recorded may not read the texts of others.")
        hint = f"As an administrator: GRANT pg_read_all_stats TO {raw_sql.quoted(state.role)}"
        notes.append(hint)
    if not found:
        raise RefusedError(f"pg_stat_statements shows no query on our tables, since {since}.", hint=hint)
    return Recording(sorted(found), facts, notes)


def _schema(connection: Connection) -> str:
    """Return the schema of the extension.

    Raises:
        RefusedError: it is not here, or too old.
    """
    loaded, version, schema = connection.exec_driver_sql(_EXTENSION).one()
    if loaded is None:
        raise RefusedError(
            "The server does not count queries: pg_stat_statements is not in shared_preload_libraries.",
            hint="On RDS add it there in the instance's parameter group, and reboot the instance; elsewhere: ALTER"
            " SYSTEM SET shared_preload_libraries = 'pg_stat_statements', and restart the server. Then, in this"
            " database: CREATE EXTENSION pg_stat_statements",
        )
    if version is None:
        raise RefusedError(
            "The server counts queries, and this database does not show them: it has no extension pg_stat_statements.",
            hint="As an administrator, in this database: CREATE EXTENSION pg_stat_statements",
        )
    if tuple(map(int, version.split("."))) < _LEAST_VERSION:
        raise RefusedError(
            f"pg_stat_statements is still at version {version} here, and tells too little.",
            hint="As an administrator, in this database: ALTER EXTENSION pg_stat_statements UPDATE",
        )
    return str(schema)


def _is_ours(text: str, ours: set[str]) -> bool:
    """Whether it is a query that names one of our relations, and nothing that only a tool asks for."""
    words = names(text)
    return _is_query(words) and not ours.isdisjoint(words) and _OURS.isdisjoint(words)


def _is_query(words: list[str]) -> bool:
    return next((each for each in words if each != "("), "") in _KINDS


def _own_shapes(script: ScriptDirectory, ours: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield the shapes of what revisions hold, losses too, and of what a reset counts."""
    for revision in script.walk_revisions():
        losses = getattr(revision.module, "losses", {})
        held = ast.walk(ast.parse(Path(revision.path).read_bytes()))
        texts = (each.value for each in held if isinstance(each, ast.Constant))
        for text in (*texts, *(losses.values() if isinstance(losses, dict) else ())):
            if isinstance(text, str):
                yield from (_shape(each.text) for each in statements(text))
    yield from (_shape(f"SELECT count(*) FROM public.{raw_sql.quoted(name)}") for name in ours)


def _shape(sql: str) -> tuple[str, ...]:
    """Return its words, whatever the values."""
    pairs = zip(tokens(sql), names(sql), strict=True)
    return tuple("?" if token.kind in _VALUES else name for token, name in pairs if token.kind != "continuation")


def _normalised(sql: str) -> str:
    """Return a query without comments and empty lines, and with parameters for the values that the server has left.

    It leaves those of a statement that was prepared before its counters were reset; and of an expression that stands
    twice, as in GROUP BY, the second one's: that gets the first one's parameter, or nothing would prepare it.
    """
    found = list(tokens(sql))
    highest = max((int(each.text[1:]) for each in found if re.fullmatch(r"\$\d+", each.text)), default=0)
    known: dict[tuple[str, ...], str] = {}
    parts: list[str] = []
    openers: list[str] = []
    end = 0
    for at, token in enumerate(found):
        gap, text, end = sql[end : token.start], token.text, token.start + len(token.text)
        before = tuple(each.text.lower() for each in found[max(at - 2, 0) : at])
        last = before[-1] if before else ""
        if token.kind == "continuation" or (text == ";" and at == len(found) - 1):
            continue
        if text == "(":
            openers.append(last)
        elif text == ")" and openers:
            openers.pop()
        if token.kind == "parameter":
            known.setdefault(before, text)
        elif token.kind == "string" or (token.kind == "number" and _is_value(found[at - 1], openers, before in known)):
            if before not in known:
                highest += 1
                known[before] = f"${highest}"
            text = known[before]
        parts += _gap(gap) if parts else "", text
    return "".join(parts)


def _is_value(before: Token, openers: list[str], known: bool) -> bool:
    """Whether a number is a value, and not a type's length or a column's position."""
    listed = before.text in ("(", ",") and bool(openers) and openers[-1] in _LISTING
    return known or listed or before.kind == "operator" or before.text.lower() in _BEFORE_VALUES


def _gap(gap: str) -> str:
    if not gap.strip() and gap.count("\n") < 2:
        return gap.replace("\r", "")
    lines = gap.rsplit("\n", 1)
    return " " if len(lines) < 2 else "\n" + lines[1][: len(lines[1]) - len(lines[1].lstrip())]


def render(recording: Recording, *, in_lines: bool = False) -> str:
    """Return the file's text: a paragraph for each query, or, for a log, a line with the same as a JSON string."""
    header = "\n".join((_HEADER, *(f"-- {fact}" for fact in recording.facts)))
    paragraphs = [header, *(f"{query};" for query in recording.queries)]
    return "\n".join(map(_in_one_line, paragraphs)) if in_lines else "\n\n".join(paragraphs) + "\n"


def _in_one_line(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def parse(path: Path) -> tuple[list[Query], int | None]:
    """Return the queries of a file in either form, and the major version of their server; None if it does not say it.

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
    queries: dict[str, Query] = {}
    version = None
    for line, paragraph in _paragraphs(text):
        if seen := _SEEN.search(paragraph):
            version = int(seen[1])
        if not (words := list(tokens(paragraph))):
            continue
        if wrong := _wrong(paragraph, words):
            raise UsageError(f"{path.name} can't be read, line {line}: {wrong}.", hint=again)
        start, end = words[0].start, words[-1].start if words[-1].text == ";" else len(paragraph)
        query = paragraph[start:end].rstrip().removesuffix(";")
        queries.setdefault(query, Query(query, line + paragraph[:start].count("\n")))
    return list(queries.values()), version


def _wrong(paragraph: str, words: list[Token]) -> str:
    """Return why a paragraph is no query, as a clause; one that was cut within a string may be one."""
    if paragraph.startswith('"'):
        return "this is no whole string of JSON"
    if not _is_query(names(paragraph)):
        return "this is no SELECT, INSERT, UPDATE, DELETE or MERGE"
    if not paragraph.rstrip().endswith(";") and words[-1].text != ";":
        return "a query ends with a semicolon, and none of its lines is empty"
    return "an empty line stands between two queries" if any(each.text == ";" for each in words[:-1]) else ""


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yield each paragraph with its line, or each string of JSON: what else the launcher wrote is passed over."""
    lines = text.split("\n")
    if any(each.startswith('"-- ') for each in lines):  # the header, as `render` wrote it
        for number, line in enumerate(lines, start=1):
            if line.startswith('"'):
                try:
                    yield number, str(json.loads(line))
                except ValueError:
                    yield number, line
        return
    begin = 0
    for number, line in enumerate([*lines, ""]):
        if not line.strip():
            if number > begin:
                yield begin + 1, "\n".join(lines[begin:number])
            begin = number + 1
