"""How much room a text takes on a terminal."""

from __future__ import annotations

from unicodedata import east_asian_width


def width(text: str) -> int:
    """The cells that it takes: Chinese and Japanese characters take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
