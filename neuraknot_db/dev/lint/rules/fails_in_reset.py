"""A revision that works after the COMMIT of an earlier one, and not in the one transaction of a reset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from neuraknot_db.database.sql_text import Token, tokens
from neuraknot_db.dev.lint.finding import Finding, RevisionStatement, Subject

CODE = "fails-in-reset"
HELP = (
    "neuraknot-db reset runs the revisions in one transaction. Change this one or the earlier one. If they were applied"
    " already, say so in alembic/lint.toml, and give each a transaction of its own: neuraknot-db reset --no-upgrade &&"
    " alembic upgrade head"
)
VALUE_HELP = (
    "A new value can't be used before a COMMIT (since PostgreSQL 17 it can if the type is as new). Put it into CREATE"
    f" TYPE, or make the type anew: CREATE TYPE ..., ALTER COLUMN ... TYPE. {HELP}"
)

_UNSAFE_VALUE = "UnsafeNewEnumValueUsage"
_ADDING = re.compile(rb"(?:add|rename)\s+value", re.IGNORECASE)


def check(subject: Subject) -> Iterator[Finding]:
    """Find a value that was added to an enum before, in which servers differ; else a failure that was measured."""
    measured = "" if isinstance(subject.effects, str) else subject.effects.reset
    if found := _new_value(subject):
        yield found
    elif measured and subject.upgrade.statements:
        help_ = VALUE_HELP if _UNSAFE_VALUE in measured else HELP
        yield subject.finding(subject.upgrade.line, CODE, f"A reset fails here: {measured}.", help_)


def _new_value(subject: Subject) -> Finding | None:
    added: dict[str, str] = {}
    for each in subject.in_one_transaction:
        own = each.revision is subject.revision
        if not (_ADDING.search(each.path.read_bytes()) or (own and added)):
            continue
        for statement in each.upgrade.statements:
            if own and (value := _used(statement, added)):
                who = "its transaction" if added[value] == "it" else "a reset"
                message = f"upgrade() mentions '{value}', which {added[value]} adds to an enum: {who} can't use it yet."
                return subject.finding(statement.line, CODE, message, VALUE_HELP)
            added |= dict.fromkeys(_added(statement, added), "it" if own else f"revision {each.revision.revision}")
    return None


def _used(statement: RevisionStatement, added: Mapping[str, str]) -> str | None:
    """Return one of the added values if a statement may use it."""
    if statement.words[0] == "comment" or statement.words[:2] == ["alter", "type"]:
        return None
    for token in _deep(statement.statement.text):
        if token.kind == "string":
            text = _content(token)
            # As an array: '{a,b}'.
            for value in (text, *(part.strip(' "') for part in text.strip("{}").split(","))):
                if value in added:
                    return value
    return None


def _added(statement: RevisionStatement, added: Mapping[str, str]) -> Iterator[str]:
    """Yield the values that a statement adds to an enum, or to which it renames an added one."""
    found = list(_deep(statement.statement.text))
    for at in range(len(found)):
        words = [token.text.lower() for token in found[at : at + 5]]
        rest = found[at + 5 :] if words[2:] == ["if", "not", "exists"] else found[at + 2 :]
        kinds = ["string" if token.kind == "string" else token.text.lower() for token in rest[:3]]
        if words[:2] == ["add", "value"] and kinds[:1] == ["string"]:
            yield _content(rest[0])
        if words[:2] == ["rename", "value"] and kinds == ["string", "to", "string"] and _content(rest[0]) in added:
            yield _content(rest[2])


def _deep(sql: str) -> Iterator[Token]:
    """Yield the tokens of SQL, and of the SQL that its strings may hold: DO blocks, functions, EXECUTE."""
    for token in tokens(sql):
        yield token
        if token.kind == "string" and not (inner := _content(token)).isidentifier():
            yield from _deep(inner)


def _content(token: Token) -> str:
    """Return what is between a string's quotes."""
    if token.text.startswith("$"):
        tag = token.text.index("$", 1) + 1
        return token.text[tag:-tag]
    return token.text[token.text.index("'") + 1 : -1].replace("''", "'")
