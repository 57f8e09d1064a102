"""`compat check` of 200 recorded queries and one revision, a server of its own started for it."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from benchmarks.peers import measured, our_project

ROUNDS = 9
QUERIES = 200


def run() -> Iterator[str]:
    """Yield a line for each server."""
    with tempfile.TemporaryDirectory() as folder:
        project = our_project(Path(folder) / "compat", generated=1)
        head = json.loads((project / "alembic" / "snapshots" / "004.json").read_text())
        queries = [query for table, found in head["tables"].items() for query in _queries(table, found)]
        for version in (15, 18):
            seen = f"-- Seen at revision 004, on PostgreSQL {version}, since 2026-11-27."
            recorded = "\n\n".join((seen, *sorted(queries)[:: len(queries) // QUERIES][:QUERIES]))
            (project / "alembic" / "queries.sql").write_text(recorded + "\n")
            costs = [measured(project, "", "compat", "check", "0005", program="neuraknot-db") for _ in range(ROUNDS)]
            seconds = statistics.median(each.seconds for each in costs)
            yield f"compat check, {QUERIES} queries, PostgreSQL {version}   {seconds:.2f} s, median of {ROUNDS}"


def _queries(table: str, found: dict[str, list[dict[str, str]]]) -> Iterator[str]:
    columns = [each["name"] for each in found["columns"]]
    for one, other in combinations(columns, 2):
        yield f"SELECT {one} FROM {table} WHERE {other} = $1 ORDER BY {one} LIMIT $2;"
        yield f"UPDATE {table} SET {one} = $1 WHERE {other} = $2 RETURNING {one};"
        yield f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM {table} WHERE {one} = $1;"
