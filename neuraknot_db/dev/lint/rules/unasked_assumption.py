"""An upgrade that fails on rows which nothing asks for beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neuraknot_db.database.sql_text import names_table, one_line
from neuraknot_db.dev.lint.finding import Finding, Subject
from neuraknot_db.schema.effects import WITHOUT_ROWS, Effect, Measured

CODE = "unasked-assumption"
HELP = (
    "Ask for such rows before anything is changed, in the revision's variable `expects`:"
    ' expects = {{"what must hold, in words": "SELECT ... FROM {table} WHERE ..."}}'
)

_NEW_COLUMN = re.compile(
    r"\badd (?:column )?(?:if not exists )?(?!(?:constraint|check|unique|primary|foreign|exclude)\b)"
    r"(?P<name>[\w\"]+) (?:[^,()]|\((?:[^()]|\([^()]*\))*\))*",
    re.IGNORECASE,
)
_CHECKING = re.compile(
    r"^(?:alter|create(?= unique)|do)\b.*(?:(?<!\bis )\bnot null|\b(?:validate constraint|attach partition|unique)"
    r"|\b(?:primary key|exclude|foreign key|references|check ?\())",
    re.IGNORECASE,
)
_NEW_TYPE = re.compile(r"\btype (?P<type>(?:(?! using\b)[^,(])+(?:\([^)]*\))?)(?: using (?P<using>.*))?", re.IGNORECASE)
_ROOMY = re.compile(
    r"character varying|varchar|bigint|int8|numeric|decimal|real|float.*|double precision|date|timestamp.*|jsonb?",
    re.IGNORECASE,
)
"""Types that hold whatever is cast to them without being told."""


def check(subject: Subject) -> Iterator[Finding]:
    """Find statements of upgrade() that check rows of a table in use, which no query of `expects` names."""
    made: set[tuple[str, str]] = set()
    fitted: set[str] = set()
    expects = subject.queries("expects").values()
    for statement in subject.upgrade.measured.statements:
        sql = _whole(subject, statement)
        names = re.findall(r"[\w\"]+", _NEW_COLUMN.sub("", sql))
        # A partition is read where its parent is named and asked for.
        touched = [effect.relation for effect in statement.effects]
        # Nothing can be asked beforehand of columns that the revision makes, nor of rows that it makes fit.
        made |= {(table, found["name"]) for found in _NEW_COLUMN.finditer(sql) for table in touched}
        fitted |= {effect.relation for effect in statement.effects if statement.changes_rows_of(effect)}
        failing = [effect.relation for effect in statement.effects if _may_fail(statement, sql, effect)]
        if not failing or any(names_table(query, table) for query in expects for table in touched):
            continue
        if fitted.isdisjoint(failing) and made.isdisjoint((table, name) for table in failing for name in names):
            table = next((name for name in names if name in touched), failing[0])
            message = f"upgrade() fails where a row of {table} does not fit, and nothing asks beforehand."
            yield subject.finding(statement.line, CODE, message, HELP.format(table=table))


def _may_fail(statement: Measured, sql: str, effect: Effect) -> bool:
    """Whether a statement fails on some rows of a table: it checks them all, or has failed on the sample rows."""
    if effect.kind:
        return False
    failed = statement.note.startswith(WITHOUT_ROWS) and effect.lock is not None
    # What a new column holds is its default, whatever the rows are.
    checks = _CHECKING.search(sql if failed else _NEW_COLUMN.sub("", sql)) and (failed or effect.takes_time)
    return bool(checks or (effect.rewritten and effect.columns_retyped and _narrows(sql)))


def _narrows(sql: str) -> bool:
    """Whether it gives a column a type that may not hold what is there: text holds all, and USING may convert it."""
    for found in _NEW_TYPE.finditer(sql):
        kind, using = found["type"].strip().lower(), found["using"]
        if kind != "text" and (re.search(r"::|\bcast\b", using) if using else not _ROOMY.fullmatch(kind)):
            return True
    return False


def _whole(subject: Subject, statement: Measured) -> str:
    """Return a statement in one line; what was measured may be cut."""
    if not statement.sql.endswith("…"):
        return statement.sql
    here = (each.statement.text for each in subject.upgrade.statements if each.line == statement.line)
    return " ".join(map(one_line, here)) or statement.sql
