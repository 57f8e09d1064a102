"""The server's definitions of keys and indexes taken apart, and expressions as one would write them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from neuraknot_db.database.sql_text import Token, tokens
from neuraknot_db.schema.catalog import Table

_ON_DELETE = re.compile(r" ?ON DELETE ((?:SET )?\w+(?: \([^)]*\))?)")
_ORDER = frozenset({"ASC", "DESC", "NULLS", "FIRST", "LAST"})
_TYPES = {("text",): "text", ("character", "varying"): "text", ("bpchar",): "text", ("numeric",): "numeric"}
"""The types that the server casts constants to, unasked."""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key's definition.

    Attributes:
        target: the referenced table, with its schema if that is another one.
        on_delete: such as `CASCADE` or `SET NULL (a)`; empty if the deletion is refused.
        rest: what else it says, such as `ON UPDATE CASCADE`; empty for nothing.
    """

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]
    on_delete: str
    rest: str


@dataclass(frozen=True)
class IndexParts:
    """An index's definition.

    Attributes:
        method: such as `btree`.
        keys: the columns and expressions, and what else they say, such as `DESC`.
        columns: the columns among the keys.
        rest: what follows the keys, such as `INCLUDE (a)`; empty for nothing.
        where: a partial index's condition; empty for none.
        plain: whether it is a btree on all rows and one column, in whatever order: any query for the column can use it.
    """

    unique: bool
    method: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    rest: str
    where: str
    plain: bool


def key_columns(definition: str) -> tuple[str, ...]:
    """Return the columns that a key's definition lists first."""
    found = list(tokens(definition))
    return _names(found, _first(found, "(", 0))


def foreign_key(definition: str) -> ForeignKey:
    """Take a foreign key's definition apart, as `pg_get_constraintdef` spells it."""
    found = list(tokens(definition))
    after = _word(found, "REFERENCES") + 1
    opening = _first(found, "(", after)
    said = _between(definition, found, _pairs(found)[opening] + 1, len(found))
    delete = _ON_DELETE.search(said)
    return ForeignKey(
        columns=key_columns(definition),
        target=".".join(_plain(token) for token in found[after:opening] if token.text != "."),
        target_columns=_names(found, opening),
        on_delete=delete[1] if delete else "",
        rest=_ON_DELETE.sub("", said).strip(),
    )


def index_parts(definition: str, table: Table) -> IndexParts:
    """Take the definition of a table's index apart, as `pg_get_indexdef` spells it."""
    found = list(tokens(definition))
    method = _word(found, "USING") + 1
    opening, closing = method + 1, _pairs(found)[method + 1]
    where = _word(found, "WHERE", closing)
    keys, columns, plain = [], [], True
    for start, end in _items(found, opening):
        keys.append(readable(_between(definition, found, start, end), table))
        if found[start].kind in ("name", "quoted name") and found[start + 1].text != "(":
            columns.append(_plain(found[start]))
            plain = plain and all(token.text in _ORDER for token in found[start + 1 : end])
    rest = _between(definition, found, closing + 1, where)
    return IndexParts(
        unique=found[1].text == "UNIQUE",
        method=found[method].text,
        keys=tuple(keys),
        columns=tuple(columns),
        rest=rest,
        where=readable(_between(definition, found, where + 1, len(found)), table),
        plain=plain and (found[method].text, len(keys), len(columns), rest, where) == ("btree", 1, 1, "", len(found)),
    )


