"""An upgrade that fails on rows which nothing asks for beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neuraknot_db.database.sql_text import one_line
from neuraknot_db.dev.lint.finding import Finding, Subject, named
from neuraknot_db.schema.effects import WITHOUT_ROWS, Effect, Measured

CODE = "unasked-assumption"
HELP = "Ask before anything is changed, in the revision's variable `expects`: expects = {{{asked}}}"

_COLUMNS = r"\((?P<columns>[^()]*)\)"
_CASES = (
    (
        r"\balter (?:column )?(?P<columns>[\w\"]+) set not null\b",
        '"every row of {table} has {columns}": "SELECT id FROM {table} WHERE {columns} IS NULL"',
    ),
    (
        rf"\bforeign key ?{_COLUMNS} references (?P<other>[\w.\"]+)(?: ?\((?P<key>[^()]*)\))?",
        '"what {table} refers to is in {other}": "SELECT {columns} FROM {table} WHERE ({columns}) IS NOT NULL'
        ' EXCEPT SELECT {key} FROM {other}"',
    ),
    (
        rf"\b(?:unique|primary key)\b[^()]*{_COLUMNS}",
        '"no two rows of {table} share {columns}": "SELECT {columns}, count(*) FROM {table}'
        ' WHERE ({columns}) IS NOT NULL GROUP BY {columns} HAVING count(*) > 1"',
    ),
    (r"", '"what must hold, in words": "SELECT id FROM {table} WHERE NOT (...)"'),
)
"""What a statement may hold, in the order in which it is looked for, and the question that goes with it."""

_INDEX = re.compile(r"\b(?:unique|primary key|exclude)\b(?! using index\b)", re.IGNORECASE)
_CONSTRAINT = re.compile(
    r"\b(?:set not null|check ?\(|validate constraint|foreign key|references|primary key|attach partition)",
    re.IGNORECASE,
)
_TARGET = re.compile(r"\b(?:alter table|index[^()]* on) (?:if exists )?(?:only )?([\w.\"]+)", re.IGNORECASE)

_WIDER = {
    "smallint": {"integer", "bigint", "numeric", "real", "double precision"},
    "integer": {"bigint", "numeric", "double precision"},
    "bigint": {"numeric"},
    "real": {"double precision"},
    "date": {"timestamp without time zone", "timestamp with time zone"},
    "timestamp without time zone": {"timestamp with time zone"},
}
"""Types, each with those that hold all of its values; so does text."""


def check(subject: Subject) -> Iterator[Finding]:
    """Find statements of upgrade() that check rows of a table in use, which no query of `expects` names."""
    asked = named(subject.expects)
    for statement in subject.upgrade.measured.statements:
        sql = _whole(subject, statement)
        tables = [each.relation for each in statement.effects if _may_fail(subject, statement, sql, each)]
        if not tables or any(table.rpartition(".")[2].strip('"') in asked for table in tables):
            continue
        target = found[1].removeprefix("public.") if (found := _TARGET.search(sql)) else ""
        table = target if target in tables else tables[0]
        message = f"upgrade() fails where a row of {table} does not fit, and nothing asks beforehand."
        yield subject.finding(statement.line, CODE, message, HELP.format(asked=_question(sql, table)))


def _may_fail(subject: Subject, statement: Measured, sql: str, effect: Effect) -> bool:
    if effect.kind:
        return False
    if statement.note.startswith(WITHOUT_ROWS) and (effect.lock or effect.takes_time):
        return True
    retyped = effect.rewritten and any(_is_narrower(subject, effect.relation, each) for each in effect.columns_retyped)
    indexed = (effect.index_built or effect.rewritten) and _INDEX.search(sql)
    return bool(retyped or indexed or ((effect.scanned or effect.rewritten) and _CONSTRAINT.search(sql)))


def _is_narrower(subject: Subject, table: str, column: str) -> bool:
    """Whether a column's new type may not hold a value of its old one; the snapshots tell both."""
    schemas = (subject.schema_before(function) for function in subject.functions)
    tables = [schema.tables[table].columns if schema and table in schema.tables else {} for schema in schemas]
    if not all(column in columns for columns in tables):
        return False
    before, after = (columns[column].type for columns in tables)
    return after != "text" and after not in _WIDER.get(before, ())


def _whole(subject: Subject, statement: Measured) -> str:
    """Return a statement in one line; what was measured may be cut."""
    if not statement.sql.endswith("…"):
        return statement.sql
    here = (each.statement.text for each in subject.upgrade.statements if each.line == statement.line)
    return " ".join(map(one_line, here)) or statement.sql


def _question(sql: str, table: str) -> str:
    """Return what to write into `expects`."""
    cases = ((re.search(pattern, sql, re.IGNORECASE), question) for pattern, question in _CASES)
    parts, question = next((found.groupdict(), question) for found, question in cases if found)
    return question.format(**parts | {"table": table, "key": parts.get("key") or parts.get("columns")})
