"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest of what there is, with a blank before it; else nothing."""
    words = [each for each in known if each != word]
    # The beginning of a word, such as --env, is often less like it than like a short one.
    begun = [each for each in words if len(word.strip("-")) > 1 and each.startswith(word)]
    # Without their dashes, which would make every short option alike.
    bare = {each.strip("-"): each for each in words}
    near = begun or [bare[each] for each in difflib.get_close_matches(word.strip("-"), bare)]
    return f" Did you mean {', '.join(map(repr, near))}?" if near else ""
