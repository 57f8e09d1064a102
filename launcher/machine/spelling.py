"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest of what there is, with a blank before it; else nothing."""
    near = difflib.get_close_matches(word, list(known))
    return f" Did you mean {', '.join(map(repr, near))}?" if near else ""
