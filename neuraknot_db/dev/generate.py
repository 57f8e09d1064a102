"""What is made from the revisions, on scratch databases: the files of `alembic/snapshots/`, `schema.sql`, `docs/`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.database import engine
from neuraknot_db.database.create import scratch_database
from neuraknot_db.dev import ddl, diagram, tables
from neuraknot_db.dev.measure import measure, merged
from neuraknot_db.dev.scratch import Scratch
from neuraknot_db.schema import effects, snapshots
from neuraknot_db.schema.catalog import read_schema
from neuraknot_db.schema.effects import Effects
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)


def generate(config: Config, script: ScriptDirectory, server: Settings) -> dict[Path, str]:
    """Return what each file should hold: the schema after each revision, what its statements do, and the newest as SQL.

    The documents are of the newest revision, in the folder `docs` beside `alembic`; without that folder there are none.

    Args:
        config: Alembic's.
        script: where the revisions are.
        server: any database of the server on which the scratch databases are made, and dropped in the end.

    Raises:
        NeuraknotError: a revision failed, the server refused, or there is no pg_dump.
    """
    wanted = dict(_schemas(config, script, server))
    with scratch_database(server) as where:
        measured = measure(script, where)
        for revision, kept in _kept(script, measured).items():
            found = measured[revision]
            wanted[effects.path_of(script, revision)] = effects.render(revision, merged(kept, found))
            if found.reset:
                log.warning("a reset fails at revision %s, where an upgrade does not: %s", revision, found.reset)
            for way, told in (("upgrade", found.upgrade), ("downgrade", found.downgrade)):
                if told.failure:
                    log.warning("the %s of revision %s was not measured: %s", way, revision, told.failure)
    return wanted


def _kept(script: ScriptDirectory, measured: Mapping[str, Effects]) -> dict[str, Effects | None]:
    """Return what the files hold that still counts: what another server has measured, as long as nothing was edited.

    An upgrade was measured behind those before it, a downgrade behind those that come after as well.
    """
    stored = {revision: effects.read(effects.path_of(script, revision)) for revision in measured}
    edited = {revision for revision, kept in stored.items() if kept and kept.checksum != measured[revision].checksum}
    names = {effects.path_of(script, revision) for revision in measured}
    removed = any(path not in names for path in snapshots.folder(script).glob("*.effects.json"))
    before = False
    for revision, kept in stored.items():
        before = before or kept is None or revision in edited
        if kept:
            found = measured[revision]
            if before:
                kept = replace(kept, upgrade=found.upgrade, reset="")
            if edited or removed:
                kept = replace(kept, downgrade=found.downgrade)
            stored[revision] = kept
    return stored


def _schemas(config: Config, script: ScriptDirectory, server: Settings) -> Iterator[tuple[Path, str]]:
    """Upgrade an empty database through every revision; yield each one's snapshot, oldest first, then the rest."""
    documents = Path(script.dir).parent / "docs"
    revisions = snapshots.revisions(script)
    with scratch_database(server) as where, engine.connect(where) as connection:
        scratch = Scratch(config, where, connection)
        for revision in revisions:
            scratch.migrate("upgrade", revision)
            with engine.connect(where) as reading:
                schema = read_schema(reading)
                yield snapshots.path_of(script, revision), snapshots.render(revision, schema)
                if revision != revisions[-1]:
                    continue
                yield Path(script.dir) / "schema.sql", ddl.render(revision, ddl.dump(where, tls=ddl.over_tls(reading)))
                if documents.is_dir():
                    yield documents / "tables.md", tables.render(revision, schema, tables.read_comments(reading))
                    for suffix in (".svg", ".mmd"):
                        yield documents / f"schema{suffix}", diagram.draw(revision, schema, suffix=suffix)


def stale(script: ScriptDirectory, wanted: Mapping[Path, str]) -> Sequence[Path]:
    """Return the files that must be written, and those of `alembic/snapshots/` that must be removed.

    Args:
        script: where the revisions are.
        wanted: every file that should exist, with its text.
    """
    there = sorted(snapshots.path_of(script, "").parent.glob("*.json"))
    return [
        *(path for path, text in wanted.items() if not path.exists() or path.read_bytes() != text.encode()),
        *(path for path in there if path not in wanted),
    ]


def write(paths: Iterable[Path], wanted: Mapping[Path, str]) -> None:
    """Write or remove the stale files."""
    for path in paths:
        if path in wanted:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
