"""Each link within the project leads to a file, and to a heading of it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.documents import DOCUMENTS, read
from tests.projects import ROOT


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    lost = []
    for link in read(path).links:
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchors = {each.anchor for each in read(target).headings} if target.suffix == ".md" and target.exists() else ()
        if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
            lost.append(link)
    assert not lost