def readable(sql: str, table: Table) -> str:
    """Return an expression without what the server adds: casts of constants and strings, and needless parentheses.

    Args:
        sql: as the server spells it.
        table: its `varchar` columns are what the server casts to `text` before it compares them.
    """
    strings = {column.name for column in table.columns.values() if column.type.startswith("character varying")}
    found = list(tokens(sql))
    pairs = _pairs(found)
    openings = {closing: opening for opening, closing in pairs.items()}
    dropped: set[int] = set()
    for cast in (index for index, token in enumerate(found) if token.text == "::"):
        end, type_ = _type(found, cast + 1)
        opening = openings.get(cast - 1)
        inside = found[cast - 1 : cast] if opening is None else found[opening + 1 : cast - 1]
        added = len(inside) == 1 and _is_added(inside[0], type_, strings)
        if opening is not None and type_ == "text[]":
            added = found[opening + 1].text == "ARRAY" and pairs.get(opening + 2) == cast - 2
        if added and not (opening and _is_called(found[opening - 1])):
            dropped.update(range(cast, end), () if opening is None else (opening, cast - 1))
    for opening, closing in pairs.items():
        whole = opening == 0 and closing == len(found) - 1
        if found[opening].text == "(" and (whole or pairs.get(opening - 1) == closing + 1):
            dropped |= {opening, closing}
    text, end = "", 0
    for index, token in enumerate(found):
        if index not in dropped or token.text == "(":
            text += sql[end : token.start]
        end = token.start + len(token.text)
        text += "" if index in dropped else token.text
    return text


def _is_added(value: Token, type_: str, strings: Collection[str]) -> bool:
    """Whether the server casts this to this type of itself."""
    is_column = value.kind in ("name", "quoted name") and _plain(value) in strings
    return (type_ == "text" and (is_column or value.kind == "string")) or (value.kind, type_) == ("number", "numeric")


def _is_called(before: Token) -> bool:
    return before.kind == "quoted name" or (before.kind == "name" and before.text not in ("AND", "OR", "NOT"))


def _type(found: Sequence[Token], start: int) -> tuple[int, str]:
    """Return where a cast's type ends, and the type if it is one that the server adds, else an empty text."""
    for words, type_ in _TYPES.items():
        end = start + len(words)
        if tuple(token.text for token in found[start:end]) == words:
            after = [token.text for token in found[end : end + 2]]
            if after[:1] != ["("]:  # a length is the author's
                return (end + 2, f"{type_}[]") if after == ["[", "]"] else (end, type_)
    return start, ""


def _pairs(found: Sequence[Token]) -> dict[int, int]:
    """Return the closing bracket of each opening one."""
    pairs, opened = {}, []
    for index, token in enumerate(found):
        if token.text in ("(", "["):
            opened.append(index)
        elif token.text in (")", "]"):
            pairs[opened.pop()] = index
    return pairs


def _first(found: Sequence[Token], text: str, start: int) -> int:
    return next(index for index in range(start, len(found)) if found[index].text == text)


def _word(found: Sequence[Token], word: str, start: int = 0) -> int:
    """Return where a keyword is from `start` on, or where the definition ends."""
    here = (index for index in range(start, len(found)) if (found[index].kind, found[index].text) == ("name", word))
    return next(here, len(found))


def _names(found: Sequence[Token], opening: int) -> tuple[str, ...]:
    """Return the names from an opening parenthesis to the closing one."""
    items = _items(found, opening)
    return tuple(_plain(found[start + (end - start > 1 and found[start].text == "PERIOD")]) for start, end in items)


def _items(found: Sequence[Token], opening: int) -> Iterator[tuple[int, int]]:
    """Yield where each item of a list begins and ends, from its opening parenthesis to the closing one."""
    pairs = _pairs(found)
    start = end = opening + 1
    while start < pairs[opening]:
        while end < pairs[opening] and found[end].text != ",":
            end = pairs.get(end, end) + 1
        yield start, end
        start = end = end + 1


def _plain(token: Token) -> str:
    return token.text[1:-1].replace('""', '"') if token.kind == "quoted name" else token.text


def _between(sql: str, found: Sequence[Token], start: int, end: int) -> str:
    """Return the text from one token up to another; empty if there is none."""
    if start >= min(end, len(found)):
        return ""
    last = found[end - 1]
    return sql[found[start].start : last.start + len(last.text)]
