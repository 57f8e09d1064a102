"""The statements within a DO block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neuraknot_db.sqltext import Statement, Token, statements


def in_block(block: Sequence[Token]) -> Iterator[Statement]:
    """The statements in the body of a DO block, and those that it EXECUTEs from a literal.

    Each begins with whatever PL/pgSQL has before it, such as `BEGIN` or `IF ... THEN`. Of a literal that is only a
    part of what is executed, the beginning is taken.

    Args:
        block: the tokens behind DO.
    """
    for body in block:
        for statement in statements(_content(body)) if body.kind == "string" else ():
            yield statement
            for index, token in enumerate(statement.tokens):
                if token.kind == "name" and token.text.lower() == "execute":
                    literals = (each for each in statement.tokens[index:] if each.kind == "string")
                    yield from (inner for literal in literals for inner in statements(_content(literal)))


def _content(literal: Token) -> str:
    """What a string literal holds; escapes with a backslash stay as they are."""
    text = literal.text
    if text.startswith("$"):
        return text[text.index("$", 1) + 1 : text.rindex("$", 0, -1)]
    return text[text.index("'") + 1 : -1].replace("''", "'")
