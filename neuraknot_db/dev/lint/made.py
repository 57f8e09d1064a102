"""What a revision itself has made by then: nobody else uses it yet, so it may change it and drop it again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from neuraknot_db.database.sql_text import Statement, Token, names

_ROUTINES = frozenset({"function", "procedure", "routine", "aggregate"})
_KINDS = _ROUTINES | {"table", "view", "type", "domain", "sequence", "schema", "extension"}
_BESIDE = frozenset({"or", "replace", "temp", "temporary", "unlogged", "materialized", "foreign", "recursive"})
_CONDITIONS = ("if", "not", "exists", "only")


class _Named(NamedTuple):
    """An object; of a routine also how many parameters are named, None for any."""

    kind: str
    name: str
    parameters: int | None = None


class Made:
    """Collects what statements make, in their order."""

    def __init__(self, known: Collection[str] | None) -> None:
        """Take the names that the schema `public` held before; None if they are not known."""
        self._known = known
        self._made: set[_Named] = set()

    def add(self, statement: Statement) -> None:
        """Note what a statement makes."""
        if statement.tokens[0].text.lower() not in ("create", "alter"):
            return
        words = _words(statement.tokens)
        if words[0] == "create":
            self._made.update(each for each in _objects(words)[:1] if self._is_new(each, words))
        table = _altered(words)
        for action in _actions(statement) if table else ():
            part = _part(_words(action), "add")
            if part and "exists" not in _words(action)[:6]:
                self._made.add(_Named(part[0], f"{table} {part[1]}"))

    def covers(self, statement: Statement, position: int) -> bool:
        """Whether what a statement changes or drops there was made before; the position is one in its text."""
        words = _words(statement.tokens)
        if table := _altered(words):
            if _Named("table", table) in self._made:
                return True
            actions = [each for each in _actions(statement) if each[0].start - statement.start <= position]
            part = _part(_words(actions[-1]), "drop", "alter") if actions else None
            return part is not None and _Named(part[0], f"{table} {part[1]}") in self._made
        if words[0] in ("drop", "alter", "truncate"):
            found = _objects(words if words[0] != "truncate" else ["truncate", "table", *_without(words[1:], "table")])
            return bool(found) and all(map(self._has, found))
        return False

    def _has(self, wanted: _Named) -> bool:
        if wanted.kind == "routine" and wanted.parameters is None:
            return any((each.kind, each.name) == (wanted.kind, wanted.name) for each in self._made)
        return wanted in self._made

    def _is_new(self, made: _Named, words: Sequence[str]) -> bool:
        """Whether it was not there before, as far as that is known."""
        conditional = "replace" in words[:3] or "exists" in words[:8]
        if self._known is None or "." in made.name or made.kind == "schema":
            return not conditional
        # Another function of the same name may be the one that is dropped.
        return made.name not in self._known or not (conditional or made.kind == "routine")


def _words(found: Sequence[Token]) -> list[str]:
    return [word for token in found for word in names(token.text)]


def _without(words: Sequence[str], *left_out: str) -> list[str]:
    return [word for word in words if word not in left_out]


def _altered(words: Sequence[str]) -> str:
    """Return the table that ALTER TABLE names; empty for another statement."""
    return _objects(words)[0].name if words[:2] == ["alter", "table"] else ""


def _objects(words: Sequence[str]) -> list[_Named]:
    """Return what CREATE, ALTER or DROP names."""
    at = 1
    while words[at : at + 1] and words[at] in _BESIDE:
        at += 1
    kind = words[at] if at < len(words) and words[at] in _KINDS else ""
    found: list[_Named] = []
    at += 1
    while kind and at < len(words) and words[at] not in (";", "cascade", "restrict"):
        while words[at : at + 1] and words[at] in _CONDITIONS:
            at += 1
        end = at + 1
        while words[end : end + 1] == ["."]:
            end += 2
        name = "".join(words[at:end]).removeprefix("public.")
        parameters = None
        if kind in _ROUTINES and words[end : end + 1] == ["("]:
            close = _closing(words, end)
            parameters = sum(1 for _ in _split(words[end + 1 : close])) if close > end + 1 else 0
            end = close + 1
        found.append(_Named("routine" if kind in _ROUTINES else kind, name, parameters))
        if words[end : end + 1] != [","]:
            break
        at = end + 1
    return found


def _closing(words: Sequence[str], opening: int) -> int:
    depth = 0
    for at in range(opening, len(words)):
        depth += (words[at] in ("(", "[")) - (words[at] in (")", "]"))
        if depth == 0:
            return at
    return len(words)


def _split(words: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split at the commas that are in no parentheses."""
    begin = depth = 0
    for at, word in enumerate(words):
        depth += (word in ("(", "[")) - (word in (")", "]"))
        if word == "," and depth == 0:
            yield words[begin:at]
            begin = at + 1
    yield words[begin:]


def _actions(statement: Statement) -> list[Sequence[Token]]:
    """Return the parts of an ALTER TABLE, between its commas."""
    found = statement.tokens
    texts = [token.text for token in found]
    begin = 2
    while texts[begin : begin + 1] and texts[begin].lower() in _CONDITIONS:
        begin += 1
    begin += 1
    while texts[begin : begin + 1] == ["."]:
        begin += 2
    parts: list[Sequence[Token]] = []
    for part in _split(texts[begin:]):
        parts.append(found[begin : begin + len(part)])
        begin += len(part) + 1
    return [part for part in parts if part]


def _part(words: Sequence[str], *verbs: str) -> tuple[str, str] | None:
    """Return the column or constraint that an action of ALTER TABLE adds, changes or drops; None for neither."""
    if words[0] not in verbs:
        return None
    kind = "constraint" if words[1:2] == ["constraint"] else "column"
    rest = _without(words[1:5], kind, *_CONDITIONS)
    if not rest or (kind == "column" and rest[0] in ("check", "unique", "primary", "foreign", "exclude")):
        return None
    return kind, rest[0]
