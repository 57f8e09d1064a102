"""Statements that can't be in a transaction: what they build, wait for and may leave behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    on = folded.index("on", rest)
    table = on + 1 + (folded[on + 1] == "only")
    return ("" if folded[rest] == "on" else _unquoted(_dotted(words, rest)[-1])), "".join(_dotted(words, table))


def reindexed(statement: Statement) -> str | None:
    """Return the index or table of REINDEX [(...)] INDEX | TABLE [CONCURRENTLY] name, as written; else None."""
    words, folded = [token.text for token in statement.tokens], _folded(statement)
    kind = next((at for at, word in enumerate(folded) if word in ("index", "table")), None)
    if folded[0] != "reindex" or "concurrently" not in folded or kind is None:
        return None
    return "".join(_dotted(words, kind + 1 + (folded[kind + 1] == "concurrently")))


def _dotted(words: Sequence[str], begin: int) -> list[str]:
    """Return the tokens of a name that begins there, which may name its schema and database."""
    end = begin + 1
    while words[end : end + 1] == ["."]:
        end += 2
    # to_regclass() knows no U&"...".
    return [_plain(word) if word[:2] in ("U&", "u&") else word for word in words[begin:end]]


def _plain(word: str) -> str:
    """Return a name that is written U&"..." as an ordinary quoted one; its escape is the default one."""
    code = re.compile(r"\\(?:\+([0-9a-fA-F]{6})|([0-9a-fA-F]{4}))")
    return code.sub(lambda found: chr(int(found[1] or found[2], 16)), word[2:])


def _unquoted(name: str) -> str:
    """Return a name as the catalogs have it: the server folds only ASCII, in UTF-8."""
    if name.startswith('"'):
        return name[1:-1].replace('""', '"')
    return "".join(each.lower() if each.isascii() else each for each in name)


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
    if _folded(statement)[0] == "reindex":
        return "Indexes whose names end in _ccnew may have stayed invalid: drop them (\\d TABLE in psql shows them)."
    if found := detached(statement):
        return f"The partition {found[1]} may have stayed half detached: the next run finishes that."
    return None


def _folded(statement: Statement) -> list[str]:
    return [token.text.lower() for token in statement.tokens]
