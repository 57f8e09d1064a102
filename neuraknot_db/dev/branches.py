"""Which statements of a DO block or a called function were run: each says so as it begins, in a message of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from neuraknot_db.database.sql_text import Statement, Token, one_line, statements, tokens
from neuraknot_db.schema.effects import LONGEST

_CODE = re.compile(r"\b(?:do|plpgsql)\b", re.IGNORECASE)
_SAYING = " RAISE INFO 'neuraknot_db ran %d'; "  # unlike PERFORM, it leaves FOUND alone
_SAID = re.compile(r"neuraknot_db ran (\d+)\s*$")

_CONTROL = frozenset({"if", "elsif", "elseif", "else", "case", "when", "exception", "for", "foreach", "while", "loop"})
_OPENING = frozenset({"then", "else", "loop"})
_TOLD = frozenset({"alter", "call", "cluster", "comment", "create", "delete", "do", "drop", "execute", "grant"})
_TOLD |= {"insert", "lock", "merge", "refresh", "reindex", "revoke", "truncate", "update"}
"""The first words of statements that lock or change something: those that only read or compute are not told."""

_NO_TABLES = {(verb, what) for verb in ("create", "alter", "drop") for what in ("role", "user", "group")}
_NO_TABLES |= {("create", "extension"), ("create", "schema")}
"""How statements begin that concern no table."""

_HOLDING = frozenset({"for", "open", "perform", "return", "select", "with"})
_HELD = frozenset({"delete", "execute", "insert", "merge", "update"})
"""The first words of statements that may hold another, and that one's."""

_VARIABLE = frozenset({":=", "=", ".", "[", "("})
"""What follows such a word if it is a variable's name."""

_STRUCTURE = _CONTROL | _OPENING | {"begin", "declare", "end", ";", "<<", ">>"}


class _Branch(NamedTuple):
    body: int
    text: str


class Branches:
    """Marks the statements within code, and listens to which of them are run.

    Attributes:
        entered: the bodies in which something was run since it was emptied.
    """

    def __init__(self) -> None:
        self.entered: set[int] = set()
        self._branches: list[_Branch] = []
        self._ran: set[int] = set()
        self._bodies = 0
        self._plain: set[str] = set()
        self._last = ""

    def begin(self) -> None:
        """Forget what was run; functions that were marked may be called again."""
        self._ran = set()

    def marked(self, sql: str) -> str:
        """Return SQL whose code in PL/pgSQL says what of it is run; its lines stay where they are."""
        self._last = ""
        if sql in self._plain or not _CODE.search(sql):
            return sql
        parts, end = [], 0
        for body in filter(None, map(_body, statements(sql))):
            parts += [sql[end : body.start], self._marked(body.text)]
            end = body.start + len(body.text)
            self._last = sql
        return "".join((*parts, sql[end:]))

    def unmark(self) -> bool:
        """Leave the last statement as it is from now on; return whether it was marked."""
        self._plain.add(self._last)
        return bool(self._last)

    def hears(self, message: str) -> bool:
        """Take a message of the server; return whether it is one of ours."""
        found = _SAID.search(message)
        if found:
            number = int(found[1])
            self._ran.add(number)
            self.entered.add(self._branches[number].body)
        return found is not None

    def left_out(self, bodies: set[int]) -> tuple[str, ...]:
        """Return the statements of these bodies that were not run."""
        return tuple(
            each.text
            for number, each in enumerate(self._branches)
            if each.body in bodies and each.text and number not in self._ran
        )

    def _marked(self, quoted: str) -> str:
        """Mark a body, given as its literal."""
        tag = quoted[: quoted.index("$", 1) + 1] if quoted.startswith("$") else "'"
        code = quoted[len(tag) : -len(tag)]
        code = code if tag != "'" else code.replace("''", "'")
        self._bodies += 1
        parts, end = [], 0
        for position, text in _told(code):
            parts += [code[end:position], _SAYING % len(self._branches)]
            self._branches.append(_Branch(self._bodies, text))
            end = position
        code = "".join((*parts, code[end:]))
        return tag + (code if tag != "'" else code.replace("'", "''")) + tag


