"""A cursor over a statement's tokens: keywords, names, and whatever stands in parentheses."""

from __future__ import annotations

from collections.abc import Sequence

from neuraknot_db.impact.values import Name
from neuraknot_db.sqltext import Token


class Reader:
    """Reads tokens from the left; nothing here fails: what does not fit is not taken.

    Attributes:
        rest: the tokens that are still to be read.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.rest = tuple(tokens)

    def at(self, words: str) -> bool:
        """Whether these keywords come next, in either case."""
        wanted = words.split()
        if len(self.rest) < len(wanted):
            return False
        return all(
            token.kind in ("name", "punctuation") and token.text.lower() == word
            for token, word in zip(self.rest, wanted, strict=False)
        )

    def accept(self, *alternatives: str) -> str | None:
        """Take the first of these keyword sequences that comes next; None if none does."""
        for words in alternatives:
            if self.at(words):
                self.rest = self.rest[len(words.split()) :]
                return words
        return None

    def seek(self, *alternatives: str) -> str | None:
        """Skip to just behind the first place outside of parentheses where one of these keyword sequences stands."""
        reader = Reader(self.rest)
        while reader.rest:
            if found := reader.accept(*alternatives):
                self.rest = reader.rest
                return found
            reader.skip()
        return None

    def skip(self) -> None:
        """Pass a token, or a whole pair of parentheses."""
        if not self.at("("):
            self.rest = self.rest[1:]
            return
        self.parenthesized()

    def parenthesized(self) -> tuple[Token, ...]:
        """Take a pair of parentheses that comes next, and return what is in it."""
        if not self.at("("):
            return ()
        depth = 0
        for index, token in enumerate(self.rest):
            if token.kind == "punctuation":
                depth += {"(": 1, ")": -1}.get(token.text, 0)
            if depth == 0:
                inside, self.rest = self.rest[1:index], self.rest[index + 1 :]
                return inside
        inside, self.rest = self.rest[1:], ()
        return inside

    def identifier(self) -> str | None:
        """Take a name without its schema, as the server folds it."""
        if not self.rest or self.rest[0].kind not in ("name", "quoted name"):
            return None
        token, self.rest = self.rest[0], self.rest[1:]
        return plain(token)

    def name(self) -> Name | None:
        """Take the name of a relation; further qualifiers in front are dropped."""
        parts = []
        while (part := self.identifier()) is not None:
            parts.append(part)
            if not self.accept("."):
                break
        if not parts:
            return None
        return Name(parts[-2] if len(parts) > 1 else "public", parts[-1])

    def names(self) -> tuple[Name, ...]:
        """Take names with commas between them, each with ONLY before and * behind it where the grammar has that."""
        found = []
        while True:
            self.accept("only")
            if (name := self.name()) is None:
                break
            found.append(name)
            if self.rest and self.rest[0].text == "*":
                self.rest = self.rest[1:]
            if not self.accept(","):
                break
        return tuple(found)

    def items(self) -> tuple[Reader, ...]:
        """Take all that is left, split at the commas that are in no parentheses or brackets."""
        found: list[Reader] = []
        held: list[Token] = []
        depth = 0
        for token in self.rest:
            if token.kind == "punctuation":
                depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
                if token.text == "," and depth == 0:
                    found.append(Reader(held))
                    held = []
                    continue
            held.append(token)
        self.rest = ()
        return (*found, Reader(held)) if held else tuple(found)

    def has(self, words: str) -> bool:
        """Whether these keywords stand anywhere in what is left, outside of parentheses."""
        return Reader(self.rest).seek(words) is not None


def plain(token: Token) -> str:
    """A name as the server folds it: unquoted ones in lower case."""
    if token.kind == "quoted name":
        return token.text.partition('"')[2][:-1].replace('""', '"')
    return "".join(character.lower() if character.isascii() else character for character in token.text)
