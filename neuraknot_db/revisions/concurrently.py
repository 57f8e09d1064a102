"""Statements that can't be in a transaction: what they build, wait for and may leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import, and most runs meet no such statement
    from neuraknot_db.database.sql_text import Statement


def waits_for_others(statement: Statement) -> bool:
    """Whether it only waits for older transactions, blocks nobody, and leaves something invalid if ended half-way."""
    words = _folded(statement)
    # VACUUM FULL locks everybody out, like ALTER TABLE.
    return "concurrently" in words or (words[0] == "vacuum" and "full" not in words)


def is_nameless_index(statement: Statement) -> bool:
    """Whether it builds an index whose name the server chooses."""
    found = built(statement)
    return found is not None and found[0] == ""


def built(statement: Statement) -> tuple[str, str] | None:
    """Parse CREATE [UNIQUE] INDEX CONCURRENTLY [IF NOT EXISTS] name ON [ONLY] table: name and table; else None.

    The name is folded as the server does, empty if missing; the table is as written.
    """
    words, folded = [token.text for token in statement.tokens], _folded(statement)
    if folded[:1] != ["create"] or "index" not in folded[1:3] or "concurrently" not in folded[2:4]:
        return None
    rest = folded.index("concurrently") + 1
    if folded[rest : rest + 3] == ["if", "not", "exists"]:
        rest += 3
    name = "" if folded[rest] == "on" else words[rest]
    table = folded.index("on", rest) + 1
    table += folded[table] == "only"
    end = table + (3 if words[table + 1] == "." else 1)
    name = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
    return name, "".join(words[table:end])


def reindexed(statement: Statement) -> str | None:
    """Return the index or table of REINDEX [(...)] INDEX | TABLE CONCURRENTLY, as written; else None."""
    folded = _folded(statement)
    if folded[0] != "reindex" or "concurrently" not in folded:
        return None
    return "".join(token.text for token in statement.tokens[folded.index("concurrently") + 1 :])


def detached(statement: Statement) -> tuple[str, str] | None:
    """Parse ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY: table and partition, as written; else None."""
    words, folded = [token.text for token in statement.tokens], _folded(statement)
    if folded[:2] != ["alter", "table"] or "detach" not in folded or folded[-1] != "concurrently":
        return None
    begin, detach = 2, folded.index("detach")
    begin += 2 * (folded[begin : begin + 2] == ["if", "exists"])
    begin += folded[begin] == "only"
    return "".join(words[begin:detach]).rstrip("*"), "".join(words[detach + 2 : -1])


def may_leave(statement: Statement) -> str | None:
    """Return a sentence on what it may leave if it is ended, and the next run repairs; None for nothing."""
    if found := built(statement):
        return f"The index {found[0]} may have stayed invalid: the next run drops it and builds it anew."
    if rebuilt := reindexed(statement):
        index = f"An index of {rebuilt} whose name ends in _ccnew"
        return f"{index} may have stayed invalid: the next run drops it and builds it anew."
    if found := detached(statement):
        return f"The partition {found[1]} may have stayed half detached: the next run finishes that."
    return None


def _folded(statement: Statement) -> list[str]:
    return [token.text.lower() for token in statement.tokens]