def _body(statement: Statement) -> Token | None:
    """Return the literal with a statement's code in PL/pgSQL; None if there is none, or it is a trigger's.

    A trigger's code asks what it was fired for: what it leaves out then says nothing.
    """
    words = [token.text.lower() for token in statement.tokens]
    at = words.index("language") + 1 if "language" in words[:-1] else len(words)
    language = words[at].strip("'\"") if at < len(words) else "plpgsql" if words[0] == "do" else ""
    makes = words[0] == "create" and {"function", "procedure"}.intersection(words[1:4])
    if language != "plpgsql" or not (words[0] == "do" or makes) or _is_triggers(words):
        return None
    literals = (
        token
        for before, token in zip(("", *words), statement.tokens, strict=False)
        if token.kind == "string" and (before == "as" if makes else before != "language")
    )
    found = next(literals, None)
    return found if found and found.text[0] in "$'" else None


def _is_triggers(words: Sequence[str]) -> bool:
    at = words.index("returns") + 1 if "returns" in words else len(words)
    at += 2 if words[at : at + 2] == ["pg_catalog", "."] else 0
    return words[at : at + 1] == ["trigger"]


def _told(code: str) -> Iterator[tuple[int, str]]:
    """Yield where the first statement and each of `_TOLD` begins, with its text; the first one's is empty."""
    found = list(tokens(code))
    words = _words(found)
    first = ""  # of the statement, or the part of a control structure, that the token is in
    begins, declaring, entered, cases = True, False, False, 0
    for at, word in enumerate(words):
        if begins or (first == "#" and word in ("declare", "begin")):
            first, begins, cases = word, False, 0
            declaring = word == "declare" or (declaring and word != "begin")
            if word == "begin":
                begins = True
                if not entered:
                    yield found[at].start + len("begin"), ""
                entered = True
            elif not declaring and _is_told(words, at):
                yield found[at].start, _text(code, found, at, _end(words, at))
            elif word in _OPENING:
                begins = True
        elif word == ";" or (first == "<<" and word == ">>"):
            begins = True
        elif word in ("case", "end"):  # an expression's
            cases += 1 if word == "case" else -1
        elif word in _OPENING and first in _CONTROL and cases <= 0:
            begins = True


def _words(found: Sequence[Token]) -> list[str]:
    """Return the tokens in lower case, empty for those that only look like PL/pgSQL's structure.

    These are names (`t.case`, `AS end`) and what is within parentheses or the BEGIN ATOMIC ... END of a routine.
    """
    words = [token.text.lower() for token in found]
    shown = list(words)
    parentheses = blocks = 0
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        inner = parentheses > 0 or blocks > 0
        parentheses += {"(": 1, ")": -1}.get(word, 0)
        if before not in (".", "as"):
            if blocks:
                blocks += {"case": 1, "end": -1}.get(word, 0)
            elif word == "atomic" and before == "begin" and words[at + 1 : at + 2] not in ([":="], ["="], ["."], ["["]):
                blocks, inner, shown[at - 1] = 1, True, ""
        if word in _STRUCTURE and (inner or before in (".", "as")):
            shown[at] = ""
    return shown


def _is_told(words: Sequence[str], at: int) -> bool:
    """Whether the statement that begins there is told; a label would be parted from its loop."""
    if words[at] in _HOLDING:
        return words[at - 1 : at] != [">>"] and not _HELD.isdisjoint(words[at : _end(words, at)])
    begins = tuple(words[at : at + 2])
    return words[at] in _TOLD and len(begins) > 1 and begins[1] not in _VARIABLE and begins not in _NO_TABLES


def _end(words: Sequence[str], at: int) -> int:
    """Return where a statement ends, or the head of a loop."""
    ends = {";", "loop"} if words[at] == "for" else {";"}
    return next((end for end in range(at, len(words)) if words[end] in ends), len(words))


def _text(code: str, found: Sequence[Token], at: int, end: int) -> str:
    text = one_line(code[found[at].start : found[end].start if end < len(found) else len(code)])
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


class Listening(list[str]):
    """Takes the server's messages of a connection: ours out, the others to where they went before."""

    def __init__(self, branches: Branches, others: Any) -> None:
        super().__init__()
        self._branches = branches
        self._others = others

    def append(self, message: str) -> None:
        """Take one."""
        if not self._branches.hears(message):
            self._others.append(message)
