"""What pending revisions do to tables that they may not: the server would refuse it, maybe after others were applied.

What a statement does to which table was measured (`schema.effects`); what was not is left to the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database import raw_sql, sql_text
from neuraknot_db.errors import RefusedError
from neuraknot_db.migrate.causes import until_owned
from neuraknot_db.revisions.options import Step
from neuraknot_db.schema import effects
from neuraknot_db.schema.effects import DELETED, INSERTED, UPDATED, UPDATED_ALL, Effect, LockMode, Measured

_OWNER, _DROP = "", "DROP"
"""Rights that no GRANT on the table gives: its owner's, and those of its owner or its schema's."""

_DATA = {"insert": "INSERT", "update": "UPDATE", "delete": "DELETE", "truncate": "TRUNCATE"}
_UPKEEP = frozenset({"reindex", "cluster", "refresh"})
_BY_CODE = frozenset({"do", "call", "execute", "select", "with", "merge"})
_ROWS = {INSERTED: "INSERT", UPDATED: "UPDATE", UPDATED_ALL: "UPDATE", DELETED: "DELETE"}

# The first words of CREATE, ALTER, DROP and COMMENT ON for what only a table's owner may do.
_CHANGING = frozenset({"table", "view", "sequence", "index", "policy", "rule", "trigger", "statistics", "column"})
_CHANGING |= {"constraint"}
_BESIDE = frozenset({"on", "or", "replace", "unique", "materialized", "foreign", "temp", "temporary", "unlogged"})

# A function may give rights.
_CODE = re.compile(rb"\bcall\b|\bdo\s*[$']|\bselect\s+[\w.\"]+\s*\(", re.IGNORECASE)
# From there on the rights of another role count.
_OTHER_ROLE = re.compile(rb"set\s+(?:local\s+|session\s+)?role\b|session\s+authorization|'role'", re.IGNORECASE)

_LACKING = """
SELECT w.at, r.rolname AS owner, r.rolsuper AS by_superuser
  FROM unnest(%(names)s::text[], %(rights)s::text[]) WITH ORDINALITY AS w (name, needed, at)
  JOIN pg_class c ON c.oid = to_regclass(w.name)
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles r ON r.oid = c.relowner
 WHERE NOT pg_has_role(c.relowner, 'USAGE')
   AND NOT CASE WHEN w.needed = '' THEN false
                WHEN w.needed = 'DROP' THEN pg_has_role(n.nspowner, 'USAGE')
                WHEN w.needed IN ('INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege(c.oid, w.needed)
                WHEN w.needed <> 'MAINTAIN' OR current_setting('server_version_num')::int >= 170000
                THEN has_table_privilege(c.oid, w.needed)
                ELSE false END
 ORDER BY w.at
"""


class Need(NamedTuple):
    """What a statement takes.

    Attributes:
        revision: whose statement it is.
        statement: the statement.
        relation: the table or view.
        right: as in GRANT; `_OWNER` or `_DROP`.
        certain: whether it takes that on any database, whatever its code decides there.
    """

    revision: str
    statement: Measured
    relation: str
    right: str
    certain: bool


class Lack(NamedTuple):
    """A need that this role does not meet, whose the table is, and whether that is a superuser."""

    need: Need
    owner: str
    by_superuser: bool


def demand(connection: Connection, script: ScriptDirectory, steps: Sequence[Step], role: str) -> None:
    """Refuse what the server would certainly refuse.

    Args:
        connection: in a transaction, or the caller ends the one that this begins.
        script: where the revisions are.
        steps: what would run.
        role: whose rights the session has.

    Raises:
        RefusedError: a step changes what belongs to another role.
    """
    found = lacking(connection, (need for need in needs(script, steps) if need.certain))
    if not found:
        return
    # One cause, one hint: what else is missing is told when this is given.
    (first, owner, by_superuser), me = found[0], raw_sql.quoted(role)
    owned = first.right in (_OWNER, _DROP)
    alike = [each.need for each in found if each.owner == owner and (each.need.right in (_OWNER, _DROP)) == owned]
    tables = list(dict.fromkeys(need.relation for need in alike))
    revisions = ", ".join(dict.fromkeys(need.revision for need in alike))
    which = f"{'Revision' if ',' not in revisions else 'Revisions'} {revisions}"
    names = ", ".join(tables)
    if owned:
        raise RefusedError(
            f"User {role} may not change {names}, as {which[0].lower()}{which[1:]} would.",
            hint=until_owned(owner, by_superuser, me, names, "TABLE", tables),
        )
    rights = ", ".join(dict.fromkeys(need.right for need in alike))
    raise RefusedError(
        f"{which} would be refused by the server: user {role} lacks {rights} on {names}.",
        hint=f"As {owner}, or an administrator: GRANT {rights} ON TABLE {names} TO {me}",
    )


def lacking(connection: Connection, wanted: Iterable[Need]) -> list[Lack]:
    """Return the needs that this role does not meet, of tables that are there."""
    asked = list(wanted)
    names, rights = [each.relation for each in asked], [each.right for each in asked]
    rows = connection.exec_driver_sql(_LACKING, {"names": names, "rights": rights}) if asked else ()
    return [Lack(asked[row.at - 1], row.owner, row.by_superuser) for row in rows]


def needs(script: ScriptDirectory, steps: Iterable[Step]) -> Iterator[Need]:
    """Yield what the steps take, as far as it was measured.

    Nothing is certain from a revision on that calls a function, which may give rights. A table that was dropped says
    nothing of the next of its name.
    """
    certainly, gone = True, set[str]()
    for step in steps:
        if not isinstance(step, RevisionStep):
            continue
        source = Path(step.revision.path).read_bytes()
        if _OTHER_ROLE.search(source):
            return
        certainly = certainly and not _CODE.search(source)
        measured = effects.load(script, step.revision)
        found = () if isinstance(measured, str) else measured.measurement(downgrade=step.is_downgrade).statements
        for statement in found:
            for relation, right, certain in _needs(statement):
                if relation not in gone:
                    yield Need(step.revision.revision, statement, relation, right, certain and certainly)
            gone.update(effect.relation for effect in statement.effects if effect.dropped)


def _needs(statement: Measured) -> Iterator[tuple[str, str, bool]]:
    words = sql_text.names(statement.sql) or [""]
    verb, what = words[0], next((word for word in words[1:] if word not in _BESIDE), "")
    changed = [effect for effect in statement.effects if _is_change(effect)]
    if verb in _BY_CODE:
        yield from ((effect.relation, _OWNER, False) for effect in changed)
        for effect in statement.effects:
            yield from ((effect.relation, _ROWS[rows], False) for rows in effect.rows_changed)
    elif verb in _DATA:
        named = _named(words, statement.effects)
        yield from ((relation, _DATA[verb], True) for relation in named[: None if verb == "truncate" else 1])
    elif verb == "create" and what == "table":
        # To be a part of another table takes what its owner may do, to refer to it does not.
        right = _OWNER if {"partition", "inherits"}.intersection(words) else "REFERENCES"
        yield from ((relation, right, True) for relation in _named(words, changed)[:1])
    elif verb in _UPKEEP or (verb in ("create", "alter", "drop", "comment") and what in _CHANGING):
        named = _named(words, changed)
        if not named and "index" in words:  # it has a name of its own, and locks its table
            named = [each.relation for each in changed]
        right = "TRIGGER" if verb == "create" and what in ("trigger", "constraint") else _OWNER
        right = "MAINTAIN" if verb in _UPKEEP else right
        all_of_them = verb == "drop" and what in ("table", "view", "sequence", "index")
        right = _DROP if all_of_them else right
        yield from ((relation, right, True) for relation in named[: None if all_of_them else 1])


def _is_change(effect: Effect) -> bool:
    """Whether it is more than what those do who read and write rows."""
    lock = max(effect.lock or 0, effect.index_lock or 0)
    return lock > LockMode.ROW_EXCLUSIVE or effect.dropped or effect.rewritten or effect.index_built


def _named(words: Sequence[str], found: Iterable[Effect]) -> list[str]:
    """Return the relations that a statement names, in order: the others come along, as the ends of foreign keys do."""
    places = ((_place(words, sql_text.names(effect.relation)), effect.relation) for effect in found)
    return [relation for place, relation in sorted(places) if place >= 0]


def _place(words: Sequence[str], name: Sequence[str]) -> int:
    """Return where a name stands, which may be written with the schema `public`; -1 for nowhere."""
    for at in range(len(words) - len(name) + 1):
        if list(words[at : at + len(name)]) == list(name) and (
            at < 2 or words[at - 1] != "." or words[at - 2] == "public"
        ):
            return at
    return -1
