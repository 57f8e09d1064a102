"""A document says the same in both languages: it has the same headings, code and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, Document, read

PAIRS = tuple((path.with_name(f"{path.name[:-6]}.md"), path) for path in DOCUMENTS if path.name.endswith(".ja.md"))


def shape(document: Document) -> dict[str, list[object]]:
    """What a translation leaves as it is; comments in code, and the order of words in a row, are the language's own."""
    return {
        "headings": [(each.level, each.spans) for each in document.headings],
        "code": [(each.language, each.code) for each in document.blocks],
        "tables": [[[sorted(cell.spans) for cell in row] for row in each.rows] for each in document.tables],
    }


@pytest.mark.parametrize(("english", "japanese"), PAIRS, ids=[each.name for each, _ in PAIRS])
def test_both_languages_say_the_same(english: Path, japanese: Path) -> None:
    one, other = shape(read(english)), shape(read(japanese))
    for what in one:
        assert other[what] == one[what], what


def test_there_are_documents_in_both_languages() -> None:
    assert {english.name for english, _ in PAIRS} >= {"operations.md", "reference.md"}
