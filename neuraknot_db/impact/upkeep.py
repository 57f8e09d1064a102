"""What keeps tables and views in shape."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.catalog import Schema
from neuraknot_db.impact.reader import Reader
from neuraknot_db.impact.values import Effect, LockMode, Work


def refresh(reader: Reader, _schema: Schema) -> Iterator[Effect]:
    """REFRESH MATERIALIZED VIEW."""
    concurrently = reader.accept("concurrently")
    if name := reader.name():
        mode, work = (LockMode.EXCLUSIVE, Work.ROWS) if concurrently else (LockMode.ACCESS_EXCLUSIVE, Work.REWRITE)
        yield Effect(name, mode, work)


def vacuum(reader: Reader, _schema: Schema) -> Iterator[Effect]:
    """VACUUM: with FULL the table is written anew."""
    options = {token.text.lower() for token in reader.parenthesized()}
    while word := reader.accept("full", "freeze", "verbose", "analyze"):
        options.add(word)
    full = "full" in options
    for name in reader.names():
        yield Effect(
            name,
            LockMode.ACCESS_EXCLUSIVE if full else LockMode.SHARE_UPDATE_EXCLUSIVE,
            Work.REWRITE if full else Work.SCAN,
        )
