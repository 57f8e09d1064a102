"""Split SQL into tokens and statements as PostgreSQL's own scanner does.

`standard_conforming_strings` is assumed to be on, the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, cast

Kind = Literal[
    "name", "quoted name", "string", "continuation", "number", "parameter", "operator", "punctuation", "error"
]
"""The kind of a token.

    name: a keyword or an identifier, as written.
    quoted name: `"x"` or `U&"x"`.
    string: `'x'`, with any prefix (`E'x'`, `B'x'`, `X'x'`, `N'x'`, `U&'x'`), or `$$x$$`.
    continuation: a further part of the string before it, separated only by white space with a line break.
    number: includes what directly follows it (`1a`), which no server accepts.
    error: what no server accepts: a string, name or comment that does not end, or a stray character.
"""


class Token(NamedTuple):
    """A token and its position: `sql[start:start + len(text)] == text`, byte for byte."""

    kind: Kind
    text: str
    start: int


@dataclass(frozen=True)
class Statement:
    """A statement without the semicolon that ends it.

    Attributes:
        text: from its first token to its last, as written.
        start: the position of its first token in the SQL, from 0.
        tokens: at least one.
    """

    text: str
    start: int
    tokens: tuple[Token, ...]


# Bytes above 127 are letters to the server, whatever the character, even a no-break space. Written as negated sets,
# since re takes fifty times as long to compile a set that reaches up to U+10FFFF.
_LETTER = r"[^\x00-@\[-\^`{-\x7f]"  # not A-Z a-z _ and beyond
_WORD = r"[^\x00-#%-/:-@\[-\^`{-\x7f]"  # a letter, a digit or $
_TAG = r"[^\x00-/:-@\[-\^`{-\x7f]"  # a letter or a digit
_SPACE = r"[ \t\n\r\f\v]"
_COMMENT = r"--[^\n\r]*"
_PLAIN = r"(?:[^']|'')*+'"
_ESCAPED = r"(?:[^'\\]|\\.|'')*+'"
_DIGITS = r"[0-9](?:_?[0-9])*"

_TOKEN = re.compile(
    rf"""
      (?P<blank>       {_SPACE}+ | {_COMMENT} )
    | (?P<comment>     /\* )
    | (?P<string>      [nN]?'{_PLAIN}
                     | [eE]'{_ESCAPED}
                     | [bBxX]'[^']*'
                     | [uU]&'{_PLAIN}
                     | \$(?P<tag>(?:{_LETTER}{_TAG}*)?)\$.*?\$(?P=tag)\$ )
    | (?P<quoted_name> (?:[uU]&)?"(?:[^"]|"")*+" )
    | (?P<unended>     [nNeEbBxX]?' | [uU]&['"] | " | \$(?:{_LETTER}{_TAG}*)?\$ )
    | (?P<name>        {_LETTER}{_WORD}* )
    | (?P<parameter>   \$[0-9]+(?:{_LETTER}{_WORD}*)? )
    | (?P<number>      (?: 0[xX](?:_?[0-9A-Fa-f])+ | 0[oO](?:_?[0-7])+ | 0[bB](?:_?[01])+
                         | (?: {_DIGITS}(?:\.(?!\.)(?:{_DIGITS})?)? | \.{_DIGITS} ) (?:[eE][+-]?{_DIGITS})? )
                       (?:{_LETTER}{_WORD}*)? )
    | (?P<operator>    [~!@\#^&|`?+\-*/%<>=]+ )
    | (?P<punctuation> :: | := | \.\. | [,()\[\].;:] )
    | (?P<stray>       . )
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

# Between the parts of one string; a block comment there ends the string.
_BREAK = rf"(?:[ \t\f\v]|{_COMMENT})*+[\n\r](?:{_SPACE}|{_COMMENT}[\n\r])*+"
_CONTINUATIONS = {
    # By the first character of the string: a part is read like the one before it.
    **dict.fromkeys("eE", re.compile(rf"(?P<break>{_BREAK})'{_ESCAPED}", re.DOTALL)),
    **dict.fromkeys("bBxX", re.compile(rf"(?P<break>{_BREAK})'[^']*'", re.DOTALL)),
    **dict.fromkeys("'nNuU", re.compile(rf"(?P<break>{_BREAK})'{_PLAIN}", re.DOTALL)),
}
_UNENDED_CONTINUATION = re.compile(rf"(?P<break>{_BREAK})'")

# Only an operator that holds one of these may end in + or -: otherwise `=-1` is `=` and `-1`.
_UNUSUAL = frozenset("~!@#^&|`?%")


def tokens(sql: str) -> Iterator[Token]:
    """Yield the tokens of SQL in order, without comments and white space.

    Every text has tokens: what the server would refuse is an `error`, up to the end if nothing ends it.
    """
    position, end = 0, len(sql)
    match_at = _TOKEN.match
    while position < end:
        match = match_at(sql, position)
        assert match is not None  # the last alternative matches anything
        group, start = match.lastgroup, position
        position = match.end()
        if group == "blank":
            continue
        if group == "comment":
            position = _end_of_comment(sql, position)
            if position > end:
                yield Token("error", sql[start:], start)
                return
        elif group == "unended":
            yield Token("error", sql[start:], start)
            return
        elif group == "operator":
            text = _operator(match.group())
            position = start + len(text)
            yield Token("operator", text, start)
        elif group == "string" or group == "tag":
            yield Token("string", match.group(), start)
            if sql[start] != "$":
                for token in _continuations(sql, position, sql[start]):
                    yield token
                    position = token.start + len(token.text)
        elif group == "quoted_name":
            yield Token("quoted name", match.group(), start)
        elif group == "stray":
            yield Token("error", match.group(), start)
        else:
            yield Token(cast("Kind", group), match.group(), start)


def statements(sql: str) -> list[Statement]:
    """Return the statements of SQL, split where the server splits them.

    A semicolon within parentheses (CREATE RULE) or within a function's BEGIN ATOMIC ... END does not end a statement.
    Empty statements are left out.
    """
    found: list[Statement] = []
    held: list[Token] = []
    parentheses = blocks = 0
    for token in tokens(sql):
        if token.kind == "punctuation":
            if token.text == ";" and parentheses <= 0 and blocks <= 0:
                if held:
                    found.append(_statement(sql, held))
                held, parentheses, blocks = [], 0, 0
                continue
            parentheses += {"(": 1, ")": -1}.get(token.text, 0)
        elif token.kind == "name" and parentheses <= 0:
            word = token.text.lower()
            if word == "atomic" and held and held[-1].text.lower() == "begin" and _makes_routine(held):
                blocks = 1
            elif blocks:
                blocks += {"case": 1, "end": -1}.get(word, 0)
        held.append(token)
    if held:
        found.append(_statement(sql, held))
    return found


def without_literals(sql: str) -> str:
    """Return other sessions' SQL in one line without its data: `WHERE card = '...' AND id = ...`.

    Comments are dropped. What has no end, since the SQL was cut there, is hidden from its start, and so is what
    follows a string that ends elsewhere if standard_conforming_strings is off.
    """
    shown: list[str] = []
    for blank, token in _spaced(sql):
        end = token.start + len(token.text)
        if token.kind == "number" or (token.kind == "error" and end == len(sql)):
            shown.append(f"{blank}...")
        elif token.kind == "string" or token.kind == "continuation":
            shown.append(f"{blank}'...'" if token.kind == "string" else "")
            if "\\'" in token.text and token.text[0] not in "eE$":
                break
        else:
            shown.append(f"{blank}{token.text}")
    return "".join(shown)


def one_line(sql: str) -> str:
    """Return SQL in one line, without the comments between its tokens: the first would swallow what follows."""
    return " ".join("".join(f"{blank}{token.text}" for blank, token in _spaced(sql)).split())


def _spaced(sql: str) -> Iterator[tuple[str, Token]]:
    """Yield each token with the blank before it, if something was there."""
    end = 0
    for token in tokens(sql):
        yield " " if 0 < end < token.start else "", token
        end = token.start + len(token.text)


def _statement(sql: str, held: list[Token]) -> Statement:
    start, last = held[0].start, held[-1]
    return Statement(sql[start : last.start + len(last.text)], start, tuple(held))


def _makes_routine(held: list[Token]) -> bool:
    words = [token.text.lower() for token in held[:4]]
    what = words[3:] if words[1:3] == ["or", "replace"] else words[1:2]
    return words[:1] == ["create"] and what[:1] in (["function"], ["procedure"])


def _end_of_comment(sql: str, position: int) -> int:
    """Return the end of the block comment opened before the position; past the text's end if it does not end."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, position)
        if edge is None:
            return len(sql) + 1
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position


def _continuations(sql: str, position: int, first: str) -> Iterator[Token]:
    pattern = _CONTINUATIONS[first]
    while match := pattern.match(sql, position):
        start = match.end("break")
        position = match.end()
        yield Token("continuation", sql[start:position], start)
    if unended := _UNENDED_CONTINUATION.match(sql, position):
        start = unended.end("break")
        yield Token("error", sql[start:], start)


def _operator(characters: str) -> str:
    """Return the longest operator at the start of a run of operator characters."""
    for comment in ("/*", "--"):
        before, found, _ = characters.partition(comment)
        # A comment at the very start was matched before.
        characters = before if found else characters
    if _UNUSUAL.intersection(characters):
        return characters
    return characters.rstrip("+-") or characters[0]


def psqls(statement: Statement) -> str:
    """Return what of a statement psql understands and the server does not; empty for nothing."""
    words = [token.text.lower() for token in statement.tokens]
    for pair in (("from", "stdin"), ("to", "stdout")):
        if words[0] == "copy" and pair in pairwise(words):
            return f"COPY ... {' '.join(pair).upper()}"
    for token in statement.tokens:
        if token.text == "\\":
            return statement.text[token.start - statement.start :].split()[0]
    return ""


def names(sql: str) -> list[str]:
    """Return the words of SQL as the catalogs would have them, if they are names, in order."""
    return [
        token.text[1:-1].replace('""', '"') if token.kind == "quoted name" else token.text.lower()
        for token in tokens(sql)
    ]


def names_table(sql: str, table: str) -> bool:
    """Whether SQL names a table, in whatever schema; the table's own name may have one."""
    return names(table)[-1] in names(sql)
