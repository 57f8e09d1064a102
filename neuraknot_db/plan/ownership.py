"""Statements that the server may refuse for want of a right: a plan notes them, and no run is refused for them.

Until then a GRANT, a rename or a condition in Python may change what a statement takes, or whether it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlalchemy.engine import Connection

from neuraknot_db.database.sql_text import tokens
from neuraknot_db.schema.effects import DELETED, INSERTED, NAME, UPDATED, UPDATED_ALL, LockMode, Measured

_OWNER, _DROP = "", "DROP"
"""Rights that no GRANT on the table gives: its owner's, and those of its owner or its schema's."""

_BY_CODE = frozenset({"do", "call", "execute", "select", "with", "merge"})
"""The first words of statements whose text does not say what they change."""

_ROWS = {INSERTED: "INSERT", UPDATED: "UPDATE", UPDATED_ALL: "UPDATE", DELETED: "DELETE"}

_UNTOLD = frozenset({"only", "concurrently", "if", "not", "exists", "*"})
"""Words around a name that change nothing about whose it is."""

# From there on the rights of another role count.
_OTHER_ROLE = re.compile(rb"set\s+(?:local\s+|session\s+)?role\b|session\s+authorization|'role'", re.IGNORECASE)

_PART = r'(?:"(?:[^"]|"")++"|[^\W\d][\w$]*+(?!…))'  # not the rest of a name that was cut
_ONE = rf"{_PART}(?: \. {_PART})?"
_WORDS = {
    "ANY": r'(?:[^"]|"[^"]*")*?',  # nothing is a keyword within a quoted name
    "KIND": "(?:(?:foreign )?table|(?:materialized )?view|sequence|index)",
    "LIST": rf"({_ONE}(?: , {_ONE})*)",
    "NAME": _PART,
    "ONE": rf"({_ONE})",
}
_TARGETS = {
    "create (?:unique )?index (?:NAME )?on ONE": _OWNER,
    "create or replace (?:temp |temporary )?(?:recursive )?view ONE": _OWNER,
    "create (?:or replace )?rule NAME as on NAME to ONE": _OWNER,
    "create (?:foreign |unlogged )?table ANY partition of ONE": _OWNER,
    r"create (?:foreign |unlogged )?table ANY \) inherits \( LIST": _OWNER,
    "create (?:or replace )?(?:constraint )?trigger ANY on ONE": "TRIGGER",
    "(?:create|alter|drop) policy NAME on ONE": _OWNER,
    "(?:alter|drop) (?:trigger|rule) NAME on ONE": _OWNER,
    "alter KIND ONE": _OWNER,
    "drop KIND LIST": _DROP,
    "comment on KIND ONE": _OWNER,
    r"comment on column ONE \. NAME": _OWNER,
    "comment on (?:constraint|policy|rule|trigger) NAME on ONE": _OWNER,
    "insert into ONE": "INSERT",
    "update ONE": "UPDATE",
    "delete from ONE": "DELETE",
    "truncate (?:table )?LIST": "TRUNCATE",
    "refresh materialized view ONE": "MAINTAIN",
    r"reindex (?:\( ANY \) )?(?:table|index) ONE": "MAINTAIN",
}
"""How a statement begins, up to what it changes, and the right that it takes."""

_FORMS = [
    (re.compile(re.sub("[A-Z]+", lambda word: _WORDS[word[0]], text), re.IGNORECASE), right)
    for text, right in _TARGETS.items()
]
_NAMES = re.compile(_ONE)
_REFERRED = re.compile(rf'"[^"]*"|\breferences ({_ONE})', re.IGNORECASE)

# The names are not resolved by to_regclass: it fails where a schema may not be used. The right on an index is its
# table's.
_LACKING = f"""
SELECT w.at, CASE WHEN w.needed = ANY (o.rights) THEN {NAME} || ' belongs to ' || r.rolname
                  ELSE current_user || ' lacks ' || w.needed || ' on ' || {NAME} END
  FROM unnest(%(names)s::text[], %(rights)s::text[], %(at)s::int[]) WITH ORDINALITY AS w (name, needed, at, turn)
 CROSS JOIN parse_ident(w.name) AS i (parts)
 CROSS JOIN (SELECT ARRAY['', 'DROP'] || CASE WHEN current_setting('server_version_num')::int < 170000
                                              THEN ARRAY['MAINTAIN'] END) AS o (rights)
  JOIN pg_namespace n ON n.nspname = CASE cardinality(i.parts) WHEN 1 THEN 'public' ELSE i.parts[1]::name END
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = i.parts[cardinality(i.parts)]::name
  JOIN pg_roles r ON r.oid = c.relowner
  LEFT JOIN pg_index x ON x.indexrelid = c.oid
 WHERE NOT pg_has_role(c.relowner, 'USAGE')
   AND NOT CASE WHEN w.needed = 'DROP' THEN pg_has_role(n.nspowner, 'USAGE')
                WHEN w.needed = ANY (o.rights) THEN false
                WHEN w.needed IN ('INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege(c.oid, w.needed)
                ELSE has_table_privilege(coalesce(x.indrelid, c.oid), w.needed) END
 ORDER BY w.turn
"""


def notes(connection: Connection, source: bytes, statements: Sequence[Measured]) -> list[str]:
    """Return for each statement of a revision why the server may refuse it to this role; empty for no reason.

    Args:
        connection: in a transaction, or the caller ends the one that this begins.
        source: the revision's file; if it sets a role, nothing is said.
        statements: what was measured of it.
    """
    wanted = [(*need, at) for at, each in enumerate(statements) for need in dict.fromkeys(_needs(each))]
    reasons: list[list[str]] = [[] for _ in statements]
    if wanted and not _OTHER_ROLE.search(source):
        names, rights, places = map(list, zip(*wanted, strict=True))
        for at, reason in connection.exec_driver_sql(_LACKING, {"names": names, "rights": rights, "at": places}):
            reasons[at].append(reason)
    return [f"{', '.join(each)}: the server may refuse it" if each else "" for each in reasons]


def _needs(statement: Measured) -> Iterator[tuple[str, str]]:
    """Yield the relations that a statement changes, each with the right that this takes."""
    found = [token for token in tokens(statement.sql) if token.text.lower() not in _UNTOLD]
    if found and found[0].text.lower() in _BY_CODE:
        for effect in statement.effects:
            yield from ((effect.relation, _ROWS[rows]) for rows in effect.rows_changed)
            lock = max(effect.lock or 0, effect.index_lock or 0)
            if lock > LockMode.ROW_EXCLUSIVE or effect.dropped or effect.rewritten or effect.index_built:
                yield effect.relation, _OWNER
        return
    text = " ".join("''" if token.kind == "string" else token.text for token in found)
    for form, right in _FORMS:
        if begins := form.match(text):
            yield from ((name, right) for name in _NAMES.findall(begins[1]))
    if re.match("create|alter", text, re.IGNORECASE):
        yield from ((name, "REFERENCES") for name in _REFERRED.findall(text) if name)
